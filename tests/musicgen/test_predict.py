"""Predictions of the real server with the tiny model: what is answered, inline and through Cloud Storage."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.gcs import BUCKET, Gcs
from tests.musicgen.container import Container, audio_of, body, read_wav

pytestmark = pytest.mark.xdist_group("musicgen")

PROMPT = "a slow waltz for two pianos"
RATE_HZ = 8_000
LIMIT_BYTES = 1_500_000


def test_a_prediction_is_a_wav_of_exactly_the_length(container: Container) -> None:
    (clip,) = container.predict(PROMPT, duration_seconds=3, seed=5)
    audio = audio_of(clip)
    assert read_wav(audio) == (3 * RATE_HZ, RATE_HZ, 1, 2)
    assert {key: clip[key] for key in clip if key != "bytesBase64Encoded"} == {
        "mimeType": "audio/wav", "seed": 5, "seconds": 3, "sizeBytes": 44 + 3 * RATE_HZ * 2,
    }  # fmt: skip
    assert len(set(audio[44:])) > 100


def test_thirty_seconds_and_one_clip_where_nothing_is_said(container: Container) -> None:
    answer = container.send({"instances": [{"prompt": PROMPT}]})
    (clip,) = answer.json()["predictions"]
    assert clip["seconds"] == 30
    assert read_wav(audio_of(clip))[0] == 30 * RATE_HZ


def test_a_batch_of_four(container: Container) -> None:
    clips = container.predict(PROMPT, duration_seconds=2, sample_count=4, seed=2**32 - 2)
    assert [clip["seed"] for clip in clips] == [2**32 - 2, 2**32 - 1, 0, 1]
    assert len({audio_of(clip) for clip in clips}) == 4


def test_a_seed_gives_the_same_clip_alone_in_a_batch_and_again(container: Container) -> None:
    """Over more than one window, in which the least difference would grow."""
    batch = container.predict(PROMPT, duration_seconds=35, sample_count=2, seed=41)
    alone = [container.predict(PROMPT, duration_seconds=35, seed=seed)[0] for seed in (41, 42, 42)]
    assert [audio_of(clip) for clip in [*batch, batch[1]]] == [audio_of(clip) for clip in alone]
    assert audio_of(batch[0]) != audio_of(batch[1])


def test_a_seed_that_was_drawn_is_said_and_can_be_used_again(container: Container) -> None:
    drawn = container.predict(PROMPT, duration_seconds=1, sample_count=2)
    assert drawn[0]["seed"] != drawn[1]["seed"]
    again = [container.predict(PROMPT, duration_seconds=1, seed=clip["seed"])[0] for clip in drawn]
    assert [audio_of(clip) for clip in again] == [audio_of(clip) for clip in drawn]


def test_the_prompt_and_the_negative_prompt_are_heard(container: Container) -> None:
    asked = [("drums", None), ("bells", None), ("drums", "bells"), ("drums", "flutes")]
    clips = [container.predict(prompt, negative, duration_seconds=2, seed=1)[0] for prompt, negative in asked]
    assert len({audio_of(clip) for clip in clips}) == 4


def test_sixty_five_seconds_are_three_windows(container: Container) -> None:
    (clip,) = container.predict(PROMPT, duration_seconds=65, seed=7)
    audio = audio_of(clip)
    assert read_wav(audio)[0] == 65 * RATE_HZ
    (first,) = container.predict(PROMPT, duration_seconds=30, seed=7)
    # The first window is the same music; but its last seconds have other neighbours in the codec, and a block
    # of another length is rounded otherwise here and there.
    both = zip(samples(audio, 0, 28), samples(audio_of(first), 0, 28), strict=True)
    assert max(abs(longer - shorter) for longer, shorter in both) <= 2
    assert len({bytes(samples(audio, second, second + 1)) for second in range(65)}) == 65


def test_whole_numbers_may_come_as_protobuf_writes_them(container: Container) -> None:
    (clip,) = container.predict(PROMPT, duration_seconds=1.0, sample_count=1.0, seed=5.0)
    assert (clip["seed"], clip["seconds"]) == (5, 1)


# More than an answer holds


def test_what_no_answer_holds_is_put_where_the_call_says(container: Container, gcs: Gcs) -> None:
    answer = container.send(
        body(PROMPT, duration_seconds=30, sample_count=4, seed=3, output_gcs_uri=f"gs://{BUCKET}/made/here")
    )
    clips = answer.json()["predictions"]
    names = [stored(gcs, clip) for clip in clips]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"made/here/[0-9a-f]{32}\.wav", name) for name in names)
    assert len(answer.content) < 2_000
    alone = container.predict(PROMPT, duration_seconds=30, seed=4)
    assert content(gcs, names[1]) == audio_of(alone[0])


def test_what_fits_is_answered_inline_wherever_it_might_be_put(container: Container) -> None:
    (clip,) = container.predict(PROMPT, duration_seconds=1, output_gcs_uri=f"gs://{BUCKET}/made")
    assert "gcsUri" not in clip
    assert read_wav(audio_of(clip))[0] == RATE_HZ


def test_the_largest_answer_is_just_below_the_cap(container: Container) -> None:
    """70 s at 8 kHz are 1,120,044 bytes, which base64 makes 1,493,392; a second more is too much."""
    answer = container.send(body(PROMPT, duration_seconds=70, seed=2**32 - 1))
    assert answer.status_code == 200
    assert LIMIT_BYTES - 22_000 < len(answer.content) <= LIMIT_BYTES
    assert container.send(body(PROMPT, duration_seconds=71)).status_code == 400


def test_more_than_an_answer_holds_and_no_place_for_it(container: Container) -> None:
    answer = container.send(body(PROMPT, duration_seconds=300, sample_count=4))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "FAILED_PRECONDITION")
    assert "parameters.output_gcs_uri" in error["message"]
    assert "MUSICGEN_OUTPUT_URI" in error["message"]


def test_a_bucket_that_is_not_there(container: Container) -> None:
    answer = container.send(body(PROMPT, duration_seconds=71, output_gcs_uri="gs://no-such-bucket/made"))
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (400, "FAILED_PRECONDITION")
    assert "roles/storage.objectCreator" in error["message"]
    assert container.health() == 200


# Several, and none


async def test_two_requests_at_once_are_both_served(container: Container) -> None:
    two = [container.predicting(PROMPT, duration_seconds=20, seed=seed) for seed in (1, 2)]
    answers = [answer.json()["predictions"][0] for answer in await asyncio.gather(*two)]
    alone = await asyncio.to_thread(container.predict, PROMPT, duration_seconds=20, seed=2)
    assert [clip["seed"] for clip in answers] == [1, 2]
    assert audio_of(answers[1]) == audio_of(alone[0])
    assert audio_of(answers[0]) != audio_of(answers[1])


async def test_health_is_answered_while_music_is_made(container: Container) -> None:
    task = container.predicting(PROMPT, duration_seconds=65)
    await container.until_said("making 1 x 65 s", container.said().count("making 1 x 65 s") + 1)
    async with httpx.AsyncClient(timeout=10) as client:
        assert (await client.get(container.url + "/health")).status_code == 200
    assert not task.done()
    await task


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"music, please", "not JSON"),
        (b'{"instances": [{"prompt": "\xff"}]}', "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", "exactly one"),
        (b'{"instances": [{"prompt": "a"}, {"prompt": "b"}]}', "parameters.sample_count"),
        (b'{"instances": [{"prompt": " "}]}', "say in words"),
        (b'{"instances": [{"prompt": "a"}], "parameters": {"duration_seconds": 301}}', "from 1 to 300"),
        (b'{"instances": [{"prompt": "a"}], "parameters": {"tempo": 90}}', "'tempo' is not known"),
    ],
)
def test_a_malformed_prediction_is_told_what_to_do(container: Container, content: bytes, advice: str) -> None:
    """All of them: test_contract.py."""
    answer = container.post(content)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert advice in error["message"]


def test_a_body_that_is_too_long(container: Container) -> None:
    answer = container.post(b" " * 1_000_001)
    assert (answer.status_code, answer.json()["error"]["status"]) == (413, "INVALID_ARGUMENT")


@pytest.mark.parametrize(("method", "path", "code"), [("GET", "/", 404), ("GET", "/predict", 405)])
def test_what_is_not_there_is_an_error_of_the_same_shape(
    container: Container, method: str, path: str, code: int
) -> None:
    answer = httpx.request(method, container.url + path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (code, code)


def samples(audio: bytes, begin_s: int, end_s: int) -> memoryview:
    return memoryview(audio[44:]).cast("h")[begin_s * RATE_HZ : end_s * RATE_HZ]


def stored(gcs: Gcs, clip: dict[str, Any]) -> str:
    """The name of a clip that was put into the bucket; what is stored there is in order."""
    assert "bytesBase64Encoded" not in clip
    name = clip["gcsUri"].removeprefix(f"gs://{BUCKET}/")
    about = gcs.stored(name)
    assert (about["contentType"], int(about["size"])) == ("audio/wav", clip["sizeBytes"])
    assert read_wav(content(gcs, name))[0] == clip["seconds"] * RATE_HZ
    return name


def content(gcs: Gcs, name: str) -> bytes:
    answer = gcs.backend("GET", f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}?alt=media")
    assert answer.status == 200, json.dumps(answer.headers)
    return answer.body
