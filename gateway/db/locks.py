"""Who goes first. SQLite has one writer, so there everybody is alone and none of this does anything.

PostgreSQL runs transactions side by side, each statement on what was committed before it. What was read
stays true until the commit only where it was locked first. **There is one order: tenant, claims, tasks.** A
transaction that follows it waits for others and never in a circle; one that does not is found out by
PostgreSQL after a second, undone and run again, which is right but slow.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from gateway.db.engine import Tx, has_one_writer
from gateway.db.prepared import Prepared
from gateway.db.tables import api_keys, tasks, tenants

_LOCKED = "locked"
# NO KEY UPDATE: rows that merely refer to the tenant may be added meanwhile.
_LOCK_TENANT = Prepared(
    sa.select(tenants.c.id).where(tenants.c.id == sa.bindparam("tenant_id")).with_for_update(key_share=True)
)
# Not the key's own row: when it was used last is written without any lock.
_LOCK_TENANT_OF_KEY = Prepared(
    sa.select(tenants.c.id)
    .join(api_keys, api_keys.c.tenant_id == tenants.c.id)
    .where(api_keys.c.id == sa.bindparam("key_id"))
    .with_for_update(key_share=True, of=tenants)
)
_of_tasks = sa.select(tasks.c.tenant_id).where(tasks.c.id.in_(sa.bindparam("ids", expanding=True)))
# Whoever locks several takes them in the same order.
_LOCK_TENANTS_OF_TASKS = (
    sa.select(tenants.c.id)
    .where(tenants.c.id.in_(_of_tasks))
    .order_by(tenants.c.id)
    .with_for_update(key_share=True)
)
# Any number will do that is nobody else's in this database: "claims" in ASCII.
_LOCK_CLAIMS = Prepared(sa.select(sa.func.pg_advisory_xact_lock(0x636C61696D73).label("locked")))


def lock_tenant(tx: Tx, tenant_id: str) -> None:
    """Let nobody else admit for this tenant, move its money, or change it or its keys, until the end."""
    if has_one_writer(tx):
        return
    locked: set[str] = tx.info.setdefault(_LOCKED, set())
    if tenant_id not in locked:
        _LOCK_TENANT.all(tx, {"tenant_id": tenant_id})
        locked.add(tenant_id)


def lock_tenant_of_key(tx: Tx, key_id: str) -> None:
    """As `lock_tenant`, by a key of the tenant's."""
    if has_one_writer(tx):
        return
    found = _LOCK_TENANT_OF_KEY.one_or_none(tx, {"key_id": key_id})
    if found is not None:
        tx.info.setdefault(_LOCKED, set()).add(found.id)


def lock_tenants_of_tasks(tx: Tx, ids: Sequence[str]) -> None:
    """As `lock_tenant`, for all tenants of these tasks."""
    if not has_one_writer(tx):
        found = tx.execute(_LOCK_TENANTS_OF_TASKS, {"ids": list(ids)}).scalars()
        tx.info.setdefault(_LOCKED, set()).update(found)


def lock_claims(tx: Tx) -> None:
    """Let nobody else take a task until this transaction ends.

    Whose turn it is and whether a tenant may run one more depend on what all tenants run, so claims are made
    one after another. One lock is all it takes, and it cannot be left behind; a claim holds it for a few
    milliseconds and brings seconds of work.
    """
    if not has_one_writer(tx):
        _LOCK_CLAIMS.all(tx, {})


def forget_locks(tx: Tx) -> None:
    """For a connection's next transaction: the last one's locks went with it."""
    tx.info.pop(_LOCKED, None)
