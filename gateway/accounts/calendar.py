"""A tenant's calendar: its days and months begin at midnight in its own time zone. Pure."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

from gateway.model import BudgetWindow, Periods


def is_zone(name: str) -> bool:
    """Whether this is the IANA name of a time zone, spelled exactly: Europe/Berlin."""
    return name in available_timezones()


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


def local_time(at_ms: int, zone: str) -> str:
    """A moment as people of that zone write it, to the minute: 2026-12-01T00:00+01:00."""
    return _local(at_ms, zone).isoformat(timespec="minutes")


def _local(at_ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone))
