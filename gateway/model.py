"""The vocabulary of the gateway: plain frozen data, no input or output, no clock."""

from dataclasses import dataclass, field
from enum import StrEnum

MICROS_PER_USD = 1_000_000


class TaskState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self not in {TaskState.QUEUED, TaskState.RUNNING}


#: The state machine, whole. `gateway.db.tasks` moves a task only along these arrows.
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELED, TaskState.EXPIRED}),
    TaskState.RUNNING: frozenset(
        {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELED, TaskState.QUEUED}
    ),
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELED: frozenset(),
    TaskState.EXPIRED: frozenset(),
}


class Route(StrEnum):
    """Which public endpoint a request came through."""

    STANDARD = "music_generate"
    LYRIA = "music_generate_lyria"


class ModelKind(StrEnum):
    """A family of models that share a wire format. Closed: it labels metrics."""

    LYRIA2 = "lyria-002"
    MUSICGEN = "musicgen"


@dataclass(frozen=True, slots=True)
class Deployment:
    """Somewhere a model can be called: a publisher model in a location, or an endpoint of ours.

    ``price_micros`` is the tenant's price, and the provider's cost, of one clip in millionths of a dollar.
    """

    name: str
    kind: ModelKind
    project: str
    location: str
    endpoint: str | None
    price_micros: int


@dataclass(frozen=True, slots=True)
class MusicSpec:
    """What was asked for, after validation and defaults.

    ``duration_s`` is None where the model decides (Lyria 2 always gives 32.8 s).
    """

    prompt: str
    sample_count: int = 1
    negative_prompt: str | None = None
    seed: int | None = None
    duration_s: int | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """One stored piece of audio. ``index`` counts from 0 within its task."""

    index: int
    object_name: str
    mime_type: str
    size_bytes: int
    sha256: str
    duration_s: float
    sample_rate_hz: int
    channels: int
    seed: int | None


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed: a stable code, and advice written for the caller."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Task:
    """A row of ``tasks`` with its clips. Times are milliseconds since the Unix epoch, UTC."""

    id: str
    tenant_id: str
    key_id: str
    route: Route
    model: ModelKind
    state: TaskState
    spec: MusicSpec
    metadata: dict[str, str]
    price_micros: int
    created_at_ms: int
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    attempt_count: int = 0
    error: TaskError | None = None
    emulated: bool = False
    request_id: str = ""
    traceparent: str | None = None
    clips: tuple[Clip, ...] = field(default=())


class TenantStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A team. None means the documented default of that limit."""

    id: str
    name: str
    status: TenantStatus
    created_at_ms: int
    rpm: int | None = None
    max_concurrent: int | None = None
    max_queued: int | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the database knows it: never the secret, only its SHA-256 (hex)."""

    id: str
    tenant_id: str
    name: str
    sha256: str
    created_at_ms: int
    rpm: int | None = None
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, once a presented key has been checked."""

    tenant_id: str
    key_id: str
