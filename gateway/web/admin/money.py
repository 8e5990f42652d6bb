"""The ledger, its proof, what was used, and the audit log."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.books import Books
from gateway.accounts.usage import UsageReports
from gateway.model import Dimension
from gateway.web.account import USAGE_PARAMETERS, answer_usage, read_usage_query
from gateway.web.admin.requests import Page, Parameters, act_of, read_body, request_name
from gateway.web.admin.schemas import AdjustmentBody
from gateway.web.admin.views import render_act, render_difference, render_entry
from gateway.web.answers import answer
from gateway.web.queries import read_query


class MoneyApi:
    """``/admin/api/ledger``, ``/admin/api/usage``, ``/admin/api/reconcile`` and ``/admin/api/audit``."""

    def __init__(self, books: Books, reports: UsageReports) -> None:
        self._books = books
        self._reports = reports

    async def entries(self, request: Request) -> Response:
        asked = Parameters(request, "tenant_id")
        found = await self._books.entries(
            asked.text("tenant_id"), before_id=asked.number(), limit=asked.limit + 1
        )
        return Page.of(found, asked.limit, lambda row: str(row.id)).answer(render_entry)

    async def adjust(self, request: Request) -> Response:
        body = await read_body(request, AdjustmentBody)
        adjusted = await self._books.adjust(
            act_of(request), body.tenant_id, body.spent_micros, reason=body.reason, name=request_name(request)
        )
        return answer(render_entry(adjusted.row), 201, repeated=adjusted.repeated)

    async def reconcile(self, request: Request) -> Response:
        read_query(request)
        differences = await self._books.reconcile()
        return answer({"clean": not differences, "differences": list(map(render_difference, differences))})

    async def usage(self, request: Request) -> Response:
        values = read_query(request, ("tenant_id", *USAGE_PARAMETERS))
        query = read_usage_query(values, values.get("tenant_id"), tuple(Dimension))
        return await answer_usage(self._reports, query, values, with_cost=True)

    async def acts(self, request: Request) -> Response:
        asked = Parameters(request, "tenant_id")
        found = await self._books.audit_log(
            asked.text("tenant_id"), before_id=asked.number(), limit=asked.limit + 1
        )
        return Page.of(found, asked.limit, lambda entry: str(entry.id)).answer(render_act)
