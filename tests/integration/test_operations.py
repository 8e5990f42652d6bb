"""/livez, /readyz, /metrics, /openapi.yaml."""

import math
import shutil

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.bootstrap.services import Services
from gateway.settings import Settings
from tests.api import Caller
from tests.specification import PATH


async def samples(client: httpx.AsyncClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of /metrics but the times at which they were made."""
    text = (await client.get("/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


# Probes


async def test_a_process_that_answers_is_alive(client: httpx.AsyncClient) -> None:
    response = await client.get("/livez")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_a_gateway_that_has_everything_is_ready(client: httpx.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "checks": {"database": "ok", "storage": "ok"}}


async def test_without_its_storage_it_is_not_ready_and_says_so(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    shutil.rmtree(settings.data_dir / "audio", ignore_errors=True)
    (settings.data_dir / "audio").write_text("in the way")
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
    assert response.json()["checks"]["database"] == "ok"
    assert response.json()["checks"]["storage"] != "ok"
    assert int(response.headers["retry-after"]) >= 1


async def test_without_its_database_it_is_alive_but_not_ready(
    client: httpx.AsyncClient, services: Services
) -> None:
    await services.database.close()
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert response.json()["checks"]["storage"] == "ok"
    assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.yaml", "/"])
async def test_head_is_answered_wherever_get_is(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.head(path)).status_code == 200


# Metrics


@pytest.mark.usefixtures("worker")
async def test_what_happens_is_counted(client: httpx.AsyncClient, caller: Caller) -> None:
    await caller.ended((await caller.ask())["task_id"])
    found = await samples(client)
    tasks = {"model": "musicgen", "state": "succeeded", "mode": "live"}
    assert found["gateway_tasks_total", frozenset(tasks.items())] == 1
    calls = {"model": "musicgen", "outcome": "delivered", "mode": "live"}
    assert found["gateway_upstream_calls_total", frozenset(calls.items())] == 1
    stored = found["gateway_stored_bytes_total", frozenset({("model", "musicgen")})]
    assert stored > 10_000
    requests = {"route": "/api/music_generate", "method": "POST", "status": "202"}
    assert found["gateway_http_requests_total", frozenset(requests.items())] == 1


async def test_the_queue_is_counted_when_asked(client: httpx.AsyncClient, caller: Caller) -> None:
    await caller.ask()
    await caller.ask_lyria()
    await caller.ask_lyria()
    found = await samples(client)
    assert found["gateway_tasks_waiting", frozenset({("model", "musicgen")})] == 1
    assert found["gateway_tasks_waiting", frozenset({("model", "lyria-002")})] == 2
    oldest = {mode: frozenset({("model", "lyria-002"), ("mode", mode)}) for mode in ("live", "test")}
    assert found["gateway_tasks_oldest_seconds", oldest["live"]] > 0
    assert found["gateway_tasks_oldest_seconds", oldest["test"]] == 0


async def test_without_the_database_the_rest_is_still_told(
    client: httpx.AsyncClient, caller: Caller, services: Services
) -> None:
    await caller.ask()
    await samples(client)
    await services.database.close()
    found = await samples(client)
    assert found["gateway_scrapes_incomplete_total", frozenset()] == 1
    assert math.isnan(found["gateway_tasks_waiting", frozenset({("model", "musicgen")})])


async def test_no_caller_can_add_a_series(client: httpx.AsyncClient, caller: Caller) -> None:
    garbage = [
        ("GET", "/a"),
        ("BREW", "/a"),
        ("GET", "/api/task-status/a"),
        ("DELETE", "/api/music_generate"),
    ]
    for method, path in garbage:
        await client.request(method, path)
    await samples(client)  # the first scrape counts itself in the second
    before = set(await samples(client))
    for n in range(20):
        await client.get(f"/{n}")
        await client.request(f"BREW{n}", "/a")
        await client.get(f"/api/task-status/{n}")
        await client.get(f"/a?{n}", headers={"User-Agent": str(n), "Host": f"host{n}"})
    assert set(await samples(client)) == before
    text = (await client.get("/metrics")).text
    assert caller.tenant_id not in text


# The specification


async def test_the_specification_is_served_as_it_stands(client: httpx.AsyncClient) -> None:
    response = await client.get("/openapi.yaml")
    assert response.headers["content-type"].startswith("application/yaml")
    assert response.content == PATH.read_bytes()
