"""Ended tasks made into husks: what was said and what was made of it goes, what the ledger stands on stays.

A husk is a row of ``tasks`` with ``deleted_at_ms``. `gateway.db.tasks.get_tasks` does not find it, so to
nobody is it a task any more; usage and `gateway.db.reconciliation` go on counting it, its clips and calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.db import discards
from gateway.db.engine import Tx, touch
from gateway.db.tables import attempts, idempotency, in_state, outputs, task_events, tasks, tenants
from gateway.model import TaskState

_DAY_MS = 86_400_000

_now = sa.bindparam("now_ms", type_=sa.BigInteger)
_ids: sa.BindParameter[str] = sa.bindparam("ids", expanding=True)
_tenant_id: sa.BindParameter[str] = sa.bindparam("of_tenant")

# Along ix_tasks_kept. A tenant without a policy keeps for ever: with null nothing is true.
_kept_long_enough = (
    tasks.c.tenant_id == tenants.c.id,
    tasks.c.deleted_at_ms.is_(None),
    tasks.c.finished_at_ms < _now - sa.cast(tenants.c.retention_days, sa.BigInteger) * _DAY_MS,
)
_TENANTS_DUE = (
    sa.select(tenants.c.id)
    .where(tenants.c.retention_days.is_not(None), sa.exists().where(*_kept_long_enough))
    .order_by(tenants.c.id)
)
_DUE = (
    sa.select(tasks.c.id)
    .join(tenants, tenants.c.id == tasks.c.tenant_id)
    .where(tenants.c.id == _tenant_id, *_kept_long_enough)
    .order_by(tasks.c.finished_at_ms)
    .limit(sa.bindparam("at_most"))
    # What somebody else is wiping this moment is not waited for.
    .with_for_update(key_share=True, skip_locked=True, of=tasks)
)
_LOCK = (
    sa.select(tasks.c.state)
    .where(
        tasks.c.id == sa.bindparam("of_task"),
        tasks.c.tenant_id == _tenant_id,
        tasks.c.deleted_at_ms.is_(None),
    )
    .with_for_update(key_share=True)
)
_WIPE = (
    sa.update(tasks)
    .where(
        tasks.c.id.in_(_ids),
        tasks.c.deleted_at_ms.is_(None),
        sa.not_(in_state(TaskState.QUEUED)),
        sa.not_(in_state(TaskState.RUNNING)),
    )
    .values(
        deleted_at_ms=_now,
        prompt="",
        negative_prompt=None,
        seed=None,
        metadata="{}",
        webhook_url=None,
        request_id="",
        traceparent=None,
        error_detail=None,
    )
    .returning(tasks.c.id)
)
# A model's answer may repeat what it was asked, and its refusal too.
_WIPE_ATTEMPTS = sa.update(attempts).where(attempts.c.task_id.in_(_ids)).values(provider_metadata=None)
_WIPE_OUTPUTS = sa.update(outputs).where(outputs.c.task_id.in_(_ids)).values(seed=None, text=None, steps="[]")
# The name itself goes on being known, so that a late repeat is not run and paid for as something new.
_WIPE_NAMES = sa.update(idempotency).where(idempotency.c.task_id.in_(_ids)).values(fingerprint="")
_DELETE_EVENTS = sa.delete(task_events).where(task_events.c.task_id.in_(_ids))
_OBJECTS = sa.select(outputs.c.object_name).where(outputs.c.task_id.in_(_ids)).order_by(outputs.c.object_name)


@dataclass(frozen=True, slots=True)
class Wiped:
    """Tasks that became husks, and their objects, which are discarded."""

    task_ids: tuple[str, ...] = ()
    object_names: tuple[str, ...] = ()


def list_tenants_due(tx: Tx, *, now_ms: int) -> tuple[str, ...]:
    """Tenants that have tasks which were kept as long as their policy says: one probe each."""
    return tuple(tx.execute(_TENANTS_DUE, {"now_ms": now_ms}).scalars())


def list_due(tx: Tx, tenant_id: str, *, now_ms: int, at_most: int) -> tuple[str, ...]:
    """Tasks of a tenant that were kept as long as its policy says now, the longest kept first. Locks them."""
    return tuple(tx.execute(_DUE, {"of_tenant": tenant_id, "now_ms": now_ms, "at_most": at_most}).scalars())


def lock_task(tx: Tx, tenant_id: str, task_id: str) -> TaskState | None:
    """The state of a tenant's task, which stays so until the transaction ends. None for a husk too."""
    state = tx.execute(_LOCK, {"of_tenant": tenant_id, "of_task": task_id}).scalar_one_or_none()
    return None if state is None else TaskState(state)


def wipe(tx: Tx, ids: Sequence[str], *, now_ms: int) -> Wiped:
    """Make husks of those that have ended and are none yet, and discard their objects.

    What webhooks tell of them is `gateway.db.deliveries.withdraw`'s.
    """
    task_ids = tuple(tx.execute(_WIPE, {"ids": list(ids), "now_ms": now_ms}).scalars())
    if not task_ids:
        return Wiped()
    for task_id in task_ids:
        touch(tx, task_id)
    keys = {"ids": list(task_ids)}
    for statement in (_WIPE_ATTEMPTS, _WIPE_OUTPUTS, _WIPE_NAMES, _DELETE_EVENTS):
        tx.execute(statement, keys)
    names = tuple(tx.execute(_OBJECTS, keys).scalars())
    discards.discard(tx, names, now_ms=now_ms)
    return Wiped(task_ids, names)
