"""Tenants and their members: every statement about them."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import orjson
import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import members, tenants
from gateway.model import Member, Place, Role, Tenant, TenantStatus

#: Every column that tells of a tenant.
COLUMNS = tuple(field.name for field in fields(Tenant))

_INSERT = sa.insert(tenants)
_UPDATE = sa.update(tenants).where(tenants.c.id == sa.bindparam("of_id"))
_LIST = sa.select(tenants).order_by(tenants.c.created_at_ms, tenants.c.id)
_BY_ID = sa.select(tenants).where(tenants.c.id == sa.bindparam("tenant_id"))
_BY_NAME = sa.select(tenants).where(tenants.c.name == sa.bindparam("name"))
_INSERT_MEMBER = sa.insert(members)
_MEMBER = sa.select(members).where(
    members.c.tenant_id == sa.bindparam("of_tenant"), members.c.email == sa.bindparam("of_email")
)
_LIST_MEMBERS = (
    sa.select(members).where(members.c.tenant_id == sa.bindparam("of_tenant")).order_by(members.c.email)
)
_SET_ROLE = (
    sa.update(members)
    .where(members.c.tenant_id == sa.bindparam("of_tenant"), members.c.email == sa.bindparam("of_email"))
    .values(role=sa.bindparam("new_role"))
)
_DELETE_MEMBER = sa.delete(members).where(
    members.c.tenant_id == sa.bindparam("of_tenant"), members.c.email == sa.bindparam("of_email")
)


def insert_tenant(tx: Tx, tenant: Tenant) -> None:
    tx.execute(_INSERT, _values(tenant))


def update_tenant(tx: Tx, tenant: Tenant) -> None:
    """Write all that may change of a tenant."""
    tx.execute(_UPDATE, {**_values(tenant), "of_id": tenant.id})


def list_tenants(
    tx: Tx, *, after: Place | None = None, limit: int | None = None, name_part: str | None = None
) -> tuple[Tenant, ...]:
    """Oldest first; with ``after`` those that follow it, with ``name_part`` those whose name holds it."""
    statement = _LIST if limit is None else _LIST.limit(limit)
    if after is not None:
        place = sa.tuple_(tenants.c.created_at_ms, tenants.c.id)
        statement = statement.where(place > sa.tuple_(after.at_ms, after.id))
    if name_part is not None:
        statement = statement.where(
            sa.func.lower(tenants.c.name).contains(name_part.lower(), autoescape=True)
        )
    return tuple(tenant_from(row) for row in tx.execute(statement))


def get_tenant(tx: Tx, tenant_id: str) -> Tenant | None:
    row = tx.execute(_BY_ID, {"tenant_id": tenant_id}).one_or_none()
    return tenant_from(row) if row is not None else None


def find_tenant(tx: Tx, name: str) -> Tenant | None:
    row = tx.execute(_BY_NAME, {"name": name}).one_or_none()
    return tenant_from(row) if row is not None else None


def put_member(tx: Tx, member: Member) -> Member | None:
    """Add a person, or change their role; who they were before, if they were a member."""
    before = get_member(tx, member.tenant_id, member.email)
    place = {"of_tenant": member.tenant_id, "of_email": member.email}
    if before is not None:
        tx.execute(_SET_ROLE, {**place, "new_role": member.role.value})
        return before
    tx.execute(
        _INSERT_MEMBER,
        {
            "tenant_id": member.tenant_id,
            "email": member.email,
            "role": member.role.value,
            "created_at_ms": member.created_at_ms,
        },
    )
    return None


def get_member(tx: Tx, tenant_id: str, email: str) -> Member | None:
    row = tx.execute(_MEMBER, {"of_tenant": tenant_id, "of_email": email}).one_or_none()
    return _member(row) if row is not None else None


def list_members(tx: Tx, tenant_id: str) -> tuple[Member, ...]:
    return tuple(_member(row) for row in tx.execute(_LIST_MEMBERS, {"of_tenant": tenant_id}))


def delete_member(tx: Tx, tenant_id: str, email: str) -> None:
    tx.execute(_DELETE_MEMBER, {"of_tenant": tenant_id, "of_email": email})


def tenant_from(row: sa.Row[tuple[object, ...]], prefix: str = "") -> Tenant:
    """A tenant from a row whose columns carry this prefix."""
    values = {name: getattr(row, prefix + name) for name in COLUMNS}
    lists = {
        name: tuple_from(values[name]) for name in ("allowed_models", "allowed_formats", "warn_percents")
    }
    return Tenant(**{**values, **lists, "status": TenantStatus(values["status"])})


def listed(values: Iterable[str | int] | None) -> str | None:
    """A column's JSON list."""
    return None if values is None else orjson.dumps(list(values)).decode()


def tuple_from(text: str | None) -> tuple[Any, ...] | None:
    """What `listed` wrote."""
    return None if text is None else tuple(orjson.loads(text))


def _values(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "status": tenant.status.value,
        "created_at_ms": tenant.created_at_ms,
        "zone": tenant.zone,
        "price_ppm": tenant.price_ppm,
        "rpm": tenant.rpm,
        "max_concurrent": tenant.max_concurrent,
        "max_queued": tenant.max_queued,
        "weight": tenant.weight,
        "allowed_models": listed(tenant.allowed_models),
        "allowed_formats": listed(tenant.allowed_formats),
        "retention_days": tenant.retention_days,
        "start_within_s": tenant.start_within_s,
        "warn_percents": listed(tenant.warn_percents),
    }


def _member(row: sa.Row[tuple[object, ...]]) -> Member:
    return Member(row.tenant_id, row.email, Role(row.role), row.created_at_ms)
