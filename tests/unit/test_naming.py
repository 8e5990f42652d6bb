"""Idempotency-Key: what is a name, and what a request's name stands for."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.model import KeyMode, MusicSpec, Route
from gateway.tasks.submission import Submission
from gateway.web.naming import parse_name

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        ("8e03978e-40d5", "8e03978e-40d5"),
        ('  "with spaces inside"  ', "with spaces inside"),
        (r'"a \"quoted\" \\ name"', r'a "quoted" \ name'),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_name_is_quoted_or_bare(value: str, name: str) -> None:
    assert parse_name([value]) == name


def test_a_request_need_not_have_a_name() -> None:
    assert parse_name([]) is None


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ['""'],
        ["two words"],
        ['"unfinished'],
        [r'"bad \escape"'],
        ["x" * 256],
        ['"' + "x" * 256 + '"'],
        ["ü"],
        ["a\tb"],
        ["a", "b"],
        ["a", "a"],
    ],
)
def test_what_is_no_name_is_refused_with_what_to_do(values: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255") as caught:
        parse_name(values)
    assert [fault.field for fault in caught.value.fields] == ["Idempotency-Key"]


@given(printable)
def test_every_printable_name_survives_quoting(name: str) -> None:
    quoted = name.replace("\\", r"\\").replace('"', r"\"")
    assert parse_name([f'"{quoted}"']) == name


LIVE = KeyMode.LIVE
ASKED = Submission(Route.STANDARD, MusicSpec("slow piano"), None, {"a": "1"}, "r1", None, "spring")


def test_a_request_without_a_name_stands_for_nothing() -> None:
    assert replace(ASKED, idempotency_key=None).name(LIVE) is None


def test_what_does_not_change_the_work_does_not_change_what_a_name_stands_for() -> None:
    again = replace(ASKED, request_id="r2", traceparent="00-x")
    assert again.name(LIVE) == ASKED.name(LIVE)


@pytest.mark.parametrize(
    "changes",
    [
        {"route": Route.LYRIA},
        {"spec": MusicSpec("fast piano")},
        {"spec": MusicSpec("slow piano", 2)},
        {"spec": MusicSpec("slow piano", seed=0)},
        {"model": "musicgen"},
        {"metadata": {"a": "2"}},
        {"metadata": {}},
    ],
)
def test_whatever_is_asked_differently_is_another_request(changes: dict) -> None:
    other, first = replace(ASKED, **changes).name(LIVE), ASKED.name(LIVE)
    assert other.name_sha256 == first.name_sha256
    assert other.fingerprint != first.fingerprint


def test_a_test_keys_name_is_another_one_with_a_live_key() -> None:
    """Nor can a live key's name be chosen so that it is the same."""
    test, live = ASKED.name(KeyMode.TEST), ASKED.name(LIVE)
    assert test.name_sha256 != live.name_sha256
    assert test.fingerprint == live.fingerprint
    for name in ("test spring", "testspring", "test\\0spring"):
        assert replace(ASKED, idempotency_key=name).name(LIVE).name_sha256 != test.name_sha256


def test_neither_name_nor_prompt_can_be_read_from_what_is_kept() -> None:
    kept = repr((ASKED.name(LIVE), ASKED.name(KeyMode.TEST)))
    assert "spring" not in kept
    assert "piano" not in kept
