"""POST /api/music_generate_lyria: one test for each status and behaviour."""

import httpx
import pytest

from gateway.bootstrap.services import Services
from tests.api import Caller, make_caller
from tests.emulator import RunningEmulator

PATH = "/api/music_generate_lyria"
PAYLOAD = {
    "prompt": "An uplifting and hopeful orchestral piece with soaring strings.",
    "negative_prompt": "dissonant, minor key",
    "sampleCount": 1,
    "seed": 0,
}


@pytest.mark.usefixtures("worker")
async def test_the_published_request_is_answered_with_a_link_to_audio(
    caller: Caller, emulator: RunningEmulator
) -> None:
    response = await caller.post(PATH, json=PAYLOAD)
    task = response.json()
    assert response.status_code == 200
    assert (task["status"], task["model"]) == ("succeeded", "lyria-002")
    assert task["request"] == PAYLOAD
    assert task["outputs"][0]["seed"] == 0
    assert (task["outputs"][0]["sample_rate"], task["outputs"][0]["channels"]) == (48_000, 2)
    assert task["audio_url"] == task["image_url"]
    assert emulator.calls()["paid"] == 1


@pytest.mark.usefixtures("worker")
async def test_several_clips_without_a_seed_are_one_paid_call(
    caller: Caller, emulator: RunningEmulator
) -> None:
    task = (await caller.post(PATH, json={"prompt": "x", "sampleCount": 3})).json()
    assert len(task["audio_urls"]) == 3
    assert task["price"]["usd"] == "0.18"
    assert emulator.calls()["paid"] == 1


@pytest.mark.usefixtures("worker")
async def test_several_clips_with_a_seed_are_one_call_each(caller: Caller, emulator: RunningEmulator) -> None:
    task = (await caller.post(PATH, json={"prompt": "x", "sampleCount": 2, "seed": 41.0})).json()
    assert [clip["seed"] for clip in task["outputs"]] == [41, 42]
    assert emulator.calls()["paid"] == 2


async def test_respond_async_is_answered_at_once(caller: Caller) -> None:
    task = await caller.ask_lyria()
    assert (task["status"], task["model"]) == ("queued", "lyria-002")


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({}, "prompt", "missing"),
        ({"prompt": "x", "sampleCount": 5}, "sampleCount", "out_of_range"),
        ({"prompt": "x", "durationSeconds": 30}, "durationSeconds", "unknown_field"),
        ({"prompt": "x", "model": "musicgen"}, "model", "unknown_model"),
        ({"body": {"prompt": "x"}}, "body", "wrapped"),
    ],
)
async def test_a_wrong_field_is_named(caller: Caller, fields: object, field: str, code: str) -> None:
    response = await caller.post(PATH, json=fields)
    assert response.status_code == 400
    assert [(error["field"], error["code"]) for error in response.json()["errors"]] == [(field, code)]


async def test_what_is_not_json_is_a_malformed_body(caller: Caller) -> None:
    response = await caller.post(PATH, content=b"{", headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")


async def test_without_a_key_there_is_no_music(client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, json=PAYLOAD)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


async def test_a_body_that_is_too_large_is_refused(caller: Caller) -> None:
    response = await caller.post(PATH, json={"prompt": "x" * 70_000})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("sent", [{"data": {"prompt": "x"}}, {"files": {"prompt": (None, "x")}}])
async def test_forms_are_not_for_this_endpoint(caller: Caller, sent: dict[str, object]) -> None:
    response = await caller.post(PATH, **sent)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert response.json()["detail"].endswith("send application/json.")


async def test_both_endpoints_share_one_rate(client: httpx.AsyncClient, services: Services) -> None:
    caller = await make_caller(client, services, "small", key_rpm=1)
    await caller.ask()
    response = await caller.post(PATH, json=PAYLOAD)
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
