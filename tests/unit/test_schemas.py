"""Request bodies: which values pass, and what is said of those that do not."""

import random
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.accounts import keys
from gateway.errors import ErrorCode, FieldError, InvalidRequest
from gateway.model import MusicSpec
from gateway.web.schemas import (
    LABEL_PATTERN,
    TEXT_PATTERN,
    MusicGenerateBody,
    MusicGenerateLyriaBody,
    parse_body,
)


def refusals(fields: dict[str, Any], kind: type = MusicGenerateBody) -> list[FieldError]:
    with pytest.raises(InvalidRequest) as refused:
        parse_body(kind, fields)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    return list(refused.value.fields)


def spec(**fields: Any) -> MusicSpec:
    return parse_body(MusicGenerateBody, {"prompt": "x", **fields}).spec()


A_KEY = keys.mint(random.Random(1).choice).text


@pytest.mark.parametrize(
    ("fields", "field", "code", "advice"),
    [
        ({}, "prompt", "missing", "is required."),
        ({"prompt": ""}, "prompt", "empty", "is empty; say something."),
        ({"prompt": " \n\t\u3000"}, "prompt", "empty", "is empty; say something."),
        ({"prompt": "x" * 4001}, "prompt", "too_long", "has more than 4000 characters."),
        ({"prompt": "a\0b"}, "prompt", "control_character", "has control characters in it; leave them out."),
        ({"prompt": f"sing {A_KEY} to me"}, "prompt", "contains_key", "take it out, and rotate that key"),
        ({"prompt": "x", "negative_prompt": A_KEY}, "negative_prompt", "contains_key", "an API key in it"),
        ({"prompt": "x", "metadata": {"key": A_KEY}}, "metadata", "contains_key", "an API key in it"),
        ({"prompt": "x", "metadata": {A_KEY[:64]: ""}}, "metadata", "contains_key", "an API key in it"),
        ({"prompt": ["x"]}, "prompt", "wrong_type", "must be a string."),
        ({"prompt": 7}, "prompt", "wrong_type", "must be a string."),
        ({"prompt": None}, "prompt", "wrong_type", "must not be null; leave it out instead."),
        ({"prompt": "x", "negative_prompt": None}, "negative_prompt", "wrong_type", "must not be null"),
        ({"prompt": "x", "seed": None}, "seed", "wrong_type", "must not be null"),
        ({"prompt": "x", "model": None}, "model", "wrong_type", "must not be null"),
        ({"prompt": "x", "metadata": None}, "metadata", "wrong_type", "must not be null"),
        ({"prompt": "x", "durationSeconds": 0}, "durationSeconds", "out_of_range", "must be at least 1."),
        ({"prompt": "x", "durationSeconds": 301}, "durationSeconds", "out_of_range", "must be at most 300."),
        (
            {"prompt": "x", "durationSeconds": 1e300},
            "durationSeconds",
            "out_of_range",
            "must be at most 300.",
        ),
        ({"prompt": "x", "durationSeconds": "30"}, "durationSeconds", "wrong_type", "must be an integer."),
        ({"prompt": "x", "durationSeconds": 41.5}, "durationSeconds", "wrong_type", "must be an integer."),
        ({"prompt": "x", "durationSeconds": 1e400}, "durationSeconds", "wrong_type", "must be an integer."),
        ({"prompt": "x", "durationSeconds": True}, "durationSeconds", "wrong_type", "must be an integer."),
        ({"prompt": "x", "sampleCount": 0}, "sampleCount", "out_of_range", "must be at least 1."),
        ({"prompt": "x", "sampleCount": 5}, "sampleCount", "out_of_range", "must be at most 4."),
        ({"prompt": "x", "seed": -1}, "seed", "out_of_range", "must be at least 0."),
        ({"prompt": "x", "seed": 2**32}, "seed", "out_of_range", "must be at most 4294967295."),
        ({"prompt": "x", "model": ""}, "model", "empty", "is empty; say something."),
        ({"prompt": "x", "model": "m" * 101}, "model", "too_long", "has more than 100 characters."),
        ({"prompt": "x", "tempo": None}, "tempo", "unknown_field", "It takes: prompt, negative_prompt, "),
        ({"prompt": "x", "metadata": []}, "metadata", "wrong_type", "must be an object of strings."),
        ({"prompt": "x", "metadata": {"a": 1}}, "metadata.a", "wrong_type", "must be a string."),
        ({"prompt": "x", "metadata": {"": "a"}}, "metadata.", "empty", "is empty"),
        ({"prompt": "x", "metadata": {"n" * 65: "a"}}, "metadata." + "n" * 65, "too_long", "64 characters."),
        ({"prompt": "x", "metadata": {"a": "v" * 513}}, "metadata.a", "too_long", "512 characters."),
        ({"prompt": "x", "metadata": {"a": "\x1b[0m"}}, "metadata", "control_character", "leave them out."),
        ({"prompt": "x", "metadata": {"a\x7f": ""}}, "metadata", "control_character", "leave them out."),
        ({"prompt": "x", "metadata": {str(n): "" for n in range(17)}}, "metadata", "too_long", "16 entries."),
        ({"body": {"prompt": "x"}}, "body", "wrapped", "send the object inside it as the JSON body itself"),
        ({"prompt": "x", "body": {"seed": 1}}, "body", "wrapped", "without a wrapper."),
        ({"prompt": "x", "body": "y"}, "body", "unknown_field", "is not a field of this request."),
    ],
)
def test_a_wrong_field_is_named_with_advice(
    fields: dict[str, Any], field: str, code: str, advice: str
) -> None:
    (refusal,) = refusals(fields)
    assert (refusal.field, refusal.code) == (field, code)
    assert advice in refusal.detail


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, MusicSpec("x", duration_s=30)),
        ({"durationSeconds": 1, "sampleCount": 4}, MusicSpec("x", sample_count=4, duration_s=1)),
        ({"durationSeconds": 300}, MusicSpec("x", duration_s=300)),
        ({"durationSeconds": 41.0}, MusicSpec("x", duration_s=41)),
        ({"seed": 0}, MusicSpec("x", seed=0, duration_s=30)),
        ({"seed": 2**32 - 1}, MusicSpec("x", seed=2**32 - 1, duration_s=30)),
        ({"negative_prompt": "vocals"}, MusicSpec("x", negative_prompt="vocals", duration_s=30)),
        ({"prompt": "x" * 4000}, MusicSpec("x" * 4000, duration_s=30)),
        ({"prompt": "line\r\n\tline"}, MusicSpec("line\r\n\tline", duration_s=30)),
        ({"prompt": "🎹"}, MusicSpec("🎹", duration_s=30)),
    ],
)
def test_what_passes_means_what_it_says(fields: dict[str, Any], expected: MusicSpec) -> None:
    assert spec(**fields) == expected


def test_lyria_decides_its_own_length() -> None:
    assert parse_body(MusicGenerateLyriaBody, {"prompt": "x"}).spec() == MusicSpec("x")
    (refusal,) = refusals({"prompt": "x", "durationSeconds": 30}, MusicGenerateLyriaBody)
    assert (refusal.field, refusal.code) == ("durationSeconds", "unknown_field")


def test_metadata_at_its_limits_passes() -> None:
    metadata = {f"{n:064}": "v" * 512 for n in range(16)}
    assert parse_body(MusicGenerateBody, {"prompt": "x", "metadata": metadata}).metadata == metadata


def test_every_wrong_field_is_told_at_once() -> None:
    told = refusals({"durationSeconds": 0, "tempo": 1})
    assert {refusal.field for refusal in told} == {"prompt", "durationSeconds", "tempo"}


def test_a_thousand_wrong_fields_are_not_all_repeated() -> None:
    assert len(refusals({f"field{n}": n for n in range(1000)})) == 20


def test_a_field_of_any_length_is_named_in_short() -> None:
    (refusal,) = refusals({"prompt": "x", "n" * 5000: 1})
    assert refusal.field == "n" * 100


@given(st.text(max_size=20))
@example("\u0085")
@example("\ufeff")
@example(" \u2028 ")
@example("a\x1c")
@example("\x7f")
def test_the_documented_pattern_and_the_check_agree(text: str) -> None:
    try:
        parse_body(MusicGenerateBody, {"prompt": text})
    except InvalidRequest:
        passes = False
    else:
        passes = True
    assert passes == bool(re.search(TEXT_PATTERN, text))


@given(st.text(max_size=20))
@example("\x0b")
def test_the_documented_pattern_of_labels_and_the_check_agree(text: str) -> None:
    try:
        parse_body(MusicGenerateBody, {"prompt": "x", "metadata": {"a": text}})
    except InvalidRequest:
        passes = False
    else:
        passes = True
    assert passes == bool(re.search(LABEL_PATTERN, text))
