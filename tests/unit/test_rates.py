"""What is said of a rate to whoever only asks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.db.tasks import Rate, Windows
from gateway.errors import LimitReached, LimitState
from gateway.tasks.limits import WINDOW_MS, check_rates, rate_now
from tests.factories import NOW_MS


def windows(rate: Rate) -> Windows:
    """As admission sees the same."""
    return Windows(0, rate.count, rate.oldest_at_ms, rate.full_at_ms, 0, None, 0)


@pytest.mark.parametrize(
    ("rate", "remaining", "reset_s"),
    [
        (Rate(0, None, None), 3, 0),
        (Rate(1, NOW_MS - 15_000, None), 2, 45),
        (Rate(2, NOW_MS - 59_001, NOW_MS - WINDOW_MS), 1, 1),
        (Rate(3, NOW_MS - 15_000, NOW_MS - 15_000), 0, 45),
        # A clock that was set back leaves more in the window than may be there.
        (Rate(9, NOW_MS + 5_000, NOW_MS + 8_000), 0, 68),
        # One that had been plainly wrong locks nobody out.
        (Rate(9, NOW_MS + 10**9, NOW_MS + 10**9), 1, 0),
    ],
)
def test_a_rate_tells_what_remains_and_when_more_comes(rate: Rate, remaining: int, reset_s: int) -> None:
    assert rate_now("key", rate, NOW_MS, 3) == LimitState("key", 3, 60, remaining, reset_s)


MOMENT = st.none() | st.integers(NOW_MS - 2 * WINDOW_MS, NOW_MS + 2 * WINDOW_MS)


@given(st.integers(0, 9), MOMENT, MOMENT)
def test_some_of_it_remains_exactly_while_requests_are_admitted(
    count: int, oldest_at_ms: int | None, full_at_ms: int | None
) -> None:
    rate = Rate(count, oldest_at_ms, full_at_ms)
    told = rate_now("key", rate, NOW_MS, 3)
    refusal = None
    try:
        check_rates(windows(rate), NOW_MS, key_rpm=3, tenant_rpm=None)
    except LimitReached as error:
        refusal = error
    assert (told.remaining == 0) is (refusal is not None)
    if refusal is not None:
        assert told.reset_s == refusal.limit.reset_s
