"""Ends what waits too long, and forgets what is old enough. Safe to run in several processes at once."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gateway.db import deliveries, idempotency, sweeps
from gateway.db.engine import Database, Tx
from gateway.db.locks import lock_tenants_of_tasks
from gateway.errors import ErrorCode
from gateway.metrics import Metrics
from gateway.model import Task, TaskError, TaskState
from gateway.ports import Clock
from gateway.tasks import charging
from gateway.tasks.signals import Signals
from gateway.webhooks.outbox import Announcer

#: How long the name of a request is remembered, at least; published in openapi.yaml.
NAMES_KEPT_S = 48 * 3600
#: How long the log of webhooks goes back; published in openapi.yaml.
DELIVERIES_KEPT_S = 30 * 86_400
_AT_ONCE = 100
_TOO_LATE = TaskError(
    ErrorCode.EXPIRED.value, "The task waited longer than it may before a worker was free. Send it again."
)


class Sweeper:
    """Works in small transactions, so that nobody waits for it. Each pass raises `Unavailable`."""

    def __init__(
        self, database: Database, announcer: Announcer, signals: Signals, metrics: Metrics, clock: Clock
    ) -> None:
        self._database = database
        self._announcer = announcer
        self._signals = signals
        self._metrics = metrics
        self._clock = clock

    async def expire_overdue(self) -> None:
        """End the tasks that never started in their time, and give back what was held for them."""
        while True:
            now_ms = self._clock.now_ms()
            ids = await self._database.read(partial(sweeps.list_overdue, now_ms=now_ms, at_most=_AT_ONCE))
            if not ids:
                return
            for task in await self._database.write(partial(self._expire_all, ids, now_ms)):
                self._metrics.task_changed(task.model, TaskState.EXPIRED, task.mode)
                self._signals.ended(task.id, task)

    async def forget_names(self) -> None:
        """Delete the names of requests that are old enough."""
        await self._forget(idempotency.forget_names, NAMES_KEPT_S)

    async def forget_deliveries(self) -> None:
        """Delete the webhooks that ended long ago, with their tries."""
        await self._forget(deliveries.delete_old, DELIVERIES_KEPT_S)

    async def _forget(self, delete: Callable[..., int], kept_s: int) -> None:
        before_ms = self._clock.now_ms() - kept_s * 1000
        step = partial(delete, before_ms=before_ms, at_most=_AT_ONCE)
        while await self._database.write(step) == _AT_ONCE:
            pass

    def _expire_all(self, ids: tuple[str, ...], now_ms: int, tx: Tx) -> list[Task]:
        lock_tenants_of_tasks(tx, ids)
        expired = []
        for task_id in ids:
            task = sweeps.expire_waiting(tx, task_id, error=_TOO_LATE, now_ms=now_ms)
            if task is not None:
                charged_micros = charging.conclude(tx, task, task.state, delivered=0, now_ms=now_ms)
                self._announcer.announce_task(tx, task, clips=0, charged_micros=charged_micros, now_ms=now_ms)
                expired.append(replace(task, charged_micros=charged_micros))
        return expired
