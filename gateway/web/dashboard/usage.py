"""The page about usage and money of a tenant: figures of the ledger's own reports, and what is left."""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.people import Permission
from gateway.accounts.tenants import Tenants
from gateway.accounts.usage import Query, Report, UsageReports
from gateway.errors import InvalidRequest
from gateway.model import Dimension
from gateway.web.dashboard.desk import Desk
from gateway.web.queries import read_query

_GROUPS = (Dimension.DAY, Dimension.MODEL, Dimension.KEY)
# To choose from; any other IANA name can be written.
_ZONES = (
    "UTC",
    "America/Los_Angeles",
    "America/New_York",
    "America/Sao_Paulo",
    "Europe/London",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Australia/Sydney",
)
_FIELDS = ("from", "to", "tz", "by", "said")


@dataclass(frozen=True, slots=True)
class Bar:
    """A day of the chart, and what was spent in it, in micro-dollars."""

    day: str
    spent_micros: int


class UsagePages:
    """``/dashboard/t/{tenant_id}/usage``."""

    def __init__(self, desk: Desk, tenants: Tenants, reports: UsageReports) -> None:
        self._desk = desk
        self._tenants = tenants
        self._reports = reports

    async def show(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.VIEW)
        values = read_query(request, _FIELDS)
        asked = {name: values.get(name, "").strip() for name in ("from", "to", "tz")}
        by = next((each for each in _GROUPS if each.value == values.get("by")), Dimension.DAY)
        first, last, zone = (asked[name] or None for name in ("from", "to", "tz"))
        faults: InvalidRequest | None = None
        try:
            days = await self._reports.report(Query(seat.tenant_id, first, last, zone))
            table = await self._reports.report(Query(seat.tenant_id, first, last, zone, (by,)))
        except InvalidRequest as error:
            faults = error
            days = table = await self._reports.report(Query(seat.tenant_id))
        period = {"from": str(days.first_day), "to": str(days.last_day), "tz": days.zone}
        csv = urlencode(period | {"group_by": by.value, "format": "csv"})
        return self._desk.page(
            request,
            "usage.html",
            seat=seat,
            status=400 if faults else 200,
            faults=faults.fields if faults else (),
            budgets=await self._tenants.list_budgets(seat.tenant_id),
            report=table,
            bars=bars_of(days),
            by=by.value,
            groups=tuple(each.value for each in _GROUPS),
            period=period,
            zones=_ZONES,
            csv=f"/dashboard/api/{seat.tenant_id}/live/usage?{csv}",
        )


def bars_of(report: Report) -> tuple[Bar, ...]:
    """Every day of a report by day, also those without usage."""
    spent = {row.day: row.usage.spent_micros for row in report.rows}
    count = (report.last_day - report.first_day).days + 1
    days = [(report.first_day + timedelta(days=number)).isoformat() for number in range(count)]
    return tuple(Bar(day, spent.get(day, 0)) for day in days)
