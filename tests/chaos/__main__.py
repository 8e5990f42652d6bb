"""The long form of chaos: ``make soak``, or ``python -m tests.chaos [--seed N] [--tasks N] [--tenants N]``.

What it is given is printed first, so that a run can be repeated: with one seed the same callers ask the same
things and the same harm is done in the same order, though not at the same moments.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.chaos.scale import LONG, Scale
from tests.chaos.scenario import run
from tests.emulator import start_emulator
from tests.postgres import start_postgres


def main() -> None:
    scale = _options()
    print(
        scale, f"again: make soak SOAK='{' '.join(sys.argv[1:])} --seed {scale.seed}'", sep="\n", flush=True
    )
    began_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as directory,
        start_emulator() as emulator,
        start_postgres() as server,
    ):
        outcome = asyncio.run(run(scale, Path(directory), server, emulator))
    print(f"{time.monotonic() - began_s:.0f} s")
    for what, counts in (
        ("tasks", outcome.states),
        ("answers", outcome.answers),
        ("harm", outcome.harm),
    ):
        print(f"{what}: {', '.join(f'{count} {name}' for name, count in sorted(counts.items()))}")
    for fault in outcome.faults:
        print(f"FAULT: {fault}")
    sys.exit(bool(outcome.faults))


def _options() -> Scale:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break everything, then count."
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--tasks", type=int, default=LONG.tasks)
    parser.add_argument("--tenants", type=int, default=LONG.tenants)
    parser.add_argument("--callers", type=int, default=LONG.callers)
    parser.add_argument("--harm-every-s", type=float, default=LONG.harm_every_s)
    parser.add_argument("--database-away-s", type=float, default=LONG.database_away_s)
    parser.add_argument("--limit-s", type=float, default=LONG.limit_s)
    return replace(LONG, **vars(parser.parse_args()))


if __name__ == "__main__":
    main()
