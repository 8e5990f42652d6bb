"""Webhook endpoints, which of their secrets sign, and the outbox. `gateway.db.deliveries` empties it."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.db.engine import Tx, touch
from gateway.db.prepared import Prepared
from gateway.db.tenants import listed, tuple_from
from gateway.db.webhook_tables import webhook_deliveries, webhook_endpoints, webhook_secrets
from gateway.messages import Delivery, DisabledReason, Endpoint, EventType, SecretState

#: What a transaction touches that leaves something to deliver.
OUTBOX = "webhooks"

_id: sa.BindParameter[str] = sa.bindparam("endpoint_id")
_tenant_id: sa.BindParameter[str] = sa.bindparam("of_tenant")
_now = sa.bindparam("now_ms", type_=sa.BigInteger)
_its = webhook_endpoints.c

_INSERT_ENDPOINT = sa.insert(webhook_endpoints)
_ENDPOINTS = (
    sa.select(webhook_endpoints)
    .where(_its.tenant_id == _tenant_id, _its.deleted_at_ms.is_(None))
    .order_by(_its.created_at_ms, _its.id)
)
_ENDPOINT = _ENDPOINTS.where(_its.id == _id)
_ANY_ENDPOINT = sa.select(webhook_endpoints).where(_its.id == _id)
_CHANGE = sa.update(webhook_endpoints).where(_its.id == _id)
_DELETE = (
    sa.update(webhook_endpoints)
    .where(_its.id == _id)
    .values(deleted_at_ms=_now, disabled_at_ms=sa.func.coalesce(_its.disabled_at_ms, _now))
)
_DISABLE = (
    sa.update(webhook_endpoints)
    .where(_its.id == _id, _its.disabled_at_ms.is_(None))
    .values(disabled_at_ms=_now, disabled_reason=sa.bindparam("reason"))
)
_FAILING = (
    sa.update(webhook_endpoints)
    .where(_its.id == _id)
    .values(failing_since_ms=sa.func.coalesce(_its.failing_since_ms, _now))
    .returning(_its.failing_since_ms)
)
_WELL = (
    sa.update(webhook_endpoints)
    .where(_its.id == _id, _its.failing_since_ms.is_not(None))
    .values(failing_since_ms=None)
)
_SECRET = sa.select(webhook_secrets).where(webhook_secrets.c.tenant_id == _tenant_id)
_INSERT_SECRET = sa.insert(webhook_secrets)
_CHANGE_SECRET = sa.update(webhook_secrets).where(webhook_secrets.c.tenant_id == _tenant_id)
# One probe, for every task that ends.
_LISTENING = Prepared(
    sa.select(_its.id, _its.url, _its.events).where(
        _its.tenant_id == _tenant_id, _its.disabled_at_ms.is_(None)
    )
)
_INSERT_DELIVERY = Prepared(sa.insert(webhook_deliveries))


def insert_endpoint(tx: Tx, endpoint: Endpoint) -> None:
    tx.execute(
        _INSERT_ENDPOINT,
        {
            "id": endpoint.id,
            "tenant_id": endpoint.tenant_id,
            "url": endpoint.url,
            "description": endpoint.description,
            "events": listed(endpoint.events),
            "secret_version": endpoint.secret.version,
            "previous_until_ms": endpoint.secret.previous_until_ms,
            "disabled_at_ms": endpoint.disabled_at_ms,
            "disabled_reason": endpoint.disabled_reason,
            "failing_since_ms": endpoint.failing_since_ms,
            "created_at_ms": endpoint.created_at_ms,
        },
    )


def list_endpoints(tx: Tx, tenant_id: str) -> tuple[Endpoint, ...]:
    """In the order in which they were made; without deleted ones."""
    return tuple(map(_endpoint, tx.execute(_ENDPOINTS, {"of_tenant": tenant_id})))


def get_endpoint(tx: Tx, tenant_id: str, endpoint_id: str) -> Endpoint | None:
    """None for an unknown endpoint, a deleted one, and another tenant's."""
    row = tx.execute(_ENDPOINT, {"of_tenant": tenant_id, "endpoint_id": endpoint_id}).one_or_none()
    return None if row is None else _endpoint(row)


def find_endpoint(tx: Tx, endpoint_id: str) -> Endpoint:
    """Whoever's it is, and deleted or not: for what was written for it."""
    return _endpoint(tx.execute(_ANY_ENDPOINT, {"endpoint_id": endpoint_id}).one())


def change_endpoint(tx: Tx, endpoint_id: str, values: dict[str, Any]) -> None:
    """Set these fields of `Endpoint`; others may be changed by somebody else at the same time."""
    columns = {name: listed(value) if name == "events" else value for name, value in values.items()}
    if columns:
        tx.execute(_CHANGE.values(columns), {"endpoint_id": endpoint_id})


def set_endpoint_secret(tx: Tx, endpoint_id: str, secret: SecretState) -> None:
    change_endpoint(tx, endpoint_id, _secret_columns(secret))


def delete_endpoint(tx: Tx, endpoint_id: str, *, now_ms: int) -> None:
    """What waits for it fails when its turn comes."""
    tx.execute(_DELETE, {"endpoint_id": endpoint_id, "now_ms": now_ms})


def disable_endpoint(tx: Tx, endpoint_id: str, reason: DisabledReason, *, now_ms: int) -> bool:
    """False when it was disabled before."""
    keys = {"endpoint_id": endpoint_id, "reason": reason.value, "now_ms": now_ms}
    return tx.execute(_DISABLE, keys).rowcount == 1


def note_failure(tx: Tx, endpoint_id: str, *, now_ms: int) -> int:
    """Since when the endpoint has done nothing but fail, this time included."""
    return int(tx.execute(_FAILING, {"endpoint_id": endpoint_id, "now_ms": now_ms}).scalar_one())


def note_success(tx: Tx, endpoint_id: str) -> None:
    tx.execute(_WELL, {"endpoint_id": endpoint_id})


def get_secret(tx: Tx, tenant_id: str) -> SecretState:
    """Which secrets sign what goes to addresses that the tenant's requests name."""
    row = tx.execute(_SECRET, {"of_tenant": tenant_id}).one_or_none()
    return SecretState() if row is None else SecretState(row.secret_version, row.previous_until_ms)


def set_secret(tx: Tx, tenant_id: str, secret: SecretState) -> None:
    columns = _secret_columns(secret)
    if tx.execute(_CHANGE_SECRET.values(columns), {"of_tenant": tenant_id}).rowcount == 0:
        tx.execute(_INSERT_SECRET, {"tenant_id": tenant_id, **columns})


@dataclass(frozen=True, slots=True)
class Listener:
    """An enabled endpoint, and what it wants to hear of; ``events`` None is everything."""

    endpoint_id: str
    url: str
    events: tuple[EventType, ...] | None

    def wants(self, kind: EventType) -> bool:
        return self.events is None or kind in self.events


def list_listening(tx: Tx, tenant_id: str) -> tuple[Listener, ...]:
    rows = _LISTENING.all(tx, {"of_tenant": tenant_id})
    return tuple(Listener(row.id, row.url, _events(row.events)) for row in rows)


def add_delivery(tx: Tx, delivery: Delivery, *, lane: str) -> None:
    """Write to the outbox, in the transaction that the message tells of."""
    touch(tx, OUTBOX)
    _INSERT_DELIVERY.run(
        tx,
        {
            "id": delivery.id,
            "tenant_id": delivery.tenant_id,
            "endpoint_id": delivery.endpoint_id,
            "lane": lane,
            "url": delivery.url,
            "kind": delivery.kind.value,
            "task_id": delivery.task_id,
            "body": delivery.body,
            "state": delivery.state.value,
            "attempt_count": delivery.tries,
            "next_attempt_at_ms": delivery.next_attempt_at_ms,
            "created_at_ms": delivery.created_at_ms,
        },
    )


def _endpoint(row: Any) -> Endpoint:
    return Endpoint(
        id=row.id,
        tenant_id=row.tenant_id,
        url=row.url,
        description=row.description,
        events=_events(row.events),
        created_at_ms=row.created_at_ms,
        secret=SecretState(row.secret_version, row.previous_until_ms),
        disabled_at_ms=row.disabled_at_ms,
        disabled_reason=DisabledReason(row.disabled_reason) if row.disabled_reason else None,
        failing_since_ms=row.failing_since_ms,
    )


def _secret_columns(secret: SecretState) -> dict[str, int | None]:
    return {"secret_version": secret.version, "previous_until_ms": secret.previous_until_ms}


def _events(text: str | None) -> tuple[EventType, ...] | None:
    names = tuple_from(text)
    return None if names is None else tuple(map(EventType, names))
