"""The Prefer header, RFC 7240."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.preferences import Preference, parse_prefer


@pytest.mark.parametrize(
    ("values", "respond_async", "wait_s"),
    [
        ([], False, None),
        (["respond-async"], True, None),
        (["Respond-Async"], True, None),
        (["wait=10"], False, 10),
        (["WAIT = 10"], False, 10),
        (['wait="10"'], False, 10),
        (["wait=0"], False, 0),
        (["respond-async, wait=10"], True, 10),
        (["respond-async", "wait=10"], True, 10),
        (["wait=10; why=patience"], False, 10),
        (["wait=10, wait=20"], False, 10),
        (["wait=soon, wait=20"], False, 20),
        (["wait=-1"], False, None),
        (["wait=1.5"], False, None),
        (["wait=٣"], False, None),
        (["wait=9999999999"], False, None),
        (["wait"], False, None),
        (["respond-async=please"], False, None),
        (["return=minimal, handling=lenient"], False, None),
        (['note="a, wait=3, b"'], False, None),
        (['note="a\\", respond-async", wait=4'], False, 4),
        ([",,;,"], False, None),
    ],
)
def test_what_is_preferred(values: list[str], respond_async: bool, wait_s: int | None) -> None:
    assert parse_prefer(values) == Preference(respond_async, wait_s)


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=3))
def test_no_header_is_too_odd(values: list[str]) -> None:
    assert isinstance(parse_prefer(values), Preference)


@pytest.mark.parametrize(
    ("preference", "seconds"),
    [
        (Preference(respond_async=False, wait_s=None), 270.0),
        (Preference(respond_async=True, wait_s=None), 0.0),
        (Preference(respond_async=True, wait_s=7), 7),
        (Preference(respond_async=False, wait_s=7), 7),
        (Preference(respond_async=False, wait_s=0), 0),
        (Preference(respond_async=False, wait_s=9999), 300),
    ],
)
def test_how_long_to_wait(preference: Preference, seconds: float) -> None:
    assert preference.seconds(270.0, 300) == seconds


@pytest.mark.parametrize(
    ("preference", "answered_async", "applied"),
    [
        (Preference(respond_async=False, wait_s=None), False, ""),
        (Preference(respond_async=True, wait_s=None), True, "respond-async"),
        (Preference(respond_async=True, wait_s=None), False, ""),
        (Preference(respond_async=True, wait_s=7), True, "respond-async, wait=7"),
        (Preference(respond_async=True, wait_s=7), False, "wait=7"),
        (Preference(respond_async=False, wait_s=999), True, "wait=270"),
    ],
)
def test_what_was_really_done_is_told(preference: Preference, answered_async: bool, applied: str) -> None:
    assert preference.applied(270.0, answered_async=answered_async) == applied
