"""What callers ask about themselves: limits and what remains of them, what they used, their models."""

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts import export
from gateway.accounts.usage import Query, Report, UsageReports, parse_group_by
from gateway.errors import FieldError, InvalidRequest
from gateway.model import Dimension, Scope
from gateway.tasks.standing import Standings
from gateway.web.account_views import render_offers, render_standing
from gateway.web.answers import answer
from gateway.web.callers import CallerSource
from gateway.web.queries import read_query

#: The parameters of a report of usage, whoever asks.
USAGE_PARAMETERS = ("from", "to", "tz", "group_by", "format")
_OWN_DIMENSIONS = (Dimension.DAY, Dimension.KEY, Dimension.MODEL)
_FORMATS = ("json", "csv")


class AccountApi:
    """``/api/account``, ``/api/usage``, ``/api/models``: always the caller's own."""

    def __init__(self, callers: CallerSource, standings: Standings, reports: UsageReports) -> None:
        self._callers = callers
        self._standings = standings
        self._reports = reports

    async def account(self, request: Request) -> Response:
        principal = await self._callers.identify(request, Scope.READ)
        read_query(request)
        return answer(render_standing(await self._standings.look(principal)))

    async def models(self, request: Request) -> Response:
        principal = await self._callers.identify(request, Scope.READ)
        read_query(request)
        return answer({"models": render_offers(await self._standings.offers(principal))})

    async def usage(self, request: Request) -> Response:
        principal = await self._callers.identify(request, Scope.READ)
        values = read_query(request, USAGE_PARAMETERS)
        query = read_usage_query(values, principal.tenant_id, _OWN_DIMENSIONS)
        # What the provider takes is between it and whoever runs the gateway.
        return await answer_usage(self._reports, query, values, with_cost=False)


def read_usage_query(
    values: Mapping[str, str], tenant_id: str | None, dimensions: tuple[Dimension, ...]
) -> Query:
    """The report that `USAGE_PARAMETERS` ask for. Raises `InvalidRequest`."""
    group_by = parse_group_by(values["group_by"], dimensions) if "group_by" in values else (Dimension.DAY,)
    return Query(tenant_id, values.get("from"), values.get("to"), values.get("tz"), group_by)


async def answer_usage(
    reports: UsageReports, query: Query, values: Mapping[str, str], *, with_cost: bool
) -> Response:
    """The report as JSON, or as CSV to be saved. Raises `InvalidRequest`."""
    if values.get("format", "json") not in _FORMATS:
        raise InvalidRequest((FieldError("format", "unknown_value", f"takes {' or '.join(_FORMATS)}."),))
    report = await reports.report(query)
    # A long report takes a while to write down; others are answered meanwhile.
    if values.get("format") == "csv":
        return _csv(report, await asyncio.to_thread(export.csv_text, report, with_cost=with_cost))
    document = await asyncio.to_thread(export.document, report, with_cost=with_cost)
    return answer(document)


def _csv(report: Report, text: str) -> Response:
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{export.file_name(report)}"',
        "X-Content-Type-Options": "nosniff",
    }
    return Response(text.encode(), headers=headers, media_type="text/csv; header=present")
