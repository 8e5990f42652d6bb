"""The vocabulary of the gateway: plain frozen data, no input or output, no clock."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType


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
    **{state: frozenset[TaskState]() for state in TaskState if state.terminal},
}


class Route(StrEnum):
    """Which public endpoint a request came through."""

    STANDARD = "music_generate"
    LYRIA = "music_generate_lyria"


#: The name of a family of models that share a wire format; `gateway.families.registry` has them all.
ModelKind = NewType("ModelKind", str)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Somewhere a model can be called: a publisher model in a location, or an endpoint of ours.

    Both are of one take, in millionths of a dollar: ``price_micros`` is the list price, ``cost_micros`` what
    the provider takes. Deployments of one kind pool what they have: calls go to them by ``weight``, at most
    ``rpm`` in any minute and ``concurrency`` at once, None being as many as it likes. A dedicated endpoint
    has a ``host`` of its own; ``output_uri`` is where it puts what is too long for an answer.
    """

    name: str
    kind: ModelKind
    project: str
    location: str
    endpoint: str | None
    price_micros: int
    cost_micros: int
    weight: int = 1
    rpm: int | None = None
    concurrency: int | None = None
    host: str | None = None
    output_uri: str | None = None


class AudioFormat(StrEnum):
    """What audio can be delivered as."""

    WAV = "wav"
    FLAC = "flac"
    MP3 = "mp3"
    OGG = "ogg"
    OPUS = "opus"


@dataclass(frozen=True, slots=True)
class MusicSpec:
    """What was asked for, after validation and defaults, and of how many ``takes`` each clip is joined.

    ``duration_s`` is None where the model decides (Lyria 2 always gives 32.8 s), ``audio_format`` where the
    model's own will do. The loudness is integrated, after EBU R128; None leaves it as it is.
    """

    prompt: str
    sample_count: int = 1
    negative_prompt: str | None = None
    seed: int | None = None
    duration_s: int | None = None
    audio_format: AudioFormat | None = None
    bitrate_kbps: int | None = None
    loudness_lufs: float | None = None
    takes: int = 1


@dataclass(frozen=True, slots=True)
class Take:
    """A stored piece of audio that others are to be joined with. ``number`` is that of the call's take."""

    number: int
    attempt_id: str
    object_name: str
    duration_s: float
    seed: int | None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """One stored piece of audio. ``index`` counts from 0 within its task.

    ``steps`` (JSON) tell what was done to what the model made, and ``text`` the words it came with.
    ``waveform`` are peaks for players, a byte each. What an older version stored was not measured.
    """

    index: int
    object_name: str
    mime_type: str
    size_bytes: int
    sha256: str
    duration_s: float
    sample_rate_hz: int
    channels: int
    seed: int | None
    steps: str = "[]"
    peak_dbfs: float | None = None
    loudness_lufs: float | None = None
    waveform: bytes = b""
    text: str | None = None


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed: a stable code, and advice written for the caller."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Task:
    """A row of ``tasks`` with its clips. Times are milliseconds since the Unix epoch, UTC.

    ``test`` tasks were asked for with a test key. ``webhook_url`` is told of this task's end. It is not
    started after ``start_by_at_ms``; ``charged_micros`` is what its end cost.
    """

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
    start_by_at_ms: int | None = None
    charged_micros: int | None = None
    attempt_count: int = 0
    error: TaskError | None = None
    emulated: bool = False
    test: bool = False
    webhook_url: str | None = None
    request_id: str = ""
    traceparent: str | None = None
    clips: tuple[Clip, ...] = field(default=())

    @property
    def mode(self) -> "KeyMode":
        """That of the key it was asked for with."""
        return KeyMode.TEST if self.test else KeyMode.LIVE


class BudgetWindow(StrEnum):
    """A stretch of the tenant's calendar, in its own time zone, that a budget covers."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Periods:
    """The names of the day and month that a moment falls into, in a tenant's zone: 2026-11-22, 2026-11."""

    day: str
    month: str

    def named(self, window: BudgetWindow) -> str:
        return {BudgetWindow.DAY: self.day, BudgetWindow.MONTH: self.month, BudgetWindow.TOTAL: "total"}[
            window
        ]

    def all(self) -> tuple[str, ...]:
        return tuple(self.named(window) for window in BudgetWindow)


@dataclass(frozen=True, slots=True)
class Offset:
    """Local time is UTC plus ``offset_ms`` for moments before ``until_ms``, after the one before it."""

    until_ms: int
    offset_ms: int


class Dimension(StrEnum):
    """What usage may be grouped by."""

    TENANT = "tenant"
    KEY = "key"
    MODEL = "model"
    DAY = "day"


class EntryKind(StrEnum):
    """What a ledger entry does. A task has one hold and then either one settlement or one release."""

    HOLD = "hold"
    SETTLE = "settle"
    RELEASE = "release"
    ADJUST = "adjust"


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the ledger: by how much it changes what is held and what is spent, in micro-dollars.

    An entry counts towards the periods in which its task was *accepted*, so that a task that ends after
    midnight is charged to the day whose budget admitted it.
    """

    tenant_id: str
    key_id: str | None
    task_id: str | None
    kind: EntryKind
    held_micros: int
    spent_micros: int
    periods: Periods
    at_ms: int
    actor: str
    reason: str = ""


class TenantStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"


#: Shares of a budget, in whole percent, at which a tenant that names none is warned.
WARN_PERCENTS = (80, 100)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A team. None means the documented default of that limit, or no restriction.

    ``zone`` is an IANA time zone: its days and months begin there. ``price_ppm`` multiplies list prices, in
    millionths. At ``warn_percents`` of a budget it is warned. Its tasks have ``start_within_s`` to start.
    """

    id: str
    name: str
    status: TenantStatus
    created_at_ms: int
    zone: str = "UTC"
    price_ppm: int = 1_000_000
    rpm: int | None = None
    max_concurrent: int | None = None
    max_queued: int | None = None
    weight: int = 1
    allowed_models: tuple[str, ...] | None = None
    allowed_formats: tuple[str, ...] | None = None
    retention_days: int | None = None
    start_within_s: int | None = None
    warn_percents: tuple[int, ...] = WARN_PERCENTS


class Role(StrEnum):
    """What a person may do within a tenant."""

    OWNER = "owner"
    DEVELOPER = "developer"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class Member:
    """A person of a tenant, known by the address that they sign in with."""

    tenant_id: str
    email: str
    role: Role
    created_at_ms: int


class KeyMode(StrEnum):
    """Live keys reach Google's models and cost money; test keys reach the emulator and cost nothing."""

    LIVE = "live"
    TEST = "test"


class Scope(StrEnum):
    """What a key may be used for."""

    GENERATE = "generate"
    READ = "read"


class KeyState(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"
    REVOKED = "revoked"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the database knows it: never the secret, only its SHA-256 (hex).

    ``id`` stays the same through rotations. ``allowed_models`` None means all that the tenant may use.
    ``rotation_sha256`` is the hash of the name that the caller gave the rotation which made this secret.
    """

    id: str
    tenant_id: str
    name: str
    sha256: str
    created_at_ms: int
    rpm: int | None = None
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    mode: KeyMode = KeyMode.LIVE
    owner: str = ""
    tags: tuple[str, ...] = ()
    scopes: frozenset[Scope] = ALL_SCOPES
    allowed_models: tuple[str, ...] | None = None
    max_queued: int | None = None
    disabled_at_ms: int | None = None
    last_used_at_ms: int | None = None
    created_by: str = ""
    rotated_at_ms: int | None = None
    rotation_sha256: str | None = None

    def state_at(self, now_ms: int) -> KeyState:
        """Revoked is for good and outweighs expired, which outweighs disabled."""
        if self.revoked_at_ms is not None:
            return KeyState.REVOKED
        if self.expires_at_ms is not None and now_ms >= self.expires_at_ms:
            return KeyState.EXPIRED
        return KeyState.DISABLED if self.disabled_at_ms is not None else KeyState.ACTIVE


@dataclass(frozen=True, slots=True)
class RetiredSecret:
    """A secret that a rotation replaced; it is good until ``expires_at_ms``."""

    sha256: str
    key_id: str
    retired_at_ms: int
    expires_at_ms: int
    rotation_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, once a presented key has been checked. ``allowed_models`` None means all there are."""

    tenant_id: str
    key_id: str
    scopes: frozenset[Scope] = ALL_SCOPES
    mode: KeyMode = KeyMode.LIVE
    allowed_models: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of a list ended: the moment of its last item's making, and its id."""

    at_ms: int
    id: str


@dataclass(frozen=True, slots=True)
class Act:
    """Who does something administrative, from where (an address, or a program), and in which request."""

    actor: str
    source: str
    request_id: str = ""
