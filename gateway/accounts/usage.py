"""Reports of usage: a tenant's, or everybody's, over calendar days of a time zone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from gateway.accounts.calendar import is_zone, offsets, start_of_day_ms, today
from gateway.accounts.tenants import require_tenant
from gateway.db import usage
from gateway.db.engine import Database, Tx
from gateway.db.usage import Group, Selection, Usage
from gateway.errors import FieldError, InvalidRequest
from gateway.model import Dimension
from gateway.ports import Clock

#: Of one report, in days and in rows.
LONGEST_DAYS = 400
MOST_ROWS = 100_000
DEFAULT_DAYS = 30
_ALL_TENANTS_ZONE = "UTC"
_EPOCH = date(1970, 1, 1)
# Years of four digits that a zone's rules say something of, whatever is added to them.
_DATE = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for, in the asker's words. None: the default of each, and of ``tenant_id`` all.

    Both days are included.
    """

    tenant_id: str | None
    first_day: str | None = None
    last_day: str | None = None
    zone: str | None = None
    group_by: tuple[Dimension, ...] = (Dimension.DAY,)


@dataclass(frozen=True, slots=True)
class Row:
    """A group and its usage. What was not grouped by is None, and so is what an adjustment has none of."""

    usage: Usage
    tenant_id: str | None = None
    tenant_name: str | None = None
    key_id: str | None = None
    key_name: str | None = None
    model: str | None = None
    day: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Rows in the order of their groups; those without usage are left out. ``to_ms`` is not included."""

    tenant_id: str | None
    zone: str
    first_day: date
    last_day: date
    from_ms: int
    to_ms: int
    group_by: tuple[Dimension, ...]
    rows: tuple[Row, ...]

    @property
    def total(self) -> Usage:
        return sum((row.usage for row in self.rows), Usage())


class UsageReports:
    """Each report is read in one transaction: its rows are of one moment."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def report(self, query: Query) -> Report:
        """Raises `InvalidRequest` naming from, to, tz or group_by, and `NotFound` for no such tenant."""
        now_ms = self._clock.now_ms()
        return await self._database.read_long(lambda tx: _report(tx, query, now_ms))


def parse_group_by(text: str, allowed: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Names between commas, in their order, each once; none for no groups. Raises `InvalidRequest`."""
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    known = [dimension.value for dimension in allowed]
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise _invalid("group_by", "unknown_value", f"takes {', '.join(known)}, separated by commas.")
    return tuple(Dimension(name) for name in dict.fromkeys(names))


def _report(tx: Tx, query: Query, now_ms: int) -> Report:
    own_zone = _ALL_TENANTS_ZONE if query.tenant_id is None else require_tenant(tx, query.tenant_id).zone
    zone = own_zone if query.zone is None else query.zone
    if not is_zone(zone):
        raise _invalid("tz", "unknown_zone", "is not a time zone; write one like Europe/Berlin.")
    first_day, last_day = _days(query, today(now_ms, zone))
    from_ms = start_of_day_ms(first_day, zone)
    to_ms = start_of_day_ms(last_day + timedelta(days=1), zone)
    selection = Selection(query.tenant_id, from_ms, to_ms, offsets(from_ms, to_ms, zone))
    found = usage.read_usage(tx, selection, query.group_by, at_most=MOST_ROWS)
    if len(found) > MOST_ROWS:
        detail = f"gives more than {MOST_ROWS:,} rows; ask for fewer days, or group by less."
        raise _invalid("group_by", "out_of_range", detail)
    return Report(
        tenant_id=query.tenant_id,
        zone=zone,
        first_day=first_day,
        last_day=last_day,
        from_ms=from_ms,
        to_ms=to_ms,
        group_by=query.group_by,
        rows=_rows(tx, query, found),
    )


def _days(query: Query, present: date) -> tuple[date, date]:
    last_day = present if query.last_day is None else _parse_day("to", query.last_day)
    if query.first_day is None:
        first_day = last_day - timedelta(days=DEFAULT_DAYS - 1)
    else:
        first_day = _parse_day("from", query.first_day)
    if first_day > last_day:
        raise _invalid("from", "out_of_range", f"is after {last_day}, the last day; both are included.")
    if (last_day - first_day).days >= LONGEST_DAYS:
        detail = f"is {(last_day - first_day).days + 1} days before the end; ask for at most {LONGEST_DAYS}."
        raise _invalid("from", "out_of_range", detail)
    return first_day, last_day


def _parse_day(field: str, text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # 2026-02-30
    raise _invalid(field, "wrong_type", "must be a day like 2026-11-22.")


def _rows(tx: Tx, query: Query, found: Mapping[Group, Usage]) -> tuple[Row, ...]:
    tenant_names, key_names = (
        usage.read_names(tx, named, query.tenant_id) if named in query.group_by else {}
        for named in (Dimension.TENANT, Dimension.KEY)
    )
    rows = [
        _row(dict(zip(query.group_by, group, strict=True)), measured, tenant_names, key_names)
        for group, measured in found.items()
    ]
    return tuple(sorted(rows, key=lambda row: _place(row, query.group_by)))


def _row(
    group: Mapping[Dimension, str | int | None],
    measured: Usage,
    tenant_names: Mapping[str, str],
    key_names: Mapping[str, str],
) -> Row:
    tenant_id, key_id, model = (
        None if (value := group.get(dimension)) is None else str(value)
        for dimension in (Dimension.TENANT, Dimension.KEY, Dimension.MODEL)
    )
    number = group.get(Dimension.DAY)
    return Row(
        usage=measured,
        tenant_id=tenant_id,
        tenant_name=tenant_names.get(tenant_id) if tenant_id else None,
        key_id=key_id,
        key_name=key_names.get(key_id) if key_id else None,
        model=model,
        day=None if number is None else (_EPOCH + timedelta(days=int(number))).isoformat(),
    )


def _place(row: Row, group_by: Sequence[Dimension]) -> tuple[tuple[bool, str, str], ...]:
    """Where a row stands: by names as people know them; adjustments, which have none, come last."""
    values = {
        Dimension.TENANT: (row.tenant_name, row.tenant_id),
        Dimension.KEY: (row.key_name, row.key_id),
        Dimension.MODEL: (row.model, row.model),
        Dimension.DAY: (row.day, row.day),
    }
    return tuple(
        (values[dimension][1] is None, values[dimension][0] or "", values[dimension][1] or "")
        for dimension in group_by
    )


def _invalid(field: str, code: str, detail: str) -> InvalidRequest:
    return InvalidRequest((FieldError(field, code, detail),))
