"""What has waited or been kept too long: found in one look, dealt with in small steps."""

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import in_state, tasks
from gateway.db.tasks import add_event, task_from
from gateway.model import Task, TaskError, TaskState

_now = sa.bindparam("now_ms", type_=sa.BigInteger)
# A task that was run before is for a worker to end: it may have clips.
_never_ran = (in_state(TaskState.QUEUED), tasks.c.started_at_ms.is_(None))
_MOMENTS = (tasks.c.deadline_at_ms, tasks.c.start_by_at_ms)
# One look for each moment, along its own index; the two in one would go through all that waits.
_OVERDUE = tuple(
    sa.select(tasks.c.id).where(*_never_ran, moment <= _now).order_by(moment).limit(sa.bindparam("at_most"))
    for moment in _MOMENTS
)
_EXPIRE = (
    sa.update(tasks)
    .where(
        tasks.c.id == sa.bindparam("task_id"),
        *_never_ran,
        sa.or_(*(moment <= _now for moment in _MOMENTS)),
    )
    .values(
        state=TaskState.EXPIRED.value,
        finished_at_ms=_now,
        error_code=sa.bindparam("new_error_code"),
        error_detail=sa.bindparam("new_error_detail"),
    )
    .returning(*tasks.c)
)


def list_overdue(tx: Tx, *, now_ms: int, at_most: int) -> tuple[str, ...]:
    """Tasks that never started and whose time is over: the whole of it, or that to be started in."""
    values = {"now_ms": now_ms, "at_most": at_most}
    found = [task_id for statement in _OVERDUE for task_id in tx.execute(statement, values).scalars()]
    return tuple(dict.fromkeys(found))[:at_most]


def expire_waiting(tx: Tx, task_id: str, *, error: TaskError, now_ms: int) -> Task | None:
    """End such a task; None when it was claimed or ended meanwhile."""
    values = {"new_error_code": error.code, "new_error_detail": error.detail}
    row = tx.execute(_EXPIRE, {"task_id": task_id, "now_ms": now_ms, **values}).one_or_none()
    if row is None:
        return None
    add_event(tx, task_id, TaskState.EXPIRED.value, at_ms=now_ms)
    return task_from(row)
