"""Cancels tasks: in one transaction whoever asks, and at once for whoever works on them or waits for them."""

from dataclasses import dataclass
from functools import partial

from gateway.db import audit, cancels, tasks, work
from gateway.db.engine import Database, Tx
from gateway.db.locks import lock_tenant
from gateway.errors import Conflict, ErrorCode
from gateway.metrics import Metrics
from gateway.model import Act, Principal, Task, TaskError, TaskState
from gateway.ports import Clock
from gateway.tasks import charging
from gateway.tasks.archive import no_task
from gateway.tasks.budget import CancelCharge, charge_for_canceled
from gateway.tasks.runner import Runner
from gateway.tasks.service import not_yours
from gateway.tasks.signals import Signals
from gateway.webhooks.outbox import Announcer

_CANCELED = TaskError(ErrorCode.CANCELED.value, "The task was canceled.")


@dataclass(frozen=True, slots=True)
class _Canceled:
    """The task as it is now, and whether it was canceled here or had been before."""

    task: Task
    anew: bool


class Canceler:
    """A task that was canceled stays so: to cancel it again changes nothing, and is no error.

    Raises `NotFound`, `Conflict` for a task that ended otherwise, and `Unavailable`.
    """

    def __init__(
        self,
        database: Database,
        announcer: Announcer,
        runner: Runner,
        signals: Signals,
        metrics: Metrics,
        clock: Clock,
        charge: CancelCharge,
    ) -> None:
        self._database = database
        self._announcer = announcer
        self._runner = runner
        self._signals = signals
        self._metrics = metrics
        self._clock = clock
        self._charge = charge

    async def cancel(self, principal: Principal, task_id: str) -> Task:
        """A task of the caller's own tenant, whichever of its keys asked for it."""
        return await self._cancel(task_id, principal.tenant_id, None)

    async def cancel_any(self, act: Act, task_id: str) -> Task:
        """Anybody's, with an entry in the audit log."""
        return await self._cancel(task_id, None, act)

    async def _cancel(self, task_id: str, tenant_id: str | None, act: Act | None) -> Task:
        with self._signals.hold(task_id):
            canceled = await self._database.write(partial(self._write, task_id, tenant_id, act))
            task = canceled.task
            if canceled.anew:
                self._metrics.task_changed(task.model, task.state, task.mode)
                self._runner.abort(task.id)
                self._signals.ended(task.id, task)
        return task

    def _write(self, task_id: str, tenant_id: str | None, act: Act | None, tx: Tx) -> _Canceled:
        task = _find(tx, task_id, tenant_id)
        lock_tenant(tx, task.tenant_id)
        before = cancels.lock_state(tx, task_id)
        if before is TaskState.CANCELED:
            return _Canceled(_find(tx, task_id, tenant_id), anew=False)
        if before.terminal:
            raise Conflict(f"This task is {before.value} already; only one that waits or runs is canceled.")
        return _Canceled(self._end(tx, task, before, act), anew=True)

    def _end(self, tx: Tx, task: Task, before: TaskState, act: Act | None) -> Task:
        now_ms = self._clock.now_ms()
        cancels.cancel(tx, task.id, error=_CANCELED, now_ms=now_ms)
        charged_micros = charge_for_canceled(
            task,
            self._charge,
            delivered=work.count_clips(tx, task.id),
            under_way=before is TaskState.RUNNING and work.count_spent(tx, task.id) > 0,
        )
        charging.conclude_canceled(tx, task, charged_micros, now_ms=now_ms)
        # Not as it was found: it may have been worked on until it was locked.
        ended = _find(tx, task.id, None)
        self._announcer.announce_task(
            tx, ended, clips=len(ended.clips), charged_micros=charged_micros, now_ms=now_ms
        )
        if act is not None:
            audit.record(
                tx,
                act,
                "task.cancel",
                tenant_id=task.tenant_id,
                target=task.id,
                before={"status": before.value, "charged_micros": None},
                after={"status": ended.state.value, "charged_micros": charged_micros},
                at_ms=now_ms,
            )
        return ended


def _find(tx: Tx, task_id: str, tenant_id: str | None) -> Task:
    """Anybody's where no tenant is named. Raises `NotFound`."""
    task = tasks.get_tasks(tx, [task_id]).get(task_id)
    if tenant_id is None:
        if task is None:
            raise no_task(task_id)
    elif task is None or task.tenant_id != tenant_id:
        raise not_yours()
    return task
