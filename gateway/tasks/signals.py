"""Wake-ups inside the process: a task has ended; there is work to claim."""

import asyncio
from collections import defaultdict
from typing import Self


class Signals:
    """Tells waiters that something changed. A wake-up is a hint: whoever wakes reads the row."""

    def __init__(self) -> None:
        self.work = asyncio.Event()
        self.draining = asyncio.Event()
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)

    def ended(self, task_id: str) -> None:
        for waiter in self._waiters.get(task_id, ()):
            waiter.set()

    def drain(self) -> None:
        """Wake everybody: the process is going away."""
        self.draining.set()
        self.work.set()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.set()

    def watch(self, task_id: str) -> "Watch":
        return Watch(self, task_id)

    def add(self, task_id: str, waiter: asyncio.Event) -> None:
        self._waiters[task_id].add(waiter)

    def remove(self, task_id: str, waiter: asyncio.Event) -> None:
        waiters = self._waiters[task_id]
        waiters.discard(waiter)
        if not waiters:
            del self._waiters[task_id]


class Watch:
    """One waiter for one task; a context manager, so that none is left behind."""

    def __init__(self, signals: Signals, task_id: str) -> None:
        self._signals = signals
        self._task_id = task_id
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        self._signals.add(self._task_id, self._event)
        return self

    def __exit__(self, *_: object) -> None:
        self._signals.remove(self._task_id, self._event)

    async def wait(self, timeout_s: float) -> None:
        """Until something happened, or the time is up; either way, look again."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return
        self._event.clear()
