"""A tenant's days and months: they begin at its own midnight, whatever the clocks do that night."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.accounts.calendar import is_zone, local_time, periods_at, resets_at_ms
from gateway.model import BudgetWindow, Periods

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",  # half an hour beside the others
    "Pacific/Kiritimati",  # the first to have a new day
    "Pacific/Pago_Pago",  # the last
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # half an hour of daylight saving
    "Africa/Cairo",  # clocks change at midnight
    "America/Nuuk",  # and here just before
)
FROM_2020_TO_2040_MS = st.integers(1_577_836_800_000, 2_208_988_800_000)


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "day", "month"),
    [
        ("UTC", "2026-12-31", "2026-12"),
        ("Pacific/Kiritimati", "2027-01-01", "2027-01"),
        ("Pacific/Pago_Pago", "2026-12-30", "2026-12"),
    ],
)
def test_one_moment_is_in_three_days(zone: str, day: str, month: str) -> None:
    assert periods_at(ms("2026-12-31T10:30:00Z"), zone) == Periods(day, month)


def test_a_day_ends_with_its_last_millisecond() -> None:
    midnight = ms("2026-11-23T00:00:00+01:00")
    assert periods_at(midnight - 1, "Europe/Berlin").day == "2026-11-22"
    assert periods_at(midnight, "Europe/Berlin").day == "2026-11-23"
    assert resets_at_ms(BudgetWindow.DAY, midnight - 1, "Europe/Berlin") == midnight


@pytest.mark.parametrize(
    ("zone", "now", "hours"),
    [
        ("Europe/Berlin", "2027-03-27T00:00:00+01:00", 24),
        ("Europe/Berlin", "2027-03-28T00:00:00+01:00", 23),
        ("Europe/Berlin", "2027-10-31T00:00:00+02:00", 25),
        ("America/St_Johns", "2027-03-14T00:00:00-03:30", 23),
        ("America/St_Johns", "2027-11-07T00:00:00-02:30", 25),
        ("Australia/Lord_Howe", "2027-04-04T00:00:00+11:00", 24.5),
        ("Pacific/Kiritimati", "2027-03-28T00:00:00+14:00", 24),
        ("Pacific/Pago_Pago", "2027-03-28T00:00:00-11:00", 24),
    ],
)
def test_a_day_is_as_long_as_its_clocks_make_it(zone: str, now: str, hours: float) -> None:
    reset_ms = resets_at_ms(BudgetWindow.DAY, ms(now), zone)
    assert reset_ms is not None
    assert timedelta(milliseconds=reset_ms - ms(now)) == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("zone", "now", "reset"),
    [
        # There is no midnight: the day begins at one.
        ("Asia/Beirut", "2027-03-27T12:00:00+02:00", "2027-03-28T01:00:00+03:00"),
        # There was no 30 December 2011.
        ("Pacific/Apia", "2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00"),
        # At 00:01 it was 23:01 again: the first midnight began a minute, the second the rest of the day.
        ("America/St_Johns", "2010-11-06T12:00:00-02:30", "2010-11-07T00:00:00-02:30"),
        ("America/St_Johns", "2010-11-06T23:30:00-03:30", "2010-11-07T00:00:00-03:30"),
    ],
)
def test_odd_midnights_are_found(zone: str, now: str, reset: str) -> None:
    assert resets_at_ms(BudgetWindow.DAY, ms(now), zone) == ms(reset)


@pytest.mark.parametrize(
    ("now", "reset"),
    [
        ("2026-12-31T23:59:59+01:00", "2027-01-01T00:00:00+01:00"),
        ("2027-01-31T12:00:00+01:00", "2027-02-01T00:00:00+01:00"),
        ("2028-02-29T12:00:00+01:00", "2028-03-01T00:00:00+01:00"),
        ("2027-03-01T00:00:00+01:00", "2027-04-01T00:00:00+02:00"),
        ("2027-10-31T23:00:00+01:00", "2027-11-01T00:00:00+01:00"),
    ],
)
def test_a_month_begins_on_its_first(now: str, reset: str) -> None:
    assert resets_at_ms(BudgetWindow.MONTH, ms(now), "Europe/Berlin") == ms(reset)


def test_all_time_does_not_start_anew() -> None:
    assert resets_at_ms(BudgetWindow.TOTAL, ms("2026-11-22T12:00:00Z"), "UTC") is None


@given(FROM_2020_TO_2040_MS, st.sampled_from(ZONES), st.sampled_from([BudgetWindow.DAY, BudgetWindow.MONTH]))
@example(1_698_530_400_000, "America/Nuuk", BudgetWindow.DAY)
def test_a_period_lasts_exactly_until_its_reset(now_ms: int, zone: str, window: BudgetWindow) -> None:
    now = periods_at(now_ms, zone).named(window)
    reset_ms = resets_at_ms(window, now_ms, zone)
    assert reset_ms is not None
    assert reset_ms > now_ms
    assert periods_at(reset_ms - 1, zone).named(window) == now
    assert periods_at(reset_ms, zone).named(window) > now


def test_a_moment_is_written_as_people_there_write_it() -> None:
    at_ms = round(datetime(2026, 11, 30, 23, tzinfo=UTC).timestamp() * 1000)
    assert local_time(at_ms, "Europe/Berlin") == "2026-12-01T00:00+01:00"
    assert local_time(at_ms, "America/St_Johns") == "2026-11-30T19:30-03:30"


@pytest.mark.parametrize("zone", ZONES)
def test_zones_are_known_by_name(zone: str) -> None:
    assert is_zone(zone)


@pytest.mark.parametrize(
    "text", ["", "Berlin", "Europe", "europe/berlin", "../etc/passwd", "/etc/localtime", "+01:00"]
)
def test_anything_else_is_no_zone(text: str) -> None:
    assert not is_zone(text)
