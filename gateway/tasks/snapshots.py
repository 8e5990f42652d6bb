"""Tasks as they are, remembered until they change.

A caller polls every second or two a task that changes twice in a minute. What was read stays good until the
database says that the task changed, so a poll in between costs no query; nothing here ever goes stale by
itself. (`gateway.db.engine.Database.listen` tells when.)
"""

from collections import OrderedDict

from gateway.db import tasks
from gateway.db.batching import BatchReader
from gateway.db.engine import Database
from gateway.model import Task

_LIMIT = 4096


class Snapshot:
    """A task, and what was made of it: ``rendered`` may be kept here by whoever renders it."""

    __slots__ = ("rendered", "rendered_until_ms", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.rendered = b""
        self.rendered_until_ms = 0


class Snapshots:
    """The tasks that were asked for last, at most 4,096 of them."""

    def __init__(self, database: Database) -> None:
        self._rows = BatchReader(database, tasks.get_tasks)
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()
        # Counts changes, so that a row read before a change is not kept after it.
        self._changes = 0
        database.listen(self._forget)

    async def get(self, task_id: str) -> Snapshot | None:
        """The task as it is now, or None. Raises `Unavailable`."""
        kept = self._kept.get(task_id)
        if kept is not None:
            return kept
        changes = self._changes
        task = await self._rows.get(task_id)
        if task is None:
            return None
        snapshot = Snapshot(task)
        if changes == self._changes:
            self._kept[task_id] = snapshot
            if len(self._kept) > _LIMIT:
                self._kept.popitem(last=False)
        return snapshot

    def _forget(self, touched: frozenset[str] | None) -> None:
        self._changes += 1
        if touched is None:
            self._kept.clear()
        else:
            for task_id in touched:
                self._kept.pop(task_id, None)
