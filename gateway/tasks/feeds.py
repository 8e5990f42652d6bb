"""Tasks as they go on, for many listeners: one that changes is read once for all who listen to it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from gateway.db import archive, tasks
from gateway.db.archive import Event
from gateway.db.batching import BatchReader
from gateway.db.engine import Database, Tx
from gateway.errors import GatewayError
from gateway.model import Task, TaskState
from gateway.ports import Clock
from gateway.tasks.forecast import QueuePlace
from gateway.tasks.queueview import QueueView
from gateway.tasks.signals import Signals
from gateway.tasks.snapshots import Snapshot

__all__ = ["Chronicle", "Event", "Feeds", "Listener"]

logger = logging.getLogger(__name__)

# Others' tasks move a place, and nothing tells of that: so often it is asked for, once for all listeners.
_PLACE_EVERY_S = 2.0
_PAUSE_AFTER_FAILURE_S = 1.0


@dataclass(frozen=True, slots=True)
class Chronicle:
    """A task and what happened to it, of one moment; ``place`` is where it stands if it waits.

    Whoever renders it for many may keep what they share in ``rendered``.
    """

    snapshot: Snapshot
    events: tuple[Event, ...]
    place: QueuePlace | None = None
    rendered: dict[Hashable, tuple[int, asyncio.Future[bytes]]] = field(default_factory=dict, compare=False)

    @property
    def task(self) -> Task:
        return self.snapshot.task

    @property
    def newest(self) -> int:
        """The number of the last event. Those of one task only grow: its changes wait for each other."""
        return self.events[-1].id if self.events else 0

    def after(self, seen: int) -> tuple[Event, ...]:
        """What happened after this event; all of it where there is no such event of this task."""
        numbers = [event.id for event in self.events]
        return self.events[numbers.index(seen) + 1 :] if seen in numbers else self.events

    def says_more_than(self, other: "Chronicle | None") -> bool:
        return other is None or (self.newest, self.position) != (other.newest, other.position)

    @property
    def position(self) -> int | None:
        return self.place.position if self.place else None


class _Feed:
    """One task, followed for everybody who listens to it here. It is ``over`` when no more will come."""

    def __init__(self, follow: Callable[["_Feed"], Awaitable[None]]) -> None:
        self.chronicle: Chronicle | None = None
        self.over = False
        self.listeners: set[Listener] = set()
        self.following = asyncio.ensure_future(follow(self))
        self.following.add_done_callback(self._end)

    def tell(self, chronicle: Chronicle) -> None:
        if chronicle.says_more_than(self.chronicle):
            self.chronicle = chronicle
            self._wake()

    def _end(self, following: "asyncio.Future[None]") -> None:
        self.over = True
        if not following.cancelled() and (mistake := following.exception()) is not None:
            logger.error("a task is no longer followed", exc_info=mistake)
        self._wake()

    def _wake(self) -> None:
        for listener in self.listeners:
            listener.wake()


class Listener:
    """Somebody who hears of one task."""

    __slots__ = ("_bell", "_feed")

    def __init__(self, feed: _Feed) -> None:
        self._feed = feed
        self._bell = asyncio.Event()

    @property
    def chronicle(self) -> Chronicle | None:
        """The task as it is; None until it was read."""
        return self._feed.chronicle

    @property
    def over(self) -> bool:
        """Nothing will be added to the chronicle: the task has ended, or this process is going away."""
        return self._feed.over

    def wake(self) -> None:
        self._bell.set()

    async def wait(self, timeout_s: float) -> bool:
        """Until there is more or somebody calls `wake`; False when the time was up before."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._bell.wait()
        except TimeoutError:
            return False
        self._bell.clear()
        return True


class Feeds:
    """The tasks that are listened to in this process. Without a ``view`` nobody is told of places."""

    def __init__(
        self, database: Database, signals: Signals, clock: Clock, view: QueueView | None = None
    ) -> None:
        self._rows = BatchReader(database, _read)
        self._signals = signals
        self._clock = clock
        self._view = view
        self._feeds: dict[str, _Feed] = {}

    async def read(self, task_id: str) -> Chronicle | None:
        """The task as it is now, but for its place. Raises `Unavailable`."""
        return await self._rows.get(task_id)

    @contextmanager
    def listen(self, task_id: str) -> Iterator[Listener]:
        """Hear of the task. Whoever leaves last takes along all that was kept for it."""
        feed = self._feeds.get(task_id)
        if feed is None or feed.over:
            feed = self._feeds[task_id] = _Feed(lambda feed: self._follow(task_id, feed))
        listener = Listener(feed)
        feed.listeners.add(listener)
        try:
            yield listener
        finally:
            feed.listeners.discard(listener)
            if not feed.listeners:
                feed.following.cancel()
                if self._feeds.get(task_id) is feed:
                    del self._feeds[task_id]

    async def _follow(self, task_id: str, feed: _Feed) -> None:
        with self._signals.watch(task_id) as watch:
            while True:
                try:
                    chronicle = await self._look(task_id)
                except GatewayError:
                    # The database has said it to the log, once for all who asked.
                    if self._signals.draining.is_set():
                        return
                    await self._clock.sleep(_PAUSE_AFTER_FAILURE_S)
                    continue
                if chronicle is None:
                    return
                feed.tell(chronicle)
                if chronicle.task.state.terminal or self._signals.draining.is_set():
                    return
                await watch.wait(_PLACE_EVERY_S if chronicle.place else None)

    async def _look(self, task_id: str) -> Chronicle | None:
        chronicle = await self.read(task_id)
        if self._view is None or chronicle is None or chronicle.task.state is not TaskState.QUEUED:
            return chronicle
        return replace(chronicle, place=await self._view.place(chronicle.task))


def _read(tx: Tx, ids: Iterable[str]) -> dict[str, Chronicle]:
    ids = list(ids)
    events = archive.list_events_of(tx, ids)
    return {
        task_id: Chronicle(Snapshot(task), tuple(events.get(task_id, ())))
        for task_id, task in tasks.get_tasks(tx, ids).items()
    }
