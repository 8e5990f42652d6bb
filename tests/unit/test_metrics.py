"""What the gateway counts, read back by Prometheus's own parser."""

import math
import platform

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.families.lyria2 import LYRIA2
from gateway.families.musicgen import MUSICGEN
from gateway.families.registry import KINDS
from gateway.metrics import Backlog, CallMetrics, CallOutcome, Metrics
from gateway.model import KeyMode, ModelKind, TaskState


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_two_sets_of_metrics_do_not_meet() -> None:
    first, second = Metrics("1"), Metrics("1")
    first.task_changed(LYRIA2, TaskState.QUEUED, KeyMode.LIVE)
    assert value(second, "gateway_tasks_total", model="lyria-002", state="queued", mode="live") == 0


def test_requests_are_counted_by_route_method_and_status(metrics: Metrics) -> None:
    metrics.request_answered("/livez", "GET", 200, 0.002)
    metrics.request_answered("/livez", "GET", 200, 0.2)
    metrics.request_answered("/livez", "POST", 405, 0.1)
    counted = {"route": "/livez", "method": "GET", "status": "200"}
    assert value(metrics, "gateway_http_requests_total", **counted) == 2
    assert value(metrics, "gateway_http_requests_total", **counted | {"method": "POST", "status": "405"}) == 1
    assert value(metrics, "gateway_http_request_seconds_count", route="/livez") == 3
    assert value(metrics, "gateway_http_request_seconds_bucket", route="/livez", le="0.0025") == 1


@pytest.mark.parametrize("mode", list(KeyMode))
@pytest.mark.parametrize("state", list(TaskState))
@pytest.mark.parametrize("model", KINDS)
def test_tasks_are_counted_from_zero(
    metrics: Metrics, model: ModelKind, state: TaskState, mode: KeyMode
) -> None:
    labels = {"model": model, "state": state.value, "mode": mode.value}
    assert value(metrics, "gateway_tasks_total", **labels) == 0
    metrics.task_changed(model, state, mode)
    assert value(metrics, "gateway_tasks_total", **labels) == 1


@pytest.mark.parametrize("mode", list(KeyMode))
@pytest.mark.parametrize("outcome", list(CallOutcome))
def test_calls_are_counted_from_zero(metrics: Metrics, outcome: CallOutcome, mode: KeyMode) -> None:
    labels = {"model": "musicgen", "outcome": outcome.value, "mode": mode.value}
    assert value(metrics, "gateway_upstream_calls_total", **labels) == 0
    metrics.call_ended(MUSICGEN, outcome, mode)
    CallMetrics(metrics, mode).on_call(MUSICGEN, "ok", 12.0, 1000)
    assert value(metrics, "gateway_upstream_calls_total", **labels) == 1
    of_mode = {"model": "musicgen", "mode": mode.value}
    assert value(metrics, "gateway_upstream_seconds_sum", **of_mode) == 12.0
    assert value(metrics, "gateway_received_bytes_total", **of_mode) == 1000


def test_what_the_emulator_answers_test_keys_is_not_in_the_figures_of_live_ones(metrics: Metrics) -> None:
    metrics.task_changed(LYRIA2, TaskState.FAILED, KeyMode.TEST)
    metrics.call_ended(LYRIA2, CallOutcome.UNKNOWN, KeyMode.TEST)
    CallMetrics(metrics, KeyMode.TEST).on_call(LYRIA2, "unknown", 1.0, 0)
    live = {"model": "lyria-002", "mode": "live"}
    assert value(metrics, "gateway_tasks_total", **live, state="failed") == 0
    assert value(metrics, "gateway_upstream_calls_total", **live, outcome="unknown") == 0
    assert value(metrics, "gateway_upstream_seconds_count", **live) is None


def test_what_waits_is_what_waits_now(metrics: Metrics) -> None:
    metrics.backlog.counted(Backlog({"lyria-002": 7}, {(LYRIA2, KeyMode.LIVE): 8.5}, 3))
    metrics.backlog.counted(Backlog({"musicgen": 2}, {(MUSICGEN, KeyMode.TEST): 1.5}, 1))
    assert value(metrics, "gateway_tasks_waiting", model="lyria-002") == 0
    assert value(metrics, "gateway_tasks_waiting", model="musicgen") == 2
    assert value(metrics, "gateway_tasks_oldest_seconds", model="lyria-002", mode="live") == 0
    assert value(metrics, "gateway_tasks_oldest_seconds", model="musicgen", mode="test") == 1.5
    assert value(metrics, "gateway_webhooks_pending") == 1


def test_what_cannot_be_counted_is_not_what_it_was_before(metrics: Metrics) -> None:
    metrics.backlog.counted(Backlog({"lyria-002": 7}, {(LYRIA2, KeyMode.LIVE): 8.5}, 3))
    metrics.backlog.unknown()
    for name, labels in (
        ("gateway_tasks_waiting", {"model": "lyria-002"}),
        ("gateway_tasks_oldest_seconds", {"model": "lyria-002", "mode": "live"}),
        ("gateway_webhooks_pending", {}),
    ):
        assert math.isnan(value(metrics, name, **labels) or 0.0), name
    assert value(metrics, "gateway_scrapes_incomplete_total") == 1


def test_stored_bytes_add_up(metrics: Metrics) -> None:
    metrics.uploads.stored(LYRIA2, 1000)
    metrics.uploads.stored(LYRIA2, 44)
    assert value(metrics, "gateway_stored_bytes_total", model="lyria-002") == 1044


def test_the_build_is_told(metrics: Metrics) -> None:
    build = {"version": "1.2.3", "python": platform.python_version()}
    assert value(metrics, "gateway_build_info", **build) == 1


def test_every_metric_says_what_it_is(metrics: Metrics) -> None:
    metrics.request_answered("/livez", "GET", 200, 0.1)
    for family in text_string_to_metric_families(metrics.render().decode()):
        assert family.documentation.endswith("."), family.name
