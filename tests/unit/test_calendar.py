"""A tenant's days and months: they begin at its own midnight, whatever the clocks do that night."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.accounts.calendar import (
    is_zone,
    local_time,
    offsets,
    periods_at,
    resets_at_ms,
    rfc3339,
    start_of_day_ms,
    today,
)
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
ANY_ZONE = st.sampled_from(ZONES) | st.sampled_from(sorted(available_timezones()))
FROM_2020_TO_2040 = st.dates(date(2020, 1, 1), date(2040, 1, 1))
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


def test_a_moment_is_written_with_its_offset() -> None:
    at_ms = round(datetime(2026, 11, 30, 23, tzinfo=UTC).timestamp() * 1000)
    assert rfc3339(at_ms, "Europe/Berlin") == "2026-12-01T00:00:00+01:00"
    assert rfc3339(at_ms + 999, "UTC") == "2026-11-30T23:00:00+00:00"


# Stretches of days


@given(FROM_2020_TO_2040, ANY_ZONE)
@example(date(2027, 3, 28), "Asia/Beirut")  # there is no midnight
@example(date(2024, 4, 26), "Africa/Cairo")
@example(date(2026, 10, 25), "America/Nuuk")
@example(date(2022, 11, 6), "America/Havana")  # it comes twice
def test_a_day_begins_with_its_first_moment(day: date, zone: str) -> None:
    start_ms = start_of_day_ms(day, zone)
    assert today(start_ms, zone) == day
    assert today(start_ms - 1, zone) == day - timedelta(days=1)


@given(FROM_2020_TO_2040_MS, FROM_2020_TO_2040_MS, st.integers(1, 400 * 86_400_000), ANY_ZONE)
def test_offsets_give_every_moment_its_day(at_ms: int, from_ms: int, length_ms: int, zone: str) -> None:
    """What a database can work out without a calendar is what the calendar says."""
    found = offsets(from_ms, from_ms + length_ms, zone)
    at_ms = from_ms + at_ms % length_ms
    offset_ms = next(each.offset_ms for each in found if at_ms < each.until_ms)
    days = (at_ms + offset_ms) // 86_400_000
    assert (date(1970, 1, 1) + timedelta(days=days)).isoformat() == periods_at(at_ms, zone).day
    assert found[-1].until_ms == from_ms + length_ms
    assert [each.until_ms for each in found] == sorted({each.until_ms for each in found})


def test_offsets_change_to_the_millisecond() -> None:
    found = offsets(ms("2027-01-01T00:00:00Z"), ms("2028-01-01T00:00:00Z"), "Europe/Berlin")
    assert [(each.until_ms, each.offset_ms // 3_600_000) for each in found] == [
        (ms("2027-03-28T01:00:00Z"), 1),
        (ms("2027-10-31T01:00:00Z"), 2),
        (ms("2028-01-01T00:00:00Z"), 1),
    ]


def test_a_zone_that_never_changes_has_one_offset() -> None:
    (found,) = offsets(0, 400 * 86_400_000, "UTC")
    assert (found.until_ms, found.offset_ms) == (400 * 86_400_000, 0)


@pytest.mark.parametrize("zone", ZONES)
def test_zones_are_known_by_name(zone: str) -> None:
    assert is_zone(zone)


@pytest.mark.parametrize(
    "text", ["", "Berlin", "Europe", "europe/berlin", "../etc/passwd", "/etc/localtime", "+01:00"]
)
def test_anything_else_is_no_zone(text: str) -> None:
    assert not is_zone(text)
