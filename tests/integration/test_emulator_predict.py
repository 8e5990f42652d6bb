"""Predict calls over a real socket: what comes back, and what is noted down."""

import asyncio
import base64
import io
import wave

import httpx
import pytest

from tests.emulator import RunningEmulator, start_emulator

LYRIA = "/v1/projects/p/locations/us-central1/publishers/google/models/lyria-002:predict"
MUSICGEN = "/v1/projects/p/locations/us-central1/endpoints/7:predict"


def ask(
    emulator: RunningEmulator, path: str = LYRIA, *, parameters=None, headers=None, **instance
) -> httpx.Response:
    body = {"instances": [{"prompt": "warm jazz"} | instance], "parameters": parameters or {}}
    return httpx.post(emulator.url + path, json=body, headers=headers, timeout=60)


def clips_of(answer: httpx.Response) -> list[bytes]:
    assert answer.status_code == 200, answer.text
    return [base64.b64decode(entry["audioContent"], validate=True) for entry in answer.json()["predictions"]]


def shape_of(clip: bytes) -> tuple[int, int, int, int]:
    with wave.open(io.BytesIO(clip)) as file:
        return file.getframerate(), file.getnchannels(), file.getsampwidth() * 8, file.getnframes()


def test_a_clip_of_lyria_is_exactly_as_long_as_googles(emulator):
    emulator.settings(lyria_seconds=32.8)
    assert shape_of(clips_of(ask(emulator))[0]) == (48_000, 2, 16, 1_574_400)


@pytest.mark.parametrize("seconds", [1, 3])
def test_an_endpoint_answers_with_the_length_that_was_asked_for(emulator, seconds):
    clip = clips_of(ask(emulator, MUSICGEN, parameters={"duration_seconds": seconds}))[0]
    assert shape_of(clip) == (32_000, 1, 16, 32_000 * seconds)


def test_the_same_seed_gives_the_same_bytes_and_no_seed_fresh_ones(emulator):
    assert clips_of(ask(emulator, seed=5)) == clips_of(ask(emulator, seed=5))
    assert clips_of(ask(emulator)) != clips_of(ask(emulator))


def test_every_clip_of_an_unseeded_batch_is_another(emulator):
    assert len(set(clips_of(ask(emulator, parameters={"sample_count": 4})))) == 4


def test_a_seeded_batch_counts_up_from_its_seed(emulator):
    batch = clips_of(
        ask(emulator, MUSICGEN, parameters={"duration_seconds": 1, "sample_count": 2, "seed": 7})
    )
    second = clips_of(ask(emulator, MUSICGEN, parameters={"duration_seconds": 1, "seed": 8}))
    assert batch[1] == second[0]


def test_a_default_seed_makes_unseeded_calls_repeat(emulator):
    emulator.settings(default_seed=3)
    assert clips_of(ask(emulator)) == clips_of(ask(emulator)) == clips_of(ask(emulator, seed=3))


@pytest.mark.parametrize(
    "path",
    [
        LYRIA.replace("/v1/", "/v1beta1/"),
        LYRIA.replace("us-central1", "global"),
        LYRIA.replace("/p/", "/example.com:p/"),
        LYRIA + "?$alt=json;enum-encoding=int",
        MUSICGEN.replace("/v1/", "/v1beta1/"),
    ],
)
def test_google_has_several_addresses_for_the_same(emulator, path):
    assert ask(emulator, path).status_code == 200


def test_every_answer_says_that_it_is_an_emulators(emulator):
    answers = [
        ask(emulator),
        ask(emulator, prompt=""),
        httpx.get(f"{emulator.url}/"),
        httpx.get(f"{emulator.url}/nowhere"),
    ]
    assert [answer.headers["x-emulator"] for answer in answers] == ["gateway-emulator"] * 4
    assert "not a Google service" in answers[2].text


def test_an_unknown_model_is_googles_404(emulator):
    answer = ask(emulator, LYRIA.replace("lyria-002", "lyria-009"))
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"
    assert "locations/us-central1/publishers/google/models/lyria-009" in answer.json()["error"]["message"]
    assert ask(emulator, LYRIA.replace("/google/", "/elsewhere/")).status_code == 404
    assert emulator.calls()["by_model"]["lyria-009"]["invalid"] == 1


@pytest.mark.parametrize(
    ("method", "path"), [("GET", LYRIA), ("POST", "/v1/projects"), ("POST", LYRIA + "/x")]
)
def test_an_unknown_path_or_method_is_googles_page(emulator, method, path):
    answer = httpx.request(method, emulator.url + path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


def test_a_request_larger_than_googles_limit_is_refused(emulator):
    answer = ask(emulator, prompt="x" * 1_600_000)
    assert answer.status_code == 400
    assert "payload size exceeds the limit" in answer.json()["error"]["message"]


def test_the_log_tells_what_was_asked_but_not_in_which_words(emulator):
    ask(emulator, prompt="secret words", negative_prompt="more of them", parameters={"sample_count": 2})
    report = emulator.calls()
    assert "secret" not in str(report)
    call = report["calls"][0]
    assert len(call["prompt_sha256"]) == len(call["negative_prompt_sha256"]) == 64
    assert (call["sample_count"], call["seed"], call["http_status"], call["outcome"]) == (
        2,
        None,
        200,
        "answered",
    )
    assert (report["paid"], report["clips"], report["by_model"]["lyria-002"]["clips"]) == (1, 2, 2)


def test_a_token_is_noticed(emulator):
    ask(emulator, headers={"Authorization": "Bearer t"})
    assert emulator.calls()["calls"][0]["authorized"]


def test_refused_requests_cost_nothing(emulator):
    ask(emulator, prompt="")
    ask(emulator, prompt="тихая музыка")
    report = emulator.calls()
    assert (report["received"], report["paid"], report["invalid"], report["blocked"]) == (2, 0, 1, 1)


def test_a_well_known_phrase_is_blocked_the_first_time(emulator):
    first = ask(emulator, prompt="single piano note C major")
    assert first.status_code == 400
    assert "recitation" in first.json()["error"]["message"]
    assert ask(emulator, prompt="single piano note C major").status_code == 200
    assert (emulator.calls()["blocked"], emulator.calls()["paid"]) == (1, 1)


async def test_it_answers_others_while_it_composes(emulator):
    emulator.settings(lyria_seconds=60)
    async with httpx.AsyncClient(base_url=emulator.url, timeout=60) as client:
        composing = asyncio.create_task(
            client.post(LYRIA, json={"instances": [{"prompt": "epic orchestra"}]})
        )
        await asyncio.to_thread(emulator.wait_until_running, 1)
        assert (await client.get("/control/health")).json()["status"] == "ok"
        assert not composing.done()
        assert (await composing).status_code == 200


async def test_calls_for_the_same_clip_share_one_rendering_and_all_are_paid(emulator):
    async with httpx.AsyncClient(base_url=emulator.url, timeout=60) as client:
        body = {"instances": [{"prompt": "choir", "seed": 1}]}
        answers = await asyncio.gather(*(client.post(LYRIA, json=body) for _ in range(5)))
    assert len({answer.content for answer in answers}) == 1
    assert (emulator.calls()["paid"], emulator.calls()["peak_running"] >= 1) == (5, True)


def test_latency_can_be_set_from_the_start():
    with start_emulator("--latency", "0.25") as slow:
        assert slow.settings()["latency_s"] == 0.25
        answer = ask(slow)
        assert answer.elapsed.total_seconds() >= 0.25
