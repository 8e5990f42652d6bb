"""POST /api/music_generate: one test for each status and behaviour."""

import json

import httpx
import pytest

from gateway.bootstrap.services import Services, open_services
from gateway.settings import Settings
from tests.api import BASE_URL, Caller, checked_client, make_apis, make_app, make_caller
from tests.clock import SetClock
from tests.emulator import RunningEmulator
from tests.specification import Specification

PROMPT = "uplifting electronic track with soft piano and warm pads"


# 200: the music is there


@pytest.mark.usefixtures("worker")
async def test_the_published_request_is_answered_with_a_link_to_audio(caller: Caller) -> None:
    payload = {"prompt": PROMPT, "durationSeconds": 2, "sampleCount": 1}
    response = await caller.post(json=payload)
    task = response.json()
    assert response.status_code == 200
    assert task["status"] == "succeeded"
    assert task["audio_url"] == task["audio_urls"][0] == task["image_url"] == task["outputs"][0]["url"]
    assert task["request"] == payload
    assert task["outputs"][0]["seconds"] == 2.0


async def test_a_prompt_alone_gets_the_documented_defaults(caller: Caller) -> None:
    response = await caller.post(json={"prompt": PROMPT}, headers={"Prefer": "respond-async"})
    assert response.json()["request"] == {"prompt": PROMPT, "sampleCount": 1, "durationSeconds": 30}


@pytest.mark.usefixtures("worker")
async def test_several_clips_come_in_order_each_with_its_seed(caller: Caller) -> None:
    task = (
        await caller.post(json={"prompt": PROMPT, "durationSeconds": 1, "sampleCount": 4, "seed": 41})
    ).json()
    assert [clip["index"] for clip in task["outputs"]] == [0, 1, 2, 3]
    assert [clip["seed"] for clip in task["outputs"]] == [41, 42, 43, 44]
    assert len(set(task["audio_urls"])) == 4


@pytest.mark.usefixtures("worker")
async def test_a_model_may_be_named(caller: Caller) -> None:
    task = (await caller.post(json={"prompt": PROMPT, "model": "lyria-002", "durationSeconds": 1})).json()
    assert (task["model"], task["price"]["usd"], task["price"]["charged_micros"]) == (
        "lyria-002",
        "0.06",
        60_000,
    )


@pytest.mark.usefixtures("worker")
async def test_a_task_that_failed_is_a_200_that_says_why(caller: Caller, emulator: RunningEmulator) -> None:
    emulator.script({"preset": "safety"})
    response = await caller.post(json={"prompt": PROMPT, "durationSeconds": 1})
    task = response.json()
    assert response.status_code == 200
    assert (task["status"], task["error"]["code"], task["audio_url"]) == ("failed", "safety_blocked", None)
    assert task["price"]["charged_micros"] == 0


@pytest.mark.usefixtures("worker")
async def test_metadata_comes_back(caller: Caller) -> None:
    metadata = {"project": "spring campaign", "größe": "kurz\n"}
    task = (await caller.post(json={"prompt": PROMPT, "durationSeconds": 1, "metadata": metadata})).json()
    assert task["metadata"] == metadata


# 200 and 202: forms


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param({"json": {"prompt": PROMPT, "durationSeconds": 2.0, "seed": 41}}, id="json"),
        pytest.param({"data": {"prompt": PROMPT, "durationSeconds": "2", "seed": "41.0"}}, id="urlencoded"),
        pytest.param(
            {"files": {"prompt": (None, PROMPT), "durationSeconds": (None, " 2 "), "seed": (None, "41")}},
            id="multipart fields",
        ),
        pytest.param(
            {"files": {"body": (None, json.dumps({"prompt": PROMPT, "durationSeconds": 2, "seed": 41}))}},
            id="multipart body",
        ),
        pytest.param(
            {
                "files": {
                    "body": (
                        "body.json",
                        json.dumps({"prompt": PROMPT, "durationSeconds": 2, "seed": 41}),
                        "application/json",
                    )
                }
            },
            id="multipart body as a file",
        ),
        pytest.param(
            {"files": {"prompt": (None, PROMPT), "body": (None, '{"durationSeconds": 2, "seed": 41}')}},
            id="multipart field and body",
        ),
    ],
)
async def test_each_way_of_sending_means_the_same(caller: Caller, sent: dict[str, object]) -> None:
    response = await caller.post(**sent, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    assert response.json()["request"] == {
        "prompt": PROMPT,
        "sampleCount": 1,
        "durationSeconds": 2,
        "seed": 41,
    }


# 202: it goes on


async def test_respond_async_is_answered_at_once_with_where_to_ask(caller: Caller) -> None:
    response = await caller.post(json={"prompt": PROMPT}, headers={"Prefer": "respond-async"})
    task = response.json()
    assert response.status_code == 202
    assert task["status"] == "queued"
    assert response.headers["location"] == f"/api/task-status/{task['task_id']}"
    assert task["status_url"].endswith(response.headers["location"])
    assert response.headers["preference-applied"] == "respond-async"
    assert int(response.headers["retry-after"]) >= 1
    assert (await caller.status(task["task_id"])).json() == task


async def test_wait_is_over_after_its_seconds(caller: Caller) -> None:
    response = await caller.post(json={"prompt": PROMPT}, headers={"Prefer": "wait=1"})
    assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=1")


@pytest.mark.usefixtures("worker")
async def test_wait_long_enough_is_answered_with_the_music(caller: Caller) -> None:
    response = await caller.post(
        json={"prompt": PROMPT, "durationSeconds": 1}, headers={"Prefer": "respond-async, wait=25"}
    )
    assert (response.status_code, response.headers["preference-applied"]) == (200, "wait=25")


@pytest.mark.usefixtures("worker")
async def test_a_longer_wait_than_is_granted_says_what_was_granted(caller: Caller) -> None:
    response = await caller.post(
        json={"prompt": PROMPT, "durationSeconds": 1}, headers={"Prefer": "wait=999"}
    )
    assert response.headers["preference-applied"] == "wait=30"


async def test_a_preference_nobody_knows_is_ignored(caller: Caller) -> None:
    response = await caller.post(json={"prompt": PROMPT}, headers={"Prefer": "handling=lenient, wait=0"})
    assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=0")


# 400


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({}, "prompt", "missing"),
        ({"prompt": "x", "durationSeconds": 41.5}, "durationSeconds", "wrong_type"),
        ({"prompt": "x", "tempo": 120}, "tempo", "unknown_field"),
        ({"prompt": "x", "model": "lyria-999"}, "model", "unknown_model"),
        ({"prompt": "x", "durationSeconds": 301}, "durationSeconds", "out_of_range"),
        ({"prompt": "x", "outputFormat": "aac"}, "outputFormat", "unknown_value"),
        ({"prompt": "x", "outputFormat": "wav", "bitrateKbps": 128}, "bitrateKbps", "not_for_format"),
        ({"prompt": "x", "outputFormat": "mp3", "bitrateKbps": 100}, "bitrateKbps", "unknown_value"),
        ({"prompt": "x", "loudnessLufs": 0}, "loudnessLufs", "out_of_range"),
        ({"prompt": "x", "loudnessLufs": True}, "loudnessLufs", "wrong_type"),
        ({"prompt": "тихая музыка"}, "prompt", "language_unsupported"),
        ({"body": {"prompt": "x"}}, "body", "wrapped"),
    ],
)
async def test_a_wrong_field_is_named(caller: Caller, fields: object, field: str, code: str) -> None:
    response = await caller.post(json=fields)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (400, "invalid_request")
    assert [(error["field"], error["code"]) for error in problem["errors"]] == [(field, code)]
    assert problem["errors"][0]["detail"] in problem["detail"]


async def test_every_wrong_field_is_named_at_once(caller: Caller) -> None:
    problem = (await caller.post(json={"durationSeconds": 0, "tempo": 1})).json()
    assert {error["field"] for error in problem["errors"]} == {"prompt", "durationSeconds", "tempo"}


async def test_a_refused_request_costs_nothing_of_the_rate(
    client: httpx.AsyncClient, services: Services
) -> None:
    caller = await make_caller(client, services, "small", key_rpm=1)
    assert (await caller.post(json={})).status_code == 400
    assert (await caller.post(json={"prompt": "x"}, headers={"Prefer": "wait=0"})).status_code == 202


async def test_what_is_not_json_is_a_malformed_body(caller: Caller) -> None:
    response = await caller.post(content=b"{'prompt': 1}", headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")


# 401, 413, 415


async def test_without_a_key_nothing_is_read(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/music_generate", content=b"not json")
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert "X-Api-Key" in response.headers["www-authenticate"]


@pytest.mark.parametrize("extra", [0, 1])
async def test_a_body_of_the_limit_passes_and_one_byte_more_does_not(caller: Caller, extra: int) -> None:
    body = b'{"prompt": "x"}'.ljust(65_536 + extra)
    headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
    response = await caller.post(content=body, headers=headers)
    assert response.status_code == (413 if extra else 202)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/xml", "application/json; charset=utf-16", "application/jsonp"],
)
async def test_another_content_type_is_told_what_is_read(caller: Caller, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await caller.post(content=b'{"prompt": "x"}', headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


# 429


async def test_a_key_has_its_requests_a_minute(client: httpx.AsyncClient, services: Services) -> None:
    caller = await make_caller(client, services, "small", key_rpm=2)
    headers = {"Prefer": "respond-async"}
    first, second, third = [await caller.post(json={"prompt": "x"}, headers=headers) for _ in range(3)]
    assert [first.headers["ratelimit-policy"], first.headers["ratelimit"]] == [
        '"key";q=2;w=60',
        '"key";r=1;t=60',
    ]
    assert second.headers["ratelimit"].startswith('"key";r=0;t=')
    assert (third.status_code, third.json()["code"]) == (429, "rate_limited")
    assert third.json()["violated-policies"] == ["key"]
    assert 1 <= int(third.headers["retry-after"]) <= 60
    assert third.headers["ratelimit"] == f'"key";r=0;t={third.headers["retry-after"]}'


async def test_a_tenant_has_its_requests_a_minute_over_all_keys(
    client: httpx.AsyncClient, services: Services
) -> None:
    caller = await make_caller(client, services, "small", rpm=1)
    await caller.ask()
    response = await caller.post(json={"prompt": "x"})
    assert (response.status_code, response.json()["violated-policies"]) == (429, ["tenant"])


async def test_a_tenant_may_have_so_many_tasks_waiting(client: httpx.AsyncClient, services: Services) -> None:
    caller = await make_caller(client, services, "small", max_queued=1)
    await caller.ask()
    response = await caller.post(json={"prompt": "x"})
    assert (response.status_code, response.json()["code"]) == (429, "queue_full")
    assert response.headers["ratelimit-policy"] == '"queued";q=1'


async def test_a_key_that_waits_as_it_was_told_is_let_in_again(
    settings: Settings, specification: Specification
) -> None:
    clock = SetClock()
    async with open_services(settings, clock) as services:
        app = make_app(make_apis(settings, services), services)
        transport = httpx.ASGITransport(app)
        async with checked_client(specification, transport=transport, base_url=BASE_URL) as client:
            caller = await make_caller(client, services, "small", key_rpm=2)
            await caller.ask()
            clock.advance(20)
            await caller.ask()
            refused = await caller.post(json={"prompt": "x"})
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "40")
            clock.advance(39)
            assert (await caller.post(json={"prompt": "x"})).status_code == 429
            clock.advance(1)
            assert (await caller.ask())["status"] == "queued"
