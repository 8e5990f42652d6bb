"""Lyria 3 as the emulator plays it: what an interaction may say, and both shapes of its answer."""

import base64
import json
from typing import Any

import pytest

from gateway.emulator.answers import Clip
from gateway.emulator.desk import Settings
from gateway.emulator.faults import NO_FAULT, Fault
from gateway.emulator.mp3 import mp3_bytes
from gateway.emulator.pages.lyria3 import Lyria3Page
from gateway.emulator.predict import interaction_of
from gateway.emulator.vertex import PredictRequest, VertexError
from tests.soundness import decoded, encoded, tone

CLIP, PRO = Lyria3Page("lyria-3-clip-preview"), Lyria3Page("lyria-3-pro-preview")
PLACE = {"project": "p", "location": "global"}
SONG = b"ID3" + bytes(range(256)) * 4


def read(page: Lyria3Page = CLIP, **changes: Any) -> PredictRequest:
    body = {"model": page.name, "input": [{"type": "text", "text": "a song"}], "store": False} | changes
    return page.read("r", json.dumps(body).encode())


def refusal(**changes: Any) -> str:
    with pytest.raises(VertexError) as caught:
        read(**changes)
    assert (caught.value.http_status, caught.value.status) == (400, "INVALID_ARGUMENT")
    return caught.value.message


def answered(fault: Fault = NO_FAULT, shape: str = "steps", number: int = 1, prompt: str = "a song") -> Any:
    asked = read(input=prompt)
    body = CLIP.answer(asked, [Clip(SONG, 1)], fault, Settings(interactions_shape=shape), number)
    return json.loads(b"".join(body.blocks()))


def test_text_may_come_alone_or_in_items() -> None:
    assert read(input="a song").prompt == "a song"
    lines = [{"type": "text", "text": "a song"}, {"type": "text", "text": "la la"}]
    assert read(input=lines).prompt == "a song\nla la"


@pytest.mark.parametrize(("given", "kept"), [({}, True), ({"store": True}, True), ({"store": False}, False)])
def test_what_is_to_be_stored_is_noted_and_is_by_default(given: dict[str, bool], kept: bool) -> None:
    body = {"model": CLIP.name, "input": "x"} | given
    assert CLIP.read("r", json.dumps(body).encode()).about == {"store": kept}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, 'Unknown name "seed"'),
        ({"negative_prompt": "x"}, 'Unknown name "negative_prompt"'),
        ({"store": "no"}, "expected a boolean"),
        ({"input": []}, "must hold text"),
        ({"input": "  "}, "must hold text"),
        ({"input": 7}, "expected a string or a list"),
        ({"input": ["x"]}, "expected a JSON object"),
        ({"input": [{"type": "image", "data": "x"}]}, "images are not played here"),
        ({"input": [{"type": "audio"}]}, "expected a text item"),
        ({"input": "Спокойное пианино"}, "Unsupported language detected"),
    ],
)
def test_what_it_does_not_take_is_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(**changes)


@pytest.mark.parametrize("prompt", ["ein Lied", "静かな歌", "शांत गीत", "조용한 노래"])
def test_its_languages_are_read(prompt: str) -> None:
    assert read(input=prompt).prompt == prompt


@pytest.mark.parametrize(
    ("location", "model", "known"),
    [
        ("global", "lyria-3-clip-preview", True),
        ("global", "lyria-3-pro-preview", True),
        ("us-central1", "lyria-3-clip-preview", False),
        ("global", "lyria-002", False),
    ],
)
def test_it_is_found_by_its_name_and_in_one_place_only(location: str, model: str, known: bool) -> None:
    target = interaction_of(PLACE | {"location": location}, json.dumps({"model": model}).encode())
    assert (target.page is not None) is known


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"{}"])
def test_a_body_that_names_no_model_finds_none(body: bytes) -> None:
    assert interaction_of(PLACE, body).page is None


@pytest.mark.parametrize(
    ("prompt", "seconds"),
    [
        ("a song", 60), ("a song of 90 seconds", 90), ("a song\nLength: 126 seconds.", 126),
        ("2 minutes", 120),
        ("100 bpm, 45 sec", 45), ("1000 seconds", 184),
    ],
)  # fmt: skip
def test_pro_lasts_as_long_as_its_prompt_says(prompt: str, seconds: int) -> None:
    order = PRO.order(read(PRO, input=prompt), 1, Settings())
    assert (order.frames, order.sample_rate_hz, order.channels) == (seconds * 44_100, 44_100, 2)


def test_a_clip_is_as_long_as_all_clips() -> None:
    assert CLIP.order(read(input="100 seconds"), 1, Settings()).frames == 30 * 44_100


def test_both_shapes_hold_the_song_and_its_words() -> None:
    current, legacy = answered(), answered(shape="outputs")
    (step,) = current["steps"]
    for items in (step["content"], legacy["outputs"]):
        (audio,) = [item for item in items if item["type"] == "audio"]
        assert base64.b64decode(audio["data"]) == SONG
        assert audio["mime_type"] == "audio/mpeg"
        assert [item["type"] for item in items if item["type"] == "text"] == ["text", "text"]
    assert "content_credentials" in [item["type"] for item in legacy["outputs"]]
    assert current["status"] == legacy["status"] == "completed"


def test_the_shape_may_change_from_call_to_call() -> None:
    assert ["steps" in answered(shape="alternate", number=number) for number in (1, 2, 3)] == [
        True,
        False,
        True,
    ]


def test_what_is_instrumental_has_no_lyrics() -> None:
    (step,) = answered(prompt="an instrumental song")["steps"]
    assert [item["type"] for item in step["content"]] == ["text", "audio"]


def test_the_song_may_come_before_its_type_and_under_another_name() -> None:
    (step,) = answered(Fault(data_first=True))["steps"]
    assert list(step["content"][-1]) == ["data", "mime_type", "type"]
    (step,) = answered(Fault(unknown_field=True))["steps"]
    assert "soundData" in step["content"][-1]


def test_it_may_fail_with_words_and_without_a_song() -> None:
    answer = answered(Fault(interaction_status="failed", message="The prompt was refused."))
    assert answer["status"] == "failed"
    assert answer["steps"][0]["content"] == [{"type": "text", "text": "The prompt was refused."}]
    assert answered(Fault(interaction_status="incomplete"))["steps"][0]["content"] == []
    assert "steps" not in answered(Fault(no_predictions=True))


def test_a_song_is_an_mp3_with_a_tag_in_front() -> None:
    song = mp3_bytes(encoded(tone(1.0, 44_100), 44_100))
    assert song.startswith(b"ID3\x04")
    assert b"application/x-c2pa-manifest-store" in song[:200]
    samples, rate_hz = decoded(song)
    assert (len(samples), rate_hz) == (44_100, 44_100)
    assert song == mp3_bytes(encoded(tone(1.0, 44_100), 44_100))
