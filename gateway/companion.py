"""The emulator as a process beside ours: started, asked where it listens, and ended with us.

It stays a stranger: its code is never imported here, it is reached over HTTP alone. It ends by itself when
the other end of its standard input is gone, so no end of ours, SIGKILL included, leaves it behind.
"""

import asyncio
import contextlib
import logging
import math
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.errors import AttemptFault, ConfigurationError, ErrorCode, UpstreamError
from gateway.ports import Clock

logger = logging.getLogger(__name__)

_START_S = 30.0
_STOP_S = 5.0
_SHORTEST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
# So long after a start, its end says nothing about the next one.
_FORGIVEN_AFTER_S = 10 * _LONGEST_PAUSE_S


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running one. ``url`` has no slash at its end."""

    process: asyncio.subprocess.Process
    url: str

    @property
    def ended(self) -> bool:
        return self.process.returncode is not None

    async def stop(self) -> None:
        """Let it answer who still asks, for a moment."""
        await _stop(self.process)

    async def kill(self) -> None:
        await _kill(self.process)


async def start_emulator(*options: str) -> Emulator:
    """Start one on a free loopback port; ``options`` are further words for its command line.

    Raises `ConfigurationError` when it does not come up; its own message goes to our standard error.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.emulator.server", "--port", "0", "--watch-parent", *options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C reaches the whole process group: the emulator has to outlive what still runs on it.
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ConfigurationError(f"The emulator cannot be started: {error}.") from error
    async with contextlib.AsyncExitStack() as unless_up:
        unless_up.push_async_callback(_kill, process)
        url = await _announced_url(process)
        unless_up.pop_all()
    return Emulator(process, url)


async def _announced_url(process: asyncio.subprocess.Process) -> str:
    if process.stdout is None:  # pragma: no cover - it was asked for
        raise ConfigurationError("The emulator has no output.")
    try:
        async with asyncio.timeout(_START_S):
            line = (await process.stdout.readline()).decode()
    except TimeoutError:
        line = ""
    if " on http" not in line:
        raise ConfigurationError("The emulator did not start; its own message is above.")
    return line.rsplit(maxsplit=1)[1]


async def _stop(process: asyncio.subprocess.Process) -> None:
    """The end of its standard input tells it to stop; it is killed if it does not listen."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """At once: it keeps nothing that could be lost."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _start_frugal_one() -> Emulator:
    return await start_emulator("--frugal")


class Companion:
    """An emulator of this process's own, started when it is first needed and again when it has ended.

    Starts lie at least 1, 2, 4 … 60 seconds apart, counted anew after ten minutes, and only a call that needs
    the emulator starts it: one that cannot run is not tried for ever.
    """

    def __init__(self, clock: Clock, start: Callable[[], Awaitable[Emulator]] = _start_frugal_one) -> None:
        self._clock = clock
        self._start = start
        self._current: asyncio.Task[Emulator] | None = None
        self._started_at_s = -math.inf
        self._pause_s = 0.0
        self._closed = False

    async def url(self) -> str:
        """Where it listens, once it does. Raises `UpstreamError` (NOT_SENT) when it cannot be had now."""
        if self._current is None or _is_over(self._current):
            self._count_start()
            self._current = asyncio.create_task(self._run())
        try:
            # Shielded: who is told to stop waiting must not take it from the others that wait.
            return (await asyncio.shield(self._current)).url
        except ConfigurationError as error:
            raise _absent(error.detail) from error

    async def close(self) -> None:
        """End it at once, since nobody is left to ask. It is not started again."""
        self._closed = True
        current, self._current = self._current, None
        if current is None:
            return
        current.cancel()
        await asyncio.wait([current])
        if not current.cancelled() and current.exception() is None:
            await current.result().kill()

    async def _run(self) -> Emulator:
        emulator = await self._start()
        logger.info("the emulator for test keys is up", extra={"address": emulator.url})
        return emulator

    def _count_start(self) -> None:
        """Raises `UpstreamError` when there may not be another now."""
        if self._closed:
            raise _absent("the gateway is stopping")
        now_s = self._clock.monotonic_s()
        since_s = now_s - self._started_at_s
        if since_s < self._pause_s:
            raise _absent("it has ended too often to be started at once", self._pause_s - since_s)
        if self._current is not None:
            logger.warning("the emulator for test keys has ended; another is started")
        if not self._pause_s or since_s >= _FORGIVEN_AFTER_S:
            self._pause_s = _SHORTEST_PAUSE_S
        else:
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
        self._started_at_s = now_s


def _is_over(starting: asyncio.Task[Emulator]) -> bool:
    """Whether it did not come up, or has ended since."""
    return starting.done() and (starting.exception() is not None or starting.result().ended)


def _absent(cause: str, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError(
        "The emulator that serves test keys is not running just now. Try again later.",
        code=ErrorCode.MODEL_UNAVAILABLE,
        fault=AttemptFault.NOT_SENT,
        internal=f"no emulator for test keys: {cause}",
        retry_after_s=retry_after_s,
    )
