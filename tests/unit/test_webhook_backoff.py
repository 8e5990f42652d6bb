"""Twelve tries in about a day, never all at once (peers.md W2)."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.backoff import MAX_TRIES, pause_s, read_retry_after

NOW_MS = 1_800_000_000_000
HOUR_S = 3600.0
chances = st.floats(0, 1, exclude_max=True)
tries = st.integers(1, MAX_TRIES - 1)


def test_the_first_comes_back_in_seconds_and_the_last_after_hours() -> None:
    pauses = [pause_s(count, 0.5) for count in range(1, MAX_TRIES)]
    assert pauses[0] == 5
    assert pauses[-1] == pytest.approx(13.25 * HOUR_S, rel=0.01)


@given(st.lists(chances, min_size=MAX_TRIES - 1, max_size=MAX_TRIES - 1))
def test_all_of_them_take_about_a_day_whatever_chance_has_it(drawn: list[float]) -> None:
    pauses = [pause_s(count, chance) for count, chance in enumerate(drawn, 1)]
    assert 16 * HOUR_S < sum(pauses) < 28 * HOUR_S


@given(tries, chances)
def test_each_pause_is_longer_than_the_one_before_and_within_a_quarter_of_its_mean(
    count: int, chance: float
) -> None:
    mean = pause_s(count, 0.5)
    assert 0.75 * mean <= pause_s(count, chance) <= 1.25 * mean
    if count > 1:
        assert pause_s(count, chance) > pause_s(count - 1, 0.999999)


@given(st.integers(MAX_TRIES, 10**6), chances, st.none() | st.floats(0, 1e9))
def test_it_ends(count: int, chance: float, asked_s: float | None) -> None:
    assert pause_s(count, chance, asked_s) is None


@given(tries, chances, st.floats(0, 1e9))
def test_a_receiver_may_ask_for_more_time_but_not_for_less_nor_for_more_than_an_hour(
    count: int, chance: float, asked_s: float
) -> None:
    own = pause_s(count, chance)
    pause = pause_s(count, chance, asked_s)
    assert own <= pause <= max(own, HOUR_S)
    assert pause >= min(asked_s, HOUR_S)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 999_999_999.0),
        (formatdate(NOW_MS / 1000 + 90, usegmt=True), 90.0),
        (formatdate(NOW_MS / 1000 + 90), 90.0),
        (formatdate(NOW_MS / 1000 - 90, usegmt=True), 0.0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wed, 32 Oct 2030 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(header: str | None, seconds: float | None) -> None:
    assert read_retry_after(header, NOW_MS) == seconds


@given(st.text(max_size=40))
def test_whatever_else_it_says_does_no_harm(header: str) -> None:
    read = read_retry_after(header, NOW_MS)
    assert read is None or read >= 0
