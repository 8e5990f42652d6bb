"""Every Prometheus metric, declared once, with closed label values."""

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from gateway.families.registry import KINDS
from gateway.messages import TryOutcome
from gateway.model import KeyMode, ModelKind, TaskState

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15, 30, 60, 120, 300)
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_WEBHOOK_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 3600, 21_600, 86_400)
_UPSTREAM_BUCKETS = (0.05, 0.25, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 120, 180, 300)


class CallOutcome(StrEnum):
    """How a call to a model ended: delivered, or one of `gateway.errors.AttemptFault`, or storage."""

    DELIVERED = "delivered"
    PARTIAL = "partial"
    REFUSED = "refused"
    RECITATION = "recitation"
    BUSY = "busy"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    BROKEN = "broken"
    MISCONFIGURED = "misconfigured"
    STORAGE = "storage"


class UploadOutcome(StrEnum):
    """What became of a clip that storage was given again."""

    STORED = "stored"
    FAILED = "failed"


class CallMetrics:
    """Counts the calls made for keys of one mode. Satisfies `gateway.upstream.client.CallObserver`."""

    def __init__(self, metrics: "Metrics", mode: KeyMode) -> None:
        self._metrics = metrics
        self._mode = mode

    def on_call(self, kind: ModelKind, outcome: str, seconds: float, size_bytes: int) -> None:  # noqa: ARG002 - the protocol's signature
        """``outcome`` knows nothing of storage: `Metrics.call_ended` is told the whole one."""
        self._metrics.answered(kind, self._mode, seconds, size_bytes)


class WebhookMetrics:
    """What the pump does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tries = Counter(
            "gateway_webhook_tries_total",
            "Tries of webhook deliveries, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "gateway_webhook_seconds",
            "Seconds from an event to its delivery, replays apart.",
            registry=registry,
            buckets=_WEBHOOK_BUCKETS,
        )
        for outcome in TryOutcome:
            self._tries.labels(outcome.value)

    def tried(self, outcome: TryOutcome) -> None:
        self._tries.labels(outcome.value).inc()


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the database, and so is the same whichever instance is asked.

    ``waiting`` are tasks by model, ``oldest_s`` how old the oldest of them is by model and mode, without
    those of suspended tenants; where nothing waits, they say nothing.
    """

    waiting: Mapping[str, int]
    oldest_s: Mapping[tuple[ModelKind, KeyMode], float]
    webhooks: int


class BacklogMetrics:
    """What waits, as of this scrape. ``gauge`` makes gauges, ``counter`` counters."""

    def __init__(self, gauge: Callable[..., Gauge], counter: Callable[..., Counter]) -> None:
        self._waiting = gauge("gateway_tasks_waiting", "Tasks queued now, by model.", "model")
        self._oldest = gauge(
            "gateway_tasks_oldest_seconds",
            "Age of the oldest task queued now, by model and mode of the key; suspended tenants apart.",
            "model",
            "mode",
        )
        self._webhooks = gauge(
            "gateway_webhooks_pending", "Webhook deliveries that are due or wait for another try."
        )
        self._incomplete = counter(
            "gateway_scrapes_incomplete_total",
            "Scrapes that had to leave the queue out because the database did not answer.",
        )
        self.counted(Backlog({}, {}, 0))

    def counted(self, backlog: Backlog) -> None:
        self._webhooks.set(backlog.webhooks)
        for model in KINDS:
            self._waiting.labels(model).set(backlog.waiting.get(model, 0))
            for mode in KeyMode:
                self._oldest.labels(model, mode.value).set(backlog.oldest_s.get((model, mode), 0.0))

    def unknown(self) -> None:
        """What an earlier scrape found would pass for the present, and outweigh what others find."""
        self._incomplete.inc()
        self._webhooks.set(math.nan)
        for model in KINDS:
            self._waiting.labels(model).set(math.nan)
            for mode in KeyMode:
                self._oldest.labels(model, mode.value).set(math.nan)


class GuardName(StrEnum):
    """What the abuse guard counts; also the name of the limit in RateLimit headers."""

    READS = "reads"
    BAD_KEYS = "bad_keys"


class Uncounted(StrEnum):
    """What became of a request that the abuse guard could not count."""

    ALLOWED = "allowed"
    REFUSED = "refused"


class GuardMetrics:
    """What the abuse guard refused, and what it could not count. ``counter`` makes counters."""

    def __init__(self, counter: Callable[..., Counter]) -> None:
        self._refused = counter(
            "gateway_guard_refused_total",
            "Requests refused by the abuse guard, by what it guards: reads, or bad_keys.",
            "guard",
        )
        self._uncounted = counter(
            "gateway_guard_uncounted_total",
            "Requests that the abuse guard could not count, by guard and by what became of them.",
            "guard",
            "outcome",
        )
        for guard in GuardName:
            self._refused.labels(guard.value)
            for outcome in Uncounted:
                self._uncounted.labels(guard.value, outcome.value)

    def refused(self, guard: GuardName) -> None:
        self._refused.labels(guard.value).inc()

    def not_counted(self, guard: GuardName, outcome: Uncounted) -> None:
        self._uncounted.labels(guard.value, outcome.value).inc()


class UploadMetrics:
    """What storage took, and what it had to be given again. ``counter`` makes counters."""

    def __init__(self, counter: Callable[..., Counter]) -> None:
        self._stored_bytes = counter(
            "gateway_stored_bytes_total", "Bytes of audio put into storage, by model.", "model"
        )
        self._retried = counter(
            "gateway_uploads_retried_total",
            "Clips given to storage again from what was put aside, by outcome: stored, or failed.",
            "outcome",
        )
        for outcome in UploadOutcome:
            self._retried.labels(outcome.value)

    def stored(self, model: ModelKind, size_bytes: int) -> None:
        self._stored_bytes.labels(model).inc(size_bytes)

    def retried(self, outcome: UploadOutcome) -> None:
        self._retried.labels(outcome.value).inc()


class Cause(StrEnum):
    """Why a task was deleted: its tenant asked for it, or keeps its tasks no longer."""

    REQUEST = "request"
    RETENTION = "retention"


class RetentionMetrics:
    """What is deleted for good, and what should not have been there. ``counter`` makes counters."""

    def __init__(self, counter: Callable[..., Counter]) -> None:
        self._tasks = counter(
            "gateway_tasks_deleted_total", "Tasks deleted, by cause: request, or retention.", "cause"
        )
        self._objects = counter(
            "gateway_objects_deleted_total",
            "Tries to delete discarded audio from storage, by outcome: deleted, or failed.",
            "outcome",
        )
        self.orphans = counter(
            "gateway_orphans_found_total", "Objects found in storage that no task refers to."
        )
        for cause in Cause:
            self._tasks.labels(cause.value)
        for outcome in ("deleted", "failed"):
            self._objects.labels(outcome)

    def tasks_deleted(self, cause: Cause, count: int) -> None:
        self._tasks.labels(cause.value).inc(count)

    def objects_deleted(self, *, deleted: int, failed: int) -> None:
        self._objects.labels("deleted").inc(deleted)
        self._objects.labels("failed").inc(failed)


class Metrics:
    """The process's metrics, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._tell_build(version)
        self._declare_requests()
        self._tasks = self._counter(
            "gateway_tasks_total",
            "Tasks that entered a state, by model, state and mode of the key.",
            "model",
            "state",
            "mode",
        )
        self.backlog = BacklogMetrics(self._gauge, self._counter)
        self.running = self._gauge("gateway_tasks_running", "Tasks this process runs now.")
        self._upstream_seconds = self._histogram(
            "gateway_upstream_seconds",
            "Seconds a call to a model took, by model and mode of the key.",
            _UPSTREAM_BUCKETS,
            "model",
            "mode",
        )
        self._upstream_calls = self._counter(
            "gateway_upstream_calls_total",
            "Calls to a model, by model, outcome and mode of the key.",
            "model",
            "outcome",
            "mode",
        )
        self._received_bytes = self._counter(
            "gateway_received_bytes_total",
            "Bytes of answers received from models, by model and mode of the key.",
            "model",
            "mode",
        )
        self.uploads = UploadMetrics(self._counter)
        self.guard, self.retention = GuardMetrics(self._counter), RetentionMetrics(self._counter)
        self.webhooks = WebhookMetrics(self.registry)
        self.loop_lag = self._histogram(
            "gateway_event_loop_lag_seconds", "How late the event loop woke a timer.", _LAG_BUCKETS
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._show_from_the_start()

    def _declare_requests(self) -> None:
        self._requests = self._counter(
            "gateway_http_requests_total",
            "HTTP requests answered, by route template, method and status.",
            "route",
            "method",
            "status",
        )
        self._request_seconds = self._histogram(
            "gateway_http_request_seconds",
            "Seconds from the request's first byte to the answer's last, by route template; streams apart.",
            _REQUEST_BUCKETS,
            "route",
        )
        self.event_streams = self._gauge("gateway_event_streams", "Event streams open now.")

    def _tell_build(self, version: str) -> None:
        build = self._gauge("gateway_build_info", "Always 1.", "version", "python")
        build.labels(version, platform.python_version()).set(1)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, meaning, labels, buckets=buckets, registry=self.registry)

    def _show_from_the_start(self) -> None:
        """A series that first appears with its first increase hides that increase from `rate()`."""
        for model in KINDS:
            for mode in KeyMode:
                for state in TaskState:
                    self._tasks.labels(model, state.value, mode.value)
                for outcome in CallOutcome:
                    self._upstream_calls.labels(model, outcome.value, mode.value)

    def request_answered(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """``route`` is a template of ours or ``unmatched``; ``method`` one of HTTP's or ``other``.

        Without ``seconds`` it is only counted.
        """
        children = self._children.get((route, method, status))
        if children is None:
            children = (
                self._requests.labels(route, method, str(status)),
                self._request_seconds.labels(route),
            )
            self._children[route, method, status] = children
        children[0].inc()
        if seconds is not None:
            children[1].observe(seconds)

    def task_changed(self, model: ModelKind, state: TaskState, mode: KeyMode) -> None:
        self._tasks.labels(model, state.value, mode.value).inc()

    def call_ended(self, model: ModelKind, outcome: CallOutcome, mode: KeyMode) -> None:
        self._upstream_calls.labels(model, outcome.value, mode.value).inc()

    def answered(self, model: ModelKind, mode: KeyMode, seconds: float, size_bytes: int) -> None:
        """A call took so long and received so much, whatever came of it."""
        self._upstream_seconds.labels(model, mode.value).observe(seconds)
        self._received_bytes.labels(model, mode.value).inc(size_bytes)

    def render(self) -> bytes:
        return generate_latest(self.registry)
