"""API keys, and the caller behind each: every statement about them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.locks import lock_tenant_of_key
from gateway.db.prepared import Prepared
from gateway.db.tables import api_keys, budgets, retired_secrets, tenants
from gateway.db.tenants import listed, tenant_from, tuple_from
from gateway.model import ApiKey, BudgetWindow, KeyMode, KeyState, Place, RetiredSecret, Scope, Tenant

_KEYS_BY_ID = (
    sa.select(api_keys, tenants.c.allowed_models.label("tenant_models"))
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
_KEY_COLUMNS = tuple(column.name for column in api_keys.c)
_INSERT_KEY = sa.insert(api_keys)
_UPDATE_KEY = sa.update(api_keys).where(api_keys.c.id == sa.bindparam("of_id"))
_RETIRE = sa.insert(retired_secrets)
_DROP_RETIRED = sa.delete(retired_secrets).where(
    retired_secrets.c.key_id == sa.bindparam("of_key"), retired_secrets.c.expires_at_ms <= sa.bindparam("now")
)
_LIST_KEYS = sa.select(api_keys).order_by(api_keys.c.created_at_ms, api_keys.c.id)
_KEY = sa.select(api_keys).where(api_keys.c.id == sa.bindparam("key_id"))
_REVOKE_KEY = (
    sa.update(api_keys)
    .where(api_keys.c.id == sa.bindparam("key_id"), api_keys.c.revoked_at_ms.is_(None))
    .values(revoked_at_ms=sa.bindparam("now_ms"))
)
_USED = (
    sa.update(api_keys)
    .where(
        api_keys.c.id == sa.bindparam("of_id"),
        sa.func.coalesce(api_keys.c.last_used_at_ms, 0) < sa.bindparam("at_ms"),
    )
    .values(last_used_at_ms=sa.bindparam("at_ms"))
)


def insert_key(tx: Tx, key: ApiKey) -> None:
    tx.execute(_INSERT_KEY, _values(key))


def update_key(tx: Tx, key: ApiKey) -> None:
    """Write all that may change of a key; when it was used last is `note_uses`' to say."""
    values = {name: value for name, value in _values(key).items() if name != "last_used_at_ms"}
    tx.execute(_UPDATE_KEY, {**values, "of_id": key.id})


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys to list; None leaves a question open. ``now_ms`` tells what has expired."""

    tenant_id: str | None = None
    state: KeyState | None = None
    now_ms: int = 0


def list_keys(
    tx: Tx, wanted: KeyFilter, *, after: Place | None = None, limit: int | None = None
) -> tuple[ApiKey, ...]:
    """Oldest first; with ``after`` those that follow it."""
    statement = _LIST_KEYS if limit is None else _LIST_KEYS.limit(limit)
    if wanted.tenant_id is not None:
        statement = statement.where(api_keys.c.tenant_id == wanted.tenant_id)
    if wanted.state is not None:
        statement = statement.where(_in_state(wanted.state, wanted.now_ms))
    if after is not None:
        place = sa.tuple_(api_keys.c.created_at_ms, api_keys.c.id)
        statement = statement.where(place > sa.tuple_(after.at_ms, after.id))
    return tuple(_key(row) for row in tx.execute(statement))


def _in_state(state: KeyState, now_ms: int) -> sa.ColumnElement[bool]:
    """What `ApiKey.state_at` says, as a condition."""
    lasting = api_keys.c.expires_at_ms.is_(None) | (api_keys.c.expires_at_ms > now_ms)
    disabled = api_keys.c.disabled_at_ms.is_not(None)
    if state is KeyState.REVOKED:
        return api_keys.c.revoked_at_ms.is_not(None)
    rest = {
        KeyState.EXPIRED: ~lasting,
        KeyState.DISABLED: lasting & disabled,
        KeyState.ACTIVE: lasting & ~disabled,
    }
    return api_keys.c.revoked_at_ms.is_(None) & rest[state]


def get_key(tx: Tx, key_id: str) -> ApiKey | None:
    row = tx.execute(_KEY, {"key_id": key_id}).one_or_none()
    return _key(row) if row is not None else None


@dataclass(frozen=True, slots=True)
class Credential:
    """What it takes to check a presented key: its row, what else opens it, and its tenant's models."""

    key: ApiKey
    retired: tuple[RetiredSecret, ...]
    tenant_models: tuple[str, ...] | None


def get_credentials(tx: Tx, ids: Iterable[str]) -> dict[str, Credential]:
    """By key id; unknown ids are absent."""
    ids = list(ids)
    retired: dict[str, list[RetiredSecret]] = {}
    for row in tx.execute(_RETIRED, {"ids": ids}):
        retired.setdefault(row.key_id, []).append(RetiredSecret(*row))
    rows = tx.execute(_KEYS_BY_ID, {"ids": ids})
    return {
        row.id: Credential(_key(row), tuple(retired.get(row.id, ())), tuple_from(row.tenant_models))
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
        tenant=tenant_from(row, "its_"),
        budgets={window: micros for window, micros in limits.items() if micros is not None},
    )


def retire_secret(tx: Tx, secret: RetiredSecret) -> None:
    """Let a secret that was replaced go on opening its key, until the moment it says."""
    tx.execute(_RETIRE, asdict(secret))


def get_retired(tx: Tx, key_id: str) -> tuple[RetiredSecret, ...]:
    return tuple(RetiredSecret(*row) for row in tx.execute(_RETIRED, {"ids": [key_id]}))


def drop_retired(tx: Tx, key_id: str, *, now_ms: int) -> None:
    """Forget the secrets of a key that open nothing any more."""
    tx.execute(_DROP_RETIRED, {"of_key": key_id, "now": now_ms})


def revoke_key(tx: Tx, key_id: str, *, now_ms: int) -> bool:
    """True when this call revoked it; False when it was revoked before or does not exist."""
    return tx.execute(_REVOKE_KEY, {"key_id": key_id, "now_ms": now_ms}).rowcount == 1


def note_uses(tx: Tx, uses: Mapping[str, int]) -> None:
    """When keys, at least one, were used last: milliseconds by id. An earlier moment changes nothing."""
    tx.execute(_USED, [{"of_id": key_id, "at_ms": at_ms} for key_id, at_ms in sorted(uses.items())])


def _values(key: ApiKey) -> dict[str, Any]:
    lists = {"tags": key.tags, "allowed_models": key.allowed_models, "scopes": sorted(key.scopes)}
    return asdict(key) | {name: listed(values) for name, values in lists.items()} | {"mode": key.mode.value}


def _key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    values = {name: getattr(row, name) for name in _KEY_COLUMNS}
    lists = {name: tuple_from(values[name]) for name in ("tags", "allowed_models")}
    scopes = frozenset(map(Scope, orjson.loads(values["scopes"])))
    return ApiKey(**{**values, **lists, "mode": KeyMode(values["mode"]), "scopes": scopes})
