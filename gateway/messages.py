"""The vocabulary of webhooks: plain frozen data, no input or output, no clock."""

from dataclasses import dataclass
from enum import StrEnum


class EventType(StrEnum):
    """What a message tells of. Closed: each is emitted somewhere, and documented."""

    TASK_SUCCEEDED = "task.succeeded"
    TASK_FAILED = "task.failed"
    TASK_CANCELED = "task.canceled"
    TASK_EXPIRED = "task.expired"
    BUDGET_WARNING = "budget.warning"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_TEST = "webhook.test"


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DisabledReason(StrEnum):
    """Why an endpoint is sent nothing: its owner wanted that, it said 410, or it failed for days."""

    REQUESTED = "requested"
    GONE = "gone"
    FAILING = "failing"


class TryOutcome(StrEnum):
    """How one try of a delivery went. Closed: it labels metrics, and is kept as the try's error."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    GONE = "gone"
    REDIRECTED = "redirected"
    TIMED_OUT = "timed_out"
    BROKEN_OFF = "broken_off"
    NOT_CONNECTED = "not_connected"
    TLS_FAILED = "tls_failed"
    NAME_NOT_FOUND = "name_not_found"
    ADDRESS_REFUSED = "address_refused"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class SecretState:
    """Which secret signs. Until ``previous_until_ms`` the one before it signs as well."""

    version: int = 1
    previous_until_ms: int | None = None

    def versions_at(self, now_ms: int) -> tuple[int, ...]:
        """The newest first."""
        overlaps = self.previous_until_ms is not None and now_ms < self.previous_until_ms
        return (self.version, self.version - 1) if overlaps else (self.version,)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that a tenant registered. ``events`` None takes all there are and will be.

    ``failing_since_ms`` is when the first of an unbroken row of failures was.
    """

    id: str
    tenant_id: str
    url: str
    description: str
    events: tuple[EventType, ...] | None
    created_at_ms: int
    secret: SecretState = SecretState()
    disabled_at_ms: int | None = None
    disabled_reason: DisabledReason | None = None
    failing_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message for one receiver. Its id is the ``webhook-id``, the same in every try.

    ``endpoint_id`` is None where a request named the address. ``tries`` counts since it was written or last
    replayed; ``next_attempt_at_ms`` means something only while it is pending.
    """

    id: str
    tenant_id: str
    endpoint_id: str | None
    url: str
    kind: EventType
    task_id: str | None
    body: str
    state: DeliveryState
    tries: int
    next_attempt_at_ms: int
    created_at_ms: int
    finished_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a delivery. ``status`` is None when no answer came; ``error`` when it was delivered."""

    number: int
    at_ms: int
    duration_ms: int
    status: int | None
    error: TryOutcome | None
