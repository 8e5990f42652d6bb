"""A tenant's calendar: its days and months begin at midnight in its own time zone. Pure."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from gateway.model import BudgetWindow, Offset, Periods

_DAY_MS = 86_400_000


def is_zone(name: str) -> bool:
    """Whether this is the IANA name of a time zone, spelled exactly: Europe/Berlin."""
    return name in _zones()


@cache
def _zones() -> frozenset[str]:
    """Every zone's name. Looking for them goes through hundreds of files."""
    return frozenset(available_timezones())


def periods_at(now_ms: int, zone: str) -> Periods:
    """The tenant's day and month at a moment."""
    local = _local(now_ms, zone)
    return Periods(day=local.strftime("%Y-%m-%d"), month=local.strftime("%Y-%m"))


def resets_at_ms(window: BudgetWindow, now_ms: int, zone: str) -> int | None:
    """When the window's next stretch begins in the tenant's zone; None for the one that never ends."""
    if window is BudgetWindow.TOTAL:
        return None
    today = _local(now_ms, zone).date()
    # Through the calendar, not by adding 24 hours: some days have 23 or 25, and a few have none.
    if window is BudgetWindow.DAY:
        next_date = today + timedelta(days=1)
    else:
        next_date = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    midnight = datetime.combine(next_date, time.min, ZoneInfo(zone))
    # Clocks that are put back at midnight show it twice; the first may be over.
    twice = (int(midnight.replace(fold=fold).timestamp() * 1000) for fold in (0, 1))
    return next(at_ms for at_ms in twice if at_ms > now_ms)


def start_of_day_ms(day: date, zone: str) -> int:
    """When a day begins in a zone: at its midnight, the first of two, or where the clocks jump over it."""
    return _ms(datetime.combine(day, time.min, ZoneInfo(zone)))


def today(now_ms: int, zone: str) -> date:
    return _local(now_ms, zone).date()


def offsets(from_ms: int, to_ms: int, zone: str) -> tuple[Offset, ...]:
    """What local time adds to UTC from one moment to another, one entry for each change of it."""
    return tuple(_offsets(from_ms, to_ms, zone))


def _offsets(from_ms: int, to_ms: int, zone: str) -> Iterator[Offset]:
    offset_ms = _offset_ms(from_ms, zone)
    # No zone changes its clocks twice within a day.
    for before_ms in range(from_ms, to_ms, _DAY_MS):
        after_ms = min(before_ms + _DAY_MS, to_ms)
        changed_ms = _offset_ms(after_ms, zone)
        if changed_ms != offset_ms:
            yield Offset(_first_with(changed_ms, before_ms, after_ms, zone), offset_ms)
            offset_ms = changed_ms
    yield Offset(to_ms, offset_ms)


def _first_with(offset_ms: int, before_ms: int, after_ms: int, zone: str) -> int:
    """The first moment with this offset: later than one moment, not later than another."""
    while after_ms - before_ms > 1:
        middle_ms = (before_ms + after_ms) // 2
        if _offset_ms(middle_ms, zone) == offset_ms:
            after_ms = middle_ms
        else:
            before_ms = middle_ms
    return after_ms


def _offset_ms(at_ms: int, zone: str) -> int:
    offset = _local(at_ms, zone).utcoffset() or timedelta()
    return offset // timedelta(milliseconds=1)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def local_time(at_ms: int, zone: str) -> str:
    """A moment as people of that zone write it, to the minute: 2026-12-01T00:00+01:00."""
    return _local(at_ms, zone).isoformat(timespec="minutes")


def rfc3339(at_ms: int, zone: str) -> str:
    """A moment with the offset that the zone has then: 2026-12-01T00:00:00+01:00."""
    return _local(at_ms, zone).isoformat(timespec="seconds")


def _local(at_ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone))
