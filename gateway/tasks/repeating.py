"""Loops that outlive any one mistake: an action again and again, its failures logged."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.errors import GatewayError
from gateway.ports import Clock

Action = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)

_PAUSE_AFTER_FAILURE_S = 1.0


async def attempt(clock: Clock, name: str, action: Action) -> None:
    """Do it once. A failure is logged, and followed by a pause."""
    try:
        await action()
    except GatewayError as error:
        logger.error("%s failed: %s", name, error.internal or error.detail)
        await clock.sleep(_PAUSE_AFTER_FAILURE_S)
    except Exception:  # a loop outlives any one mistake; the next round starts afresh
        logger.exception("%s failed", name)
        await clock.sleep(_PAUSE_AFTER_FAILURE_S)


async def repeat(clock: Clock, name: str, seconds: float, action: Action) -> None:
    """Do it every so many seconds, for ever."""
    while True:
        await clock.sleep(seconds)
        await attempt(clock, name, action)


async def stop(tasks: "list[asyncio.Task[None]]") -> None:
    """Cancel, and wait until all have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done every so many seconds by every process; ``at_end`` also once more when it ends."""

    name: str
    every_s: float
    action: Action
    at_end: bool = False


class Chores:
    """Runs chores beside everything else. Each is safe to run in several processes at once."""

    def __init__(self, clock: Clock, chores: tuple[Chore, ...]) -> None:
        self._clock = clock
        self._chores = chores
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._running = [
            asyncio.create_task(repeat(self._clock, chore.name, chore.every_s, chore.action))
            for chore in self._chores
        ]

    async def end(self) -> None:
        """Stop, and do what must not be left undone."""
        await stop(self._running)
        self._running = []
        for chore in (chore for chore in self._chores if chore.at_end):
            await attempt(self._clock, chore.name, chore.action)
