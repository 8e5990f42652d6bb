"""Names that callers gave their requests, and the task that came of each."""

from dataclasses import dataclass

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.prepared import Prepared
from gateway.db.tables import idempotency

_FIND = Prepared(
    sa.select(idempotency.c.task_id, idempotency.c.fingerprint).where(
        idempotency.c.tenant_id == sa.bindparam("of_tenant"),
        idempotency.c.name_sha256 == sa.bindparam("of_name"),
    )
)
_INSERT = Prepared(sa.insert(idempotency))
_OLD = (
    sa.select(idempotency.c.tenant_id, idempotency.c.name_sha256)
    .where(idempotency.c.created_at_ms < sa.bindparam("before_ms"))
    .order_by(idempotency.c.created_at_ms)
    .limit(sa.bindparam("at_most"))
)
_DELETE = sa.delete(idempotency).where(
    idempotency.c.tenant_id == sa.bindparam("of_tenant"), idempotency.c.name_sha256 == sa.bindparam("of_name")
)


@dataclass(frozen=True, slots=True)
class RequestName:
    """A request's name, of which only the hash is kept, and what it asked for, as a hash too."""

    name_sha256: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class NamedTask:
    task_id: str
    fingerprint: str


def find_named(tx: Tx, tenant_id: str, name: RequestName) -> NamedTask | None:
    row = _FIND.one_or_none(tx, {"of_tenant": tenant_id, "of_name": name.name_sha256})
    return None if row is None else NamedTask(row.task_id, row.fingerprint)


def keep_name(tx: Tx, tenant_id: str, name: RequestName, *, task_id: str, now_ms: int) -> None:
    """Bind a name to its task, in the transaction that admits it."""
    _INSERT.run(
        tx,
        {
            "tenant_id": tenant_id,
            "name_sha256": name.name_sha256,
            "fingerprint": name.fingerprint,
            "task_id": task_id,
            "created_at_ms": now_ms,
        },
    )


def forget_names(tx: Tx, *, before_ms: int, at_most: int) -> int:
    """Delete the oldest names from before a moment, a bounded number of them; how many they were."""
    rows = tx.execute(_OLD, {"before_ms": before_ms, "at_most": at_most}).all()
    if rows:
        tx.execute(_DELETE, [{"of_tenant": row.tenant_id, "of_name": row.name_sha256} for row in rows])
    return len(rows)
