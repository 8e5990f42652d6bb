"""Tenants and keys: every statement about them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.locks import lock_tenant_of_key
from gateway.db.prepared import Prepared
from gateway.db.tables import api_keys, budgets, retired_secrets, tenants
from gateway.model import (
    ApiKey,
    BudgetWindow,
    KeyMode,
    RetiredSecret,
    Scope,
    Tenant,
    TenantStatus,
)

_KEYS_BY_ID = (
    sa.select(api_keys, tenants.c.status.label("tenant_status"))
    .join(tenants, tenants.c.id == api_keys.c.tenant_id)
    .where(api_keys.c.id.in_(sa.bindparam("ids", expanding=True)))
)
_RETIRED = sa.select(retired_secrets).where(retired_secrets.c.key_id.in_(sa.bindparam("ids", expanding=True)))
_CALLER = Prepared(
    sa.select(
        api_keys,
        *(column.label(f"its_{column.name}") for column in tenants.c),
        *(
            sa.select(budgets.c.limit_micros)
            .where(budgets.c.tenant_id == tenants.c.id, budgets.c.window == window.value)
            .scalar_subquery()
            .label(f"budget_{window.value}")
            for window in BudgetWindow
        ),
    )
    .join(tenants, tenants.c.id == api_keys.c.tenant_id)
    .where(api_keys.c.id == sa.bindparam("key_id"))
)
_TENANT_COLUMNS = tuple(column.name for column in tenants.c)
_KEY_COLUMNS = tuple(column.name for column in api_keys.c)
_INSERT_TENANT = sa.insert(tenants)
_INSERT_KEY = sa.insert(api_keys)
_RETIRE = sa.insert(retired_secrets)
_LIST_TENANTS = sa.select(tenants).order_by(tenants.c.created_at_ms, tenants.c.id)
_TENANT = sa.select(tenants).where(tenants.c.id == sa.bindparam("tenant_id"))
_TENANT_BY_NAME = sa.select(tenants).where(tenants.c.name == sa.bindparam("name"))
_LIST_KEYS = sa.select(api_keys).order_by(api_keys.c.created_at_ms, api_keys.c.id)
_REVOKE_KEY = (
    sa.update(api_keys)
    .where(api_keys.c.id == sa.bindparam("key_id"), api_keys.c.revoked_at_ms.is_(None))
    .values(revoked_at_ms=sa.bindparam("now_ms"))
)


def insert_tenant(tx: Tx, tenant: Tenant) -> None:
    tx.execute(
        _INSERT_TENANT,
        {
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
            "allowed_models": _listed(tenant.allowed_models),
            "allowed_formats": _listed(tenant.allowed_formats),
            "retention_days": tenant.retention_days,
            "warn_percents": _listed(tenant.warn_percents),
        },
    )


def list_tenants(tx: Tx) -> tuple[Tenant, ...]:
    return tuple(_tenant(row) for row in tx.execute(_LIST_TENANTS))


def get_tenant(tx: Tx, tenant_id: str) -> Tenant | None:
    row = tx.execute(_TENANT, {"tenant_id": tenant_id}).one_or_none()
    return _tenant(row) if row is not None else None


def find_tenant(tx: Tx, name: str) -> Tenant | None:
    row = tx.execute(_TENANT_BY_NAME, {"name": name}).one_or_none()
    return _tenant(row) if row is not None else None


def insert_key(tx: Tx, key: ApiKey) -> None:
    tx.execute(
        _INSERT_KEY,
        {
            "id": key.id,
            "tenant_id": key.tenant_id,
            "name": key.name,
            "sha256": key.sha256,
            "created_at_ms": key.created_at_ms,
            "rpm": key.rpm,
            "expires_at_ms": key.expires_at_ms,
            "revoked_at_ms": key.revoked_at_ms,
            "mode": key.mode.value,
            "owner": key.owner,
            "tags": _listed(key.tags),
            "scopes": _listed(sorted(key.scopes)),
            "allowed_models": _listed(key.allowed_models),
            "max_queued": key.max_queued,
            "disabled_at_ms": key.disabled_at_ms,
            "last_used_at_ms": key.last_used_at_ms,
            "created_by": key.created_by,
            "rotated_at_ms": key.rotated_at_ms,
            "rotation_sha256": key.rotation_sha256,
        },
    )


def list_keys(tx: Tx, tenant_id: str | None) -> tuple[ApiKey, ...]:
    statement = _LIST_KEYS if tenant_id is None else _LIST_KEYS.where(api_keys.c.tenant_id == tenant_id)
    return tuple(_key(row) for row in tx.execute(statement))


@dataclass(frozen=True, slots=True)
class Credential:
    """What it takes to check a presented key: its row, its tenant's status, and what else opens it."""

    key: ApiKey
    tenant_status: TenantStatus
    retired: tuple[RetiredSecret, ...]


def get_credentials(tx: Tx, ids: Iterable[str]) -> dict[str, Credential]:
    """By key id; unknown ids are absent."""
    ids = list(ids)
    retired: dict[str, list[RetiredSecret]] = {}
    for row in tx.execute(_RETIRED, {"ids": ids}):
        retired.setdefault(row.key_id, []).append(RetiredSecret(*row))
    rows = tx.execute(_KEYS_BY_ID, {"ids": ids})
    return {
        row.id: Credential(_key(row), TenantStatus(row.tenant_status), tuple(retired.get(row.id, ())))
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class Caller:
    """A key with its tenant and that tenant's budgets, micro-dollars by window; no entry is unlimited."""

    key: ApiKey
    tenant: Tenant
    budgets: dict[BudgetWindow, int]


def get_caller(tx: Tx, key_id: str, *, lock: bool = False) -> Caller | None:
    """With ``lock``, what is told stays so until the transaction ends: to act upon it, not just to look."""
    if lock:
        lock_tenant_of_key(tx, key_id)
    row = _CALLER.one_or_none(tx, {"key_id": key_id})
    if row is None:
        return None
    limits = {window: getattr(row, f"budget_{window.value}") for window in BudgetWindow}
    return Caller(
        key=_key(row),
        tenant=_tenant(row, "its_"),
        budgets={window: micros for window, micros in limits.items() if micros is not None},
    )


def retire_secret(tx: Tx, secret: RetiredSecret) -> None:
    """Let a secret that was replaced go on opening its key, until the moment it says."""
    tx.execute(_RETIRE, asdict(secret))


def revoke_key(tx: Tx, key_id: str, *, now_ms: int) -> bool:
    """True when this call revoked it; False when it was revoked before or does not exist."""
    return tx.execute(_REVOKE_KEY, {"key_id": key_id, "now_ms": now_ms}).rowcount == 1


def _tenant(row: sa.Row[tuple[object, ...]], prefix: str = "") -> Tenant:
    values = {name: getattr(row, prefix + name) for name in _TENANT_COLUMNS}
    lists = {name: _tuple(values[name]) for name in ("allowed_models", "allowed_formats", "warn_percents")}
    return Tenant(**{**values, **lists, "status": TenantStatus(values["status"])})


def _key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    values = {name: getattr(row, name) for name in _KEY_COLUMNS}
    lists = {name: _tuple(values[name]) for name in ("tags", "allowed_models")}
    scopes = frozenset(map(Scope, orjson.loads(values["scopes"])))
    return ApiKey(**{**values, **lists, "mode": KeyMode(values["mode"]), "scopes": scopes})


def _listed(values: Iterable[str | int] | None) -> str | None:
    """A column's JSON list."""
    return None if values is None else orjson.dumps(list(values)).decode()


def _tuple(listed: str | None) -> tuple[Any, ...] | None:
    return None if listed is None else tuple(orjson.loads(listed))
