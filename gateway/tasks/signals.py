"""Wake-ups: a task has changed, here or in another process; there is work to claim."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from gateway.db.engine import Database
from gateway.model import Task


class Bell(asyncio.Event):
    """Wakes one waiter, and counts how often it was rung."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = 0

    def set(self) -> None:
        self.rung += 1
        super().set()


class Signals:
    """Tells waiters that something changed: how a task ended, or else only a hint to read its row.

    Every change of a task is such a hint, whoever commits it (`Database.listen`): nobody looks now and then.
    """

    def __init__(self, database: Database) -> None:
        self.work = asyncio.Event()
        self.draining = asyncio.Event()
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._ended: dict[str, Task] = {}
        self._held: Counter[str] = Counter()
        database.listen(self._hear)

    def ended(self, task_id: str, task: Task | None = None) -> None:
        """Wake who waits for the task; ``task`` is how it ended, where that is known here."""
        if task is not None and task_id in self._waiters:
            self._ended[task_id] = task
        self._wake(task_id)

    @contextmanager
    def hold(self, task_id: str) -> Iterator[None]:
        """Let hints wait while a task's end is written here: a commit is told of before its writer goes on.

        Who writes it then tells `ended` how it ended, before anybody who waits comes to read it.
        """
        self._held[task_id] += 1
        try:
            yield
        finally:
            self._held[task_id] -= 1
            if not self._held[task_id]:
                del self._held[task_id]
            self._wake(task_id)

    def how_it_ended(self, task_id: str) -> Task | None:
        """What `ended` was told while somebody was watching."""
        return self._ended.get(task_id)

    def drain(self) -> None:
        """Wake everybody: the process is going away."""
        self.draining.set()
        self.work.set()
        for task_id in self._waiters:
            self._wake(task_id)

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

    def _hear(self, touched: frozenset[str] | None) -> None:
        for task_id in self._waiters if touched is None else touched:
            if task_id not in self._held:
                self._wake(task_id)

    def _wake(self, task_id: str) -> None:
        for waiter in self._waiters.get(task_id, ()):
            waiter.set()


class Watch:
    """One waiter for one task; a context manager, so that none is left behind."""

    def __init__(self, signals: Signals, task_id: str) -> None:
        self._signals = signals
        self._task_id = task_id
        self._bell = Bell()

    def __enter__(self) -> Self:
        self._signals.add(self._task_id, self._bell)
        return self

    def __exit__(self, *_: object) -> None:
        self._signals.remove(self._task_id, self._bell)

    def admitted(self) -> None:
        """The task has just come to be: word of that says nothing new, and what came after it does."""
        if self._bell.rung <= 1:
            self._bell.clear()

    async def wait(self, timeout_s: float | None) -> Task | None:
        """Until something happened or the time is up: the task as it ended, or None, and then look again."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._bell.wait()
        except TimeoutError:
            return None
        self._bell.clear()
        return self._signals.how_it_ended(self._task_id)
