"""Runs probes: each with an end to its time, in groups that do not wait for each other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.errors import GatewayError
from gateway.findings import Finding, Outcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Probe:
    """``run`` gives what it found; where it raises, what was ``tried`` has failed, and ``advice`` helps."""

    check: str
    tried: str
    advice: str
    run: Callable[[], Awaitable[Finding]]

    def ok(self, found: str) -> Finding:
        return Finding(self.check, Outcome.OK, self.tried, found)

    def failed(self, found: str) -> Finding:
        return Finding(self.check, Outcome.FAILED, self.tried, found, self.advice)


async def run_probes(groups: Sequence[Sequence[Probe]], *, timeout_s: float) -> tuple[Finding, ...]:
    """What was found, in the order of the probes. Those of one group run one after another."""
    found = await asyncio.gather(*(_run_group(group, timeout_s) for group in groups))
    return tuple(finding for group in found for finding in group)


async def _run_group(group: Sequence[Probe], timeout_s: float) -> list[Finding]:
    return [await _run(probe, timeout_s) for probe in group]


async def _run(probe: Probe, timeout_s: float) -> Finding:
    try:
        async with asyncio.timeout(timeout_s):
            return await probe.run()
    except TimeoutError:
        return probe.failed(f"no answer within {timeout_s:g} s")
    except GatewayError as error:
        # What others said may have several lines, and an end of its own.
        because = " ".join((error.internal or "").split()).rstrip(".")
        return probe.failed(error.detail.rstrip(".") + (f" ({because})" if because else ""))
    except OSError as error:
        return probe.failed(f"{type(error).__name__}: {error}")
    # Whatever it is, the other lines are to be read.
    except Exception as error:
        logger.exception("the check of %s broke", probe.check)
        return probe.failed(f"unexpectedly, {type(error).__name__}: {error}")
