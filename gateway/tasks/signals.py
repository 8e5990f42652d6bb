"""Wake-ups inside the process: a task has ended; there is work to claim."""

import asyncio
from collections import defaultdict
from typing import Self

from gateway.model import Task


class Signals:
    """Tells waiters that something changed: how a task ended, or else only a hint to read its row."""

    def __init__(self) -> None:
        self.work = asyncio.Event()
        self.draining = asyncio.Event()
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._ended: dict[str, Task] = {}

    def ended(self, task_id: str, task: Task | None = None) -> None:
        """Wake who waits for the task; ``task`` is how it ended, where that is known here."""
        waiters = self._waiters.get(task_id, ())
        if waiters and task is not None:
            self._ended[task_id] = task
        for waiter in waiters:
            waiter.set()

    def how_it_ended(self, task_id: str) -> Task | None:
        """What `ended` was told while somebody was watching."""
        return self._ended.get(task_id)

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
            self._ended.pop(task_id, None)


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

    async def wait(self, timeout_s: float) -> Task | None:
        """Until something happened or the time is up: the task as it ended, or None, and then look again."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return None
        self._event.clear()
        return self._signals.how_it_ended(self._task_id)
