"""GET /api/task-status/{task_id}: one test for each status and behaviour."""

import asyncio

import httpx
import pytest

from gateway.bootstrap.services import open_services
from gateway.model import TaskState
from gateway.settings import Settings
from tests.api import BASE_URL, Caller, checked_client, make_apis, make_app, make_caller
from tests.clock import SetClock
from tests.emulator import RunningEmulator
from tests.factories import ACT
from tests.queueing import put_into
from tests.specification import Specification

UNKNOWN = "task_01k7zq5v9hm3x8c2r6t4w0y1ab"


# 200


async def test_a_waiting_task_says_when_to_ask_again(caller: Caller) -> None:
    task = await caller.ask()
    response = await caller.status(task["task_id"])
    assert (response.status_code, response.json()["status"]) == (200, "queued")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_waiting_task_tells_its_place(caller: Caller) -> None:
    first, second = await caller.ask(), await caller.ask()
    assert first["queue"] == {"position": 1, "starts_in_s": None}
    assert second["queue"] == {"position": 2, "starts_in_s": None}
    assert (await caller.status(second["task_id"])).json()["queue"] == second["queue"]


async def test_a_place_is_told_again_for_a_second_at_most(
    settings: Settings, clock: SetClock, specification: Specification
) -> None:
    async with open_services(settings, clock) as services:
        app = make_app(make_apis(settings, services), services)
        transport = httpx.ASGITransport(app)
        async with checked_client(specification, transport=transport, base_url=BASE_URL) as client:
            caller = await make_caller(client, services, "acme")
            first, second = await caller.ask(), await caller.ask()

            async def position() -> int:
                return int((await caller.status(second["task_id"])).json()["queue"]["position"])

            assert await position() == 2
            await services.database.write(lambda tx: put_into(tx, first["task_id"], TaskState.CANCELED))
            assert await position() == 2
            clock.advance(1.0)
            assert await position() == 1


@pytest.mark.usefixtures("worker")
async def test_a_finished_task_has_its_audio_and_nothing_to_wait_for(caller: Caller) -> None:
    task = await caller.ended((await caller.ask())["task_id"])
    response = await caller.status(task["task_id"])
    assert response.json()["audio_url"] == response.json()["image_url"] is not None
    assert response.json()["queue"] is None
    assert "retry-after" not in response.headers
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.usefixtures("worker")
async def test_a_link_stays_the_same_between_polls(caller: Caller) -> None:
    task = await caller.ended((await caller.ask())["task_id"])
    again = await caller.status(task["task_id"])
    assert again.json()["audio_urls"] == task["audio_urls"]


@pytest.mark.usefixtures("worker")
async def test_waiting_is_over_when_the_task_ends(caller: Caller, emulator: RunningEmulator) -> None:
    emulator.script({"delay_s": 0.3})
    task = await caller.ask()
    response = await caller.status(task["task_id"], Prefer="wait=25")
    assert response.json()["status"] == "succeeded"
    assert response.headers["preference-applied"] == "wait=25"


async def test_waiting_is_over_after_its_seconds(caller: Caller) -> None:
    task = await caller.ask()
    response = await caller.status(task["task_id"], Prefer="wait=1")
    assert (response.status_code, response.json()["status"]) == (200, "queued")


async def test_respond_async_means_nothing_here(caller: Caller) -> None:
    task = await caller.ask()
    response = await caller.status(task["task_id"], Prefer="respond-async")
    assert response.status_code == 200
    assert "preference-applied" not in response.headers


@pytest.mark.usefixtures("worker")
async def test_many_may_wait_for_one_task(caller: Caller) -> None:
    task = await caller.ask()
    answers = await asyncio.gather(*(caller.ended(task["task_id"]) for _ in range(8)))
    assert {answer["audio_url"] for answer in answers} == {answers[0]["audio_url"]}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("preset", "code"),
    [
        ("recitation", "recitation_blocked"),
        ("safety", "safety_blocked"),
        ("language", "language_unsupported"),
        ("not_found", "model_misconfigured"),
    ],
)
async def test_a_failed_task_says_why(
    caller: Caller, emulator: RunningEmulator, preset: str, code: str
) -> None:
    emulator.script({"preset": preset})
    task = await caller.ended((await caller.ask_lyria(seed=1))["task_id"])
    assert (task["status"], task["error"]["code"]) == ("failed", code)
    assert task["error"]["detail"]


@pytest.mark.usefixtures("worker")
async def test_fewer_clips_than_asked_are_delivered_with_a_reason(
    caller: Caller, emulator: RunningEmulator
) -> None:
    emulator.script({"fewer_clips": 1}, {"preset": "safety"})
    task = await caller.ended((await caller.ask_lyria(sampleCount=2))["task_id"])
    assert (task["status"], len(task["audio_urls"])) == ("succeeded", 1)
    assert task["error"]["code"] == "safety_blocked"
    assert any(warning.startswith("1 of 2 clips") for warning in task["warnings"])
    assert task["price"]["charged_micros"] == 60_000


async def test_head_is_answered_like_get(caller: Caller) -> None:
    task = await caller.ask()
    path = f"/api/task-status/{task['task_id']}"
    response = await caller.client.head(path, headers={"X-Api-Key": caller.key})
    assert response.status_code == 200


# 401


async def test_without_a_key_nothing_is_told(caller: Caller) -> None:
    task = await caller.ask()
    response = await caller.client.get(f"/api/task-status/{task['task_id']}")
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


# 404


@pytest.mark.parametrize(
    "task_id", [UNKNOWN, "1", "%00", "%ff", "..", "task_%F0%9F%8E%B9", "x" * 5000, "%27%20OR%201=1"]
)
async def test_an_unknown_task_is_not_found(caller: Caller, task_id: str) -> None:
    response = await caller.status(task_id)
    assert (response.status_code, response.json()["code"]) in {
        (404, "task_not_found"),
        (404, "route_not_found"),
    }


async def test_another_tenants_task_does_not_exist(caller: Caller, stranger: Caller) -> None:
    task = await caller.ask()
    theirs = await stranger.status(task["task_id"])
    unknown = await stranger.status(UNKNOWN)
    assert theirs.status_code == unknown.status_code == 404
    assert theirs.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}


async def test_another_key_of_the_tenant_sees_its_tasks(client: httpx.AsyncClient, caller: Caller) -> None:
    task = await caller.ask()
    _, key = await caller.services.keyring.create(ACT, caller.tenant_id, name="second")
    response = await client.get(f"/api/task-status/{task['task_id']}", headers={"X-Api-Key": key})
    assert response.status_code == 200
