"""The tables of webhooks: whom to tell, what is to be told, and every try of it. See `gateway.db.tables`."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    Table,
    literal_column,
)

from gateway.db.schema import Text, index_some, metadata
from gateway.messages import DeliveryState

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    # A JSON list of event types; null takes all.
    Column("events", Text),
    # Secrets are derived from the signing secret, the id and this number; none is kept.
    Column("secret_version", Integer, nullable=False),
    Column("previous_until_ms", BigInteger),
    Column("disabled_at_ms", BigInteger),
    Column("disabled_reason", Text),
    Column("failing_since_ms", BigInteger),
    # Kept for its deliveries, which name it; disabled as well, so that nobody need look here.
    Column("deleted_at_ms", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
    # Beside every end of a task: whom to tell.
    Index(None, "tenant_id"),
)

# The secret of addresses that requests name, once a tenant has rotated it; no row is the first one.
webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("secret_version", Integer, nullable=False),
    Column("previous_until_ms", BigInteger),
)

# The outbox: written in the transaction that it tells of. Its id is the message's.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    # Null for the address that a request named itself.
    Column("endpoint_id", ForeignKey("webhook_endpoints.id")),
    # What waits its turn together: an endpoint's, or a share of what a tenant's requests named.
    Column("lane", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("task_id", ForeignKey("tasks.id")),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    # Tries since it was written or last replayed. While one is under way, the next is due as its lease ends.
    Column("attempt_count", Integer, nullable=False),
    Column("next_attempt_at_ms", BigInteger, nullable=False),
    Column("lease_token", Text),
    Column("lease_expires_at_ms", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
    CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="state"),
    # A tenant's deliveries, newest first.
    Index(None, "tenant_id", "created_at_ms"),
    # What is old enough to be forgotten.
    Index(None, "finished_at_ms"),
    # What tells of a task that is deleted.
    Index(None, "task_id"),
)
# What is due: the lanes that have something pending, and the first of each, whatever was delivered before.
index_some(
    "ix_webhook_deliveries_pending",
    webhook_deliveries.c.lane,
    webhook_deliveries.c.next_attempt_at_ms,
    where="state = 'pending'",
)
# What may be replayed: little, among much that was delivered.
index_some(
    "ix_webhook_deliveries_failed",
    webhook_deliveries.c.tenant_id,
    webhook_deliveries.c.finished_at_ms,
    where="state = 'failed'",
)


def in_delivery_state(state: DeliveryState) -> ColumnElement[bool]:
    """Deliveries in this state, for a WHERE clause; written out for the reason that `in_state` gives."""
    return webhook_deliveries.c.state == literal_column(f"'{state.value}'")


# Every try of a delivery. What a receiver answered is not kept, only its status.
webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("delivery_id", ForeignKey("webhook_deliveries.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("status", Integer),
    Column("error", Text),
)
