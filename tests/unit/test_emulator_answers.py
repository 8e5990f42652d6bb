"""The body of an answer: its announced size is its size, however it is spoiled or cut up."""

import base64
import json
import re

import pytest

from gateway.emulator.answers import AnswerBody, AudioText, Clip
from gateway.emulator.desk import Settings
from gateway.emulator.faults import NO_FAULT, Fault
from gateway.emulator.pages.lyria2 import Lyria2Page
from gateway.emulator.pages.musicgen import MusicGenPage
from gateway.emulator.vertex import PredictRequest

LYRIA = PredictRequest("lyria-002", "projects/p/locations/l/publishers/google/models/lyria-002", "a song")
MUSICGEN = PredictRequest("musicgen", "projects/p/locations/l/endpoints/7", "a tune")
SOUND = bytes(range(256)) * 500  # larger than one piece, and rich in + and / once encoded
CLIP = Clip(SOUND, 11)


def build_answer(request: PredictRequest, entries, fault: Fault) -> AnswerBody:
    page = Lyria2Page() if request is LYRIA else MusicGenPage()
    return page.answer(request, entries, fault, Settings(), 1)


def text_of(request, entries, fault=NO_FAULT, chunk_bytes=None) -> bytes:
    body = build_answer(request, entries, fault)
    whole = b"".join(body.blocks(chunk_bytes))
    assert len(whole) == body.size_bytes
    return whole


def test_lyria_answers_with_audio_content_and_names_its_model():
    answer = json.loads(text_of(LYRIA, [CLIP, CLIP]))
    assert [base64.b64decode(entry["audioContent"]) for entry in answer["predictions"]] == [SOUND, SOUND]
    assert answer["predictions"][0].keys() == {"audioContent", "mimeType"}
    assert answer["model"] == LYRIA.resource
    assert answer["modelDisplayName"] == "Lyria 2"
    assert answer["deployedModelId"]


def test_musicgen_tells_the_seed_of_each_clip():
    answer = json.loads(text_of(MUSICGEN, [CLIP]))
    assert answer["predictions"][0]["seed"] == 11
    assert answer["model"] == "projects/p/locations/l/models/musicgen"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 49_151, 49_152, 49_153])
def test_audio_of_any_size_is_encoded_in_pieces_that_join_up(size):
    text = AudioText(SOUND[:size])
    whole = b"".join(text.blocks())
    assert base64.b64decode(whole, validate=True) == SOUND[:size]
    assert len(whole) == len(text)


def test_escapes_say_the_same_in_other_letters():
    whole = text_of(LYRIA, [CLIP], Fault(escaped=True))
    assert rb"\/" in whole
    assert rb"\u002b" in whole
    assert base64.b64decode(json.loads(whole)["predictions"][0]["audioContent"]) == SOUND


def test_odd_white_space_and_order_say_the_same():
    whole = text_of(LYRIA, [CLIP, CLIP], Fault(whitespace=True))
    assert whole.index(b"modelDisplayName") < whole.index(b"predictions")
    assert whole.index(b"mimeType") < whole.index(b"audioContent")
    answer = json.loads(whole)
    assert base64.b64decode(answer["predictions"][1]["audioContent"]) == SOUND
    assert answer["predictions"][0]["mimeType"] == "audio/wav"
    assert json.loads(text_of(MUSICGEN, [CLIP], Fault(whitespace=True)))["predictions"][0]["seed"] == 11


@pytest.mark.parametrize(
    ("fault", "name"), [("wrong_field", "bytesBase64Encoded"), ("unknown_field", "soundData")]
)
def test_the_audio_may_come_under_another_name(fault, name):
    entry = json.loads(text_of(LYRIA, [CLIP], Fault(**{fault: True})))["predictions"][0]
    assert base64.b64decode(entry[name]) == SOUND
    assert "audioContent" not in entry


def test_bad_base64_spoils_the_first_clip_only():
    answer = json.loads(text_of(LYRIA, [CLIP, CLIP], Fault(bad_base64=True)))
    first, second = (entry["audioContent"] for entry in answer["predictions"])
    assert re.search(r"[^A-Za-z0-9+/=]", first)
    assert base64.b64decode(second, validate=True) == SOUND


def test_something_else_than_audio_is_proper_base64():
    entry = json.loads(text_of(LYRIA, [CLIP], Fault(not_audio=True)))["predictions"][0]
    assert base64.b64decode(entry["audioContent"], validate=True).startswith(b"This is a text.")


def test_a_short_file_ends_in_the_middle_of_its_audio():
    entry = json.loads(text_of(LYRIA, [CLIP], Fault(short_wav=True)))["predictions"][0]
    sound = base64.b64decode(entry["audioContent"])
    assert sound == SOUND[: 44 + (len(SOUND) - 44) // 2]


def test_an_entry_may_be_an_error():
    answer = json.loads(text_of(LYRIA, [None, CLIP]))
    assert answer["predictions"][0]["error"]["code"] == 400
    assert "audioContent" in answer["predictions"][1]


def test_predictions_may_be_empty_or_absent():
    assert json.loads(text_of(LYRIA, []))["predictions"] == []
    answer = json.loads(text_of(LYRIA, [], Fault(no_predictions=True)))
    assert "predictions" not in answer
    assert answer["modelDisplayName"] == "Lyria 2"


def test_truncated_json_is_half_of_it():
    whole = text_of(LYRIA, [CLIP])
    assert text_of(LYRIA, [CLIP], Fault(truncate_json=True)) == whole[: len(whole) // 2]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 4096, 10**9])
def test_chunks_have_the_size_that_was_asked_for(chunk_bytes):
    clip = Clip(SOUND[:3000], 1)
    body = build_answer(LYRIA, [clip], NO_FAULT)
    chunks = list(body.blocks(chunk_bytes))
    assert all(len(chunk) == chunk_bytes for chunk in chunks[:-1])
    assert b"".join(chunks) == text_of(LYRIA, [clip])


def test_a_large_answer_is_made_in_small_pieces():
    body = build_answer(LYRIA, [Clip(b"\0" * 6_000_000, 1)], NO_FAULT)
    assert max(len(block) for block in body.blocks()) <= 65_536
