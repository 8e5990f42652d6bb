"""What has waited or been kept too long: found in one look, dealt with in small steps."""

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import in_state, tasks
from gateway.db.tasks import add_event, task_from
from gateway.model import Task, TaskError, TaskState

_now = sa.bindparam("now_ms", type_=sa.BigInteger)
# A task that was run before is for a worker to end: it may have clips.
_waits_too_long = (
    in_state(TaskState.QUEUED),
    tasks.c.deadline_at_ms <= _now,
    tasks.c.started_at_ms.is_(None),
)
_OVERDUE = (
    sa.select(tasks.c.id).where(*_waits_too_long).order_by(tasks.c.tenant_id, tasks.c.tenant_seq)
).limit(sa.bindparam("at_most"))
_EXPIRE = (
    sa.update(tasks)
    .where(tasks.c.id == sa.bindparam("task_id"), *_waits_too_long)
    .values(
        state=TaskState.EXPIRED.value,
        finished_at_ms=_now,
        error_code=sa.bindparam("new_error_code"),
        error_detail=sa.bindparam("new_error_detail"),
    )
    .returning(*tasks.c)
)


def list_overdue(tx: Tx, *, now_ms: int, at_most: int) -> tuple[str, ...]:
    """Tasks that never started and whose time is over."""
    return tuple(tx.execute(_OVERDUE, {"now_ms": now_ms, "at_most": at_most}).scalars())


def expire_waiting(tx: Tx, task_id: str, *, error: TaskError, now_ms: int) -> Task | None:
    """End such a task; None when it was claimed or ended meanwhile."""
    values = {"new_error_code": error.code, "new_error_detail": error.detail}
    row = tx.execute(_EXPIRE, {"task_id": task_id, "now_ms": now_ms, **values}).one_or_none()
    if row is None:
        return None
    add_event(tx, task_id, TaskState.EXPIRED.value, at_ms=now_ms)
    return task_from(row)
