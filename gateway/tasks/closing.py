"""What became of a call and its task, written down: its end, and the task's end or its next turn."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from gateway.db import work
from gateway.db.engine import Database, Tx
from gateway.db.lines import Lane
from gateway.db.locks import lock_tenant
from gateway.db.work import AttemptEnd, Lease
from gateway.errors import Unavailable, UpstreamError
from gateway.metrics import Metrics
from gateway.model import Clip, Task, TaskState
from gateway.ports import Clock
from gateway.tasks import charging
from gateway.tasks.outcome import Again, Finish, Progress, Supply, after_call
from gateway.tasks.pool import Pool, Room
from gateway.tasks.signals import Signals
from gateway.webhooks.outbox import Announcer

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Together well within a lease; each try may itself wait for a lock.
_PATIENCE_S = (0.5, 1.0, 2.0, 4.0, 8.0)


class LeaseLost(Exception):
    """Another worker has the task, or it was canceled. Nothing more may be written for it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that was made, as it is to be recorded, where it went, and what went wrong with it."""

    end: AttemptEnd
    room: Room
    error: UpstreamError | None


class Closing:
    """Writes with the lease held, or not at all: each function raises `LeaseLost`, or `Unavailable`.

    ``jitter`` gives numbers in [0, 1).
    """

    def __init__(
        self,
        database: Database,
        pool: Pool,
        announcer: Announcer,
        signals: Signals,
        metrics: Metrics,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._database = database
        self._pool = pool
        self._announcer = announcer
        self._signals = signals
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter

    async def record(self, lease: Lease, ended: Ended) -> None:
        """Write the end of a call that others of the same lease follow."""
        await self._write(partial(self._record, lease, ended))

    async def add(self, lease: Lease, clips: Sequence[Clip], attempt_id: str) -> None:
        """Write clips that were joined from what several calls gave, the last of them ``attempt_id``."""
        await self._write(partial(self._add, lease, clips, attempt_id))

    async def keep(self, lease: Lease, end: AttemptEnd) -> None:
        """Write what a call that is being given up has stored. Tries once."""
        await self._database.write(lambda tx: self._end_attempt(tx, lease, end))

    async def settle(
        self,
        lease: Lease,
        task: Task,
        progress: Progress,
        reason: UpstreamError | None,
        ended: Ended | None = None,
    ) -> Task:
        """Write the last call's end and the task's next state in one transaction; how that left the task."""

        def write(tx: Tx) -> Task:
            # Money may move, and the order of locks is tenant, then task.
            lock_tenant(tx, task.tenant_id)
            if ended is None:
                self._end_attempt(tx, lease, None)
            else:
                self._record(lease, ended, tx)
            what = after_call(progress, reason, self._jitter(), self._supply(tx, task, ended))
            if isinstance(what, Finish):
                return self._finish(tx, lease, task, what)
            return self._put_back(tx, lease, task, what)

        with self._signals.hold(task.id):
            left = await self._write(write)
        self._metrics.task_changed(left.model, left.state, left.mode)
        return left

    async def _write(self, function: Callable[[Tx], T]) -> T:
        """Write what has been paid for: a database that is unavailable is waited for, a while."""
        for pause_s in _PATIENCE_S:
            try:
                return await self._database.write(function)
            except Unavailable as error:
                logger.warning("what a call gave is not recorded yet: %s", error.internal)
            await self._clock.sleep(pause_s)
        return await self._database.write(function)

    def _record(self, lease: Lease, ended: Ended, tx: Tx) -> None:
        """The end of a call, and what it says of its deployment."""
        self._end_attempt(tx, lease, ended.end)
        name, lane = ended.room.name(test=lease.task.test), lane_of(lease.task)
        self._pool.note(tx, lane, name, ended.error, now_ms=self._clock.now_ms())

    def _add(self, lease: Lease, clips: Sequence[Clip], attempt_id: str, tx: Tx) -> None:
        if not work.holds(tx, lease.task.id, lease.token):
            raise LeaseLost(lease.task.id)
        work.add_clips(tx, lease.task.id, clips, attempt_id=attempt_id, now_ms=self._clock.now_ms())

    def _end_attempt(self, tx: Tx, lease: Lease, end: AttemptEnd | None) -> None:
        if not work.holds(tx, lease.task.id, lease.token):
            raise LeaseLost(lease.task.id)
        if end is not None:
            work.end_attempt(tx, lease.task.id, end, now_ms=self._clock.now_ms())

    def _supply(self, tx: Tx, task: Task, ended: Ended | None) -> Supply:
        lane = lane_of(task)
        wait_s = self._pool.wait_s(tx, lane, now_ms=self._clock.now_ms())
        # What stood in the way of a call was no deployment's, so another is no way round it.
        another = ended is not None and self._pool.has_another(tx, lane, ended.room.name(test=task.test))
        return Supply(wait_s, another)

    def _finish(self, tx: Tx, lease: Lease, task: Task, what: Finish) -> Task:
        now_ms = self._clock.now_ms()
        work.finish(tx, task.id, token=lease.token, state=what.state, error=what.error, now_ms=now_ms)
        delivered = work.count_clips(tx, task.id)
        charged_micros = charging.conclude(tx, lease.task, what.state, delivered=delivered, now_ms=now_ms)
        ended = replace(
            task, state=what.state, error=what.error, finished_at_ms=now_ms, charged_micros=charged_micros
        )
        self._announcer.announce_task(
            tx, ended, clips=delivered, charged_micros=charged_micros, now_ms=now_ms
        )
        return ended

    def _put_back(self, tx: Tx, lease: Lease, task: Task, what: Again) -> Task:
        now_ms = self._clock.now_ms()
        work.requeue(
            tx,
            task.id,
            token=lease.token,
            not_before_ms=now_ms + round(what.delay_s * 1000),
            reason=what.reason,
            now_ms=now_ms,
        )
        return replace(task, state=TaskState.QUEUED)


def lane_of(task: Task) -> Lane:
    return Lane(task.model, task.test)
