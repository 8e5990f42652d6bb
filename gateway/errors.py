"""Every error the gateway raises on purpose.

    GatewayError
    ├── RequestError            the caller's mistake: nothing ran, nothing was charged
    │   ├── InvalidRequest      one or more fields are wrong (names each of them)
    │   ├── BodyTooLarge
    │   └── UnsupportedMedia
    ├── Unauthorized            no key, not a key of ours (never says which), or one that was stopped
    │   └── NotAnAdmin          no admin token, or not one of ours
    ├── Forbidden               the key is good, but may not do this; or nobody may
    ├── NotFound                no such thing *of yours*
    ├── Conflict                it contradicts what is there already
    ├── LimitReached            a limit of the key or tenant; says when to come back
    ├── BudgetSpent             the price does not fit into what is left; says when that starts anew
    ├── Unavailable             ours to mend (database, storage, limits, draining); come back soon
    ├── UpstreamError           one attempt at the provider went wrong; see ``AttemptFault``
    └── ConfigurationError      the operator's mistake; raised at start, never while serving

Each carries a stable ``code`` (an `ErrorCode`), a public text written for the caller, and an optional
internal text for the log. HTTP status codes are given once, in ``gateway.web.problems``.
"""

from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """Stable, documented names (README, "Errors"); callers may branch on them."""

    MALFORMED_REQUEST = "malformed_request"
    INVALID_REQUEST = "invalid_request"
    MALFORMED_BODY = "malformed_body"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNAUTHORIZED = "unauthorized"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    KEY_DISABLED = "key_disabled"
    TENANT_SUSPENDED = "tenant_suspended"
    NOT_ALLOWED = "not_allowed"
    ADMIN_CLOSED = "admin_closed"
    TEST_KEYS_OFF = "test_keys_off"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    ROUTE_NOT_FOUND = "route_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TASK_NOT_FOUND = "task_not_found"
    FILE_NOT_FOUND = "file_not_found"
    LINK_INVALID = "link_invalid"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    HEADERS_TOO_LARGE = "headers_too_large"
    BUDGET_SPENT = "budget_spent"
    RATE_LIMITED = "rate_limited"
    QUEUE_FULL = "queue_full"
    SLOW_DOWN = "slow_down"
    DATABASE_UNAVAILABLE = "database_unavailable"
    LIMITS_UNAVAILABLE = "limits_unavailable"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    SIGN_IN_REFUSED = "sign_in_refused"
    SIGN_IN_UNAVAILABLE = "sign_in_unavailable"
    INTERNAL_ERROR = "internal_error"
    # Below: why a *task* failed (`task.error.code`); never an HTTP status of the caller's request.
    RECITATION_BLOCKED = "recitation_blocked"
    SAFETY_BLOCKED = "safety_blocked"
    LANGUAGE_UNSUPPORTED = "language_unsupported"
    MODEL_REFUSED = "model_refused"
    MODEL_MISCONFIGURED = "model_misconfigured"
    MODEL_BUSY = "model_busy"
    MODEL_UNAVAILABLE = "model_unavailable"
    MODEL_TIMEOUT = "model_timeout"
    MODEL_ANSWER_INVALID = "model_answer_invalid"
    STORAGE_FAILED = "storage_failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: its name as the caller spells it, a code, and what to do about it."""

    field: str
    code: str
    detail: str


class GatewayError(Exception):
    """Base of all. ``detail`` is for the caller; ``internal`` goes to the log only."""

    code: ErrorCode = ErrorCode.INTERNAL_ERROR

    def __init__(
        self,
        detail: str,
        *,
        code: ErrorCode | None = None,
        internal: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.internal = internal
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code


class RequestError(GatewayError):
    code = ErrorCode.MALFORMED_BODY


class InvalidRequest(RequestError):
    code = ErrorCode.INVALID_REQUEST

    def __init__(self, fields: tuple[FieldError, ...]) -> None:
        super().__init__(" ".join(f"{f.field}: {f.detail}" for f in fields))
        self.fields = fields


class BodyTooLarge(RequestError):
    code = ErrorCode.BODY_TOO_LARGE


class UnsupportedMedia(RequestError):
    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


class Unauthorized(GatewayError):
    code = ErrorCode.UNAUTHORIZED


class NotAnAdmin(Unauthorized):
    pass


class Forbidden(GatewayError):
    code = ErrorCode.NOT_ALLOWED


class NotFound(GatewayError):
    code = ErrorCode.TASK_NOT_FOUND


class Conflict(GatewayError):
    code = ErrorCode.CONFLICT


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit as told in RateLimit headers: quota, what remains, seconds until some comes back."""

    name: str
    quota: int
    window_s: int
    remaining: int
    reset_s: int


class LimitReached(GatewayError):
    code = ErrorCode.RATE_LIMITED

    def __init__(self, detail: str, *, code: ErrorCode, limit: LimitState) -> None:
        super().__init__(detail, code=code, retry_after_s=limit.reset_s)
        self.limit = limit


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget that a request does not fit into. ``resets_at_ms`` is None where it never starts anew."""

    window: str
    limit_micros: int
    held_micros: int
    spent_micros: int
    price_micros: int
    resets_at_ms: int | None


class BudgetSpent(GatewayError):
    """Not too fast: too dear. Nothing was held; a cheaper request may still fit."""

    code = ErrorCode.BUDGET_SPENT

    def __init__(self, detail: str, *, budget: BudgetState, retry_after_s: float | None) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.budget = budget


class Unavailable(GatewayError):
    code = ErrorCode.DATABASE_UNAVAILABLE


class ConfigurationError(GatewayError):
    pass


class AttemptFault(StrEnum):
    """Whose fault a failed attempt is, and so what may follow it."""

    REFUSED = "refused"  # the model will say the same again: fail the task
    RECITATION = "recitation"  # may pass with another seed: try again unless the caller fixed the seed
    BUSY = "busy"  # quota or capacity, nothing ran: wait, the attempt does not count
    NOT_SENT = "not_sent"  # the request never left: try again, the attempt does not count
    UNKNOWN = "unknown"  # sent, and the answer was lost: counts as paid, try again within limits
    BROKEN = "broken"  # answered with an error or rubbish: counts, try again within limits
    MISCONFIGURED = "misconfigured"  # 401, 403, 404: only the operator can mend it


class UpstreamError(GatewayError):
    """One call to the provider failed. ``status`` is the provider's HTTP status, when there was one."""

    def __init__(
        self,
        detail: str,
        *,
        code: ErrorCode,
        fault: AttemptFault,
        status: int | None = None,
        internal: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail, code=code, internal=internal, retry_after_s=retry_after_s)
        self.fault = fault
        self.status = status


class StorageError(GatewayError):
    """Storage would not take, sign or give an object. The audio itself may still be at hand."""

    code = ErrorCode.STORAGE_UNAVAILABLE
