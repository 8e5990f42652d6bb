"""What the running gateway says of itself: logs and metrics."""

import re
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.emulator import RunningEmulator
from tests.running import RunningGateway
from tests.system.patience import until

BODY = {"prompt": "slow piano", "durationSeconds": 1}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
Series = tuple[str, frozenset[tuple[str, str]]]


def series(http: httpx.Client) -> dict[Series, float]:
    """Every sample but the times at which they were made."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def logged(gateway: RunningGateway, request_id: str, message: str) -> dict[str, Any]:
    """The line with this message about this request; it may come a moment after the answer."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        lines = gateway.log_lines()
        found[:] = [ln for ln in lines if ln.get("request_id") == request_id and ln["message"] == message]
        return bool(found)

    until(there)
    return found[0]


# Logs


def test_every_line_is_json_with_the_ids_of_what_was_done(
    gateway: RunningGateway, api: httpx.Client, tenant_id: str
) -> None:
    headers = {"X-Request-Id": "observed-1", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    task = api.post("/api/music_generate", json=BODY, headers=headers).json()
    request = logged(gateway, "observed-1", "POST /api/music_generate")
    work = logged(gateway, "observed-1", "task is succeeded")
    assert (request["logger"], request["status"], request["severity"]) == ("gateway.access", 200, "INFO")
    assert float(request["httpRequest"].pop("latency").removesuffix("s")) == pytest.approx(
        request["ms"] / 1000, abs=0.0001
    )
    assert request["httpRequest"] == {
        "requestMethod": "POST",
        "requestUrl": "/api/music_generate",
        "status": 200,
    }
    for line in (request, work):
        assert (line["tenant_id"], line["task_id"]) == (tenant_id, task["task_id"])
        assert line["logging.googleapis.com/trace"] == f"projects/test-project/traces/{TRACE}"
        assert line["logging.googleapis.com/spanId"] == "00f067aa0ba902b7"
        assert line["logging.googleapis.com/trace_sampled"] is True
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])


def test_no_secret_is_in_any_line(
    gateway: RunningGateway, api: httpx.Client, http: httpx.Client, key: str, emulator: RunningEmulator
) -> None:
    """Also where a caller puts one into an address, a body or a header of another name."""
    link = api.post("/api/music_generate", json=BODY).json()["audio_url"]
    http.get(link)
    http.get(f"/{key}")
    http.get(f"/api/task-status/{key}", params={"key": key})
    http.get("/livez", headers={"X-Request-Id": key, "User-Agent": key})
    http.post("/api/music_generate", json={key: key}, headers={"X-Api-Key": key})
    emulator.script({"status": 400, "message": f"prompt {key} at {link} was refused"})
    api.post("/api/music_generate", json={**BODY, "prompt": link})
    refused = api.post("/api/music_generate", json={**BODY, "prompt": f"a song about {key}"})
    assert refused.json()["errors"][0]["code"] == "contains_key"
    log = gateway.log()
    secret = key.split("_")[3]
    signature = link.split("signature=")[1]
    assert "gateway.access" in log
    assert secret not in log
    assert signature not in log


@pytest.mark.usefixtures("emulator")
def test_prompts_are_not_logged(gateway: RunningGateway, api: httpx.Client) -> None:
    api.post("/api/music_generate", json={**BODY, "prompt": "a very private lullaby"})
    assert "lullaby" not in gateway.log()


# Metrics


def test_metrics_parse_and_count(api: httpx.Client, http: httpx.Client) -> None:
    before = series(http)
    api.post("/api/music_generate", json=BODY)
    after = series(http)
    for name, labels in (
        ("gateway_http_requests_total", {"route": "/api/music_generate", "method": "POST", "status": "200"}),
        ("gateway_tasks_total", {"model": "musicgen", "state": "succeeded", "mode": "live"}),
        ("gateway_upstream_calls_total", {"model": "musicgen", "outcome": "delivered", "mode": "live"}),
    ):
        at = (name, frozenset(labels.items()))
        assert after[at] == before.get(at, 0) + 1, name
    assert any(name == "gateway_build_info" for name, _ in after)
    assert any(name == "gateway_event_loop_lag_seconds_count" for name, _ in after)
    assert any(name == "process_resident_memory_bytes" for name, _ in after)


def test_garbage_adds_no_series(api: httpx.Client, http: httpx.Client) -> None:
    def throw(n: int) -> None:
        http.get(f"/{n}")
        http.request("PROPFIND", f"/{n}")
        http.get(f"/api/task-status/{n}")
        api.get(f"/api/task-status/{n}", headers={"User-Agent": f"agent {n}", "Host": f"host{n}"})
        http.delete(f"/files/{n}")
        api.post("/api/music_generate", json={f"field{n}": n})

    throw(0)
    series(http)
    before = set(series(http))
    for n in range(1, 30):
        throw(n)
    assert set(series(http)) == before


def test_every_metric_says_what_it_is(http: httpx.Client) -> None:
    for family in text_string_to_metric_families(http.get("/metrics").text):
        assert family.documentation, family.name
