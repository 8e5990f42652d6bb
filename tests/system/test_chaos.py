"""Three gateways behind a balancer, while processes die, connections break and the provider fails."""

from pathlib import Path

import pytest

from tests.chaos.scale import SHORT
from tests.chaos.scenario import run
from tests.emulator import RunningEmulator
from tests.postgres import Server


@pytest.mark.slow
async def test_nothing_is_lost_doubled_or_miscounted_whatever_breaks(
    tmp_path: Path, emulator: RunningEmulator, postgres_server: Server
) -> None:
    """Each accepted task ends, as told; paid calls are those recorded; no budget is passed at any moment."""
    outcome = await run(SHORT, tmp_path, postgres_server, emulator)
    assert outcome.faults == []
    # Or it would have shown nothing.
    assert set(outcome.harm) >= {"killed", "connections cut", "faults", "rotated"}
    assert outcome.states["succeeded"] > SHORT.tasks / 2
