"""Tasks that are wanted no longer: ended wherever they stand, and told apart by those who work on them."""

from collections.abc import Sequence

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import in_state, tasks
from gateway.db.tasks import add_event
from gateway.db.work import lose_attempts
from gateway.model import TaskError, TaskState

_STATE = sa.select(tasks.c.state).where(tasks.c.id == sa.bindparam("of_task")).with_for_update(key_share=True)
_CANCEL = (
    sa.update(tasks)
    .where(tasks.c.id == sa.bindparam("of_task"))
    .values(
        state=TaskState.CANCELED.value,
        finished_at_ms=sa.bindparam("now_ms"),
        lease_token=None,
        lease_expires_at_ms=None,
        error_code=sa.bindparam("new_error_code"),
        error_detail=sa.bindparam("new_error_detail"),
    )
)
_CANCELED = sa.select(tasks.c.id).where(
    tasks.c.id.in_(sa.bindparam("ids", expanding=True)), in_state(TaskState.CANCELED)
)


def lock_state(tx: Tx, task_id: str) -> TaskState:
    """How a task that there is stands, and stands until the transaction ends. Locks the task."""
    return TaskState(tx.execute(_STATE, {"of_task": task_id}).scalar_one())


def cancel(tx: Tx, task_id: str, *, error: TaskError, now_ms: int) -> None:
    """End a task that waits or runs; `lock_state` has told so. Whoever held its lease holds none any more."""
    values = {"new_error_code": error.code, "new_error_detail": error.detail}
    tx.execute(_CANCEL, {"of_task": task_id, "now_ms": now_ms, **values})
    lose_attempts(tx, [task_id], now_ms=now_ms)
    add_event(tx, task_id, TaskState.CANCELED.value, at_ms=now_ms)


def list_canceled(tx: Tx, ids: Sequence[str]) -> tuple[str, ...]:
    """Those of these tasks that were canceled."""
    return tuple(tx.execute(_CANCELED, {"ids": list(ids)}).scalars())
