"""Pages of platform administrators: tenants, what they may and have spent, deployments, queue, records."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.books import Books
from gateway.accounts.tenants import Tenants
from gateway.errors import FieldError, GatewayError, InvalidRequest
from gateway.model import TenantStatus
from gateway.tasks.archive import TaskArchive
from gateway.tasks.deployment_view import DeploymentView
from gateway.web.admin.requests import Parameters
from gateway.web.admin.schemas import TenantBody, TenantPatch
from gateway.web.dashboard.desk import Desk, go
from gateway.web.dashboard.fields import body_of, budgets_of, limits_of, micros_of, plain_usd
from gateway.web.dashboard.forms import form_of
from gateway.web.dashboard.gate import PREFIX
from gateway.web.schemas import parse_body

_ADMIN = f"{PREFIX}/admin"
_LIMITS = ("rpm", "max_concurrent", "max_queued", "retention_days")
_MOST = 200

Check = Callable[[], Awaitable[None]]


class AdminPages:
    """``/dashboard/admin``. Handlers let in by `Desk.administrator`; to others there is no such page."""

    def __init__(
        self,
        desk: Desk,
        tenants: Tenants,
        books: Books,
        archive: TaskArchive,
        deployments: DeploymentView,
        checks: Mapping[str, Check],
    ) -> None:
        self._desk = desk
        self._tenants = tenants
        self._books = books
        self._archive = archive
        self._deployments = deployments
        self._checks = checks

    async def list(self, request: Request) -> Response:
        self._desk.administrator(request)
        return await self._list(request)

    async def create(self, request: Request) -> Response:
        self._desk.administrator(request)
        form = form_of(request)
        try:
            body = parse_body(TenantBody, body_of(form, ("name", "zone")))
            made = await self._tenants.create(
                self._desk.act(request), budgets=budgets_of(form), **body.terms()
            )
        except GatewayError as error:
            return await self._list(request, error)
        return go(f"{_ADMIN}/tenants/{made.id}", "created")

    async def show(self, request: Request) -> Response:
        self._desk.administrator(request)
        return await self._show(request)

    async def change(self, request: Request) -> Response:
        self._desk.administrator(request)
        form, tenant_id = form_of(request), request.path_params["tenant_id"]
        asked = body_of(form, ("name", "zone"), ("weight",)) | limits_of(form, _LIMITS)
        try:
            terms = parse_body(TenantPatch, asked).terms()
            budgets = budgets_of(form)
            await self._tenants.update(self._desk.act(request), tenant_id, **terms)
            await self._tenants.set_budgets(self._desk.act(request), tenant_id, budgets)
        except GatewayError as error:
            return await self._show(request, error)
        return go(f"{_ADMIN}/tenants/{tenant_id}", "saved")

    async def switch(self, request: Request) -> Response:
        """Suspend a tenant, or let it work again."""
        self._desk.administrator(request)
        tenant_id, suspend = request.path_params["tenant_id"], form_of(request).ticked("suspend")
        act = self._desk.act(request)
        await (self._tenants.suspend(act, tenant_id) if suspend else self._tenants.activate(act, tenant_id))
        return go(f"{_ADMIN}/tenants/{tenant_id}", "suspended" if suspend else "activated")

    async def adjust(self, request: Request) -> Response:
        """An entry into the ledger by hand; sent twice, it is still one."""
        self._desk.administrator(request)
        form, tenant_id = form_of(request), request.path_params["tenant_id"]
        try:
            micros = micros_of(form, "amount")
            if micros is None:
                raise InvalidRequest((FieldError("amount", "required", "is needed; a credit is negative."),))  # noqa: TRY301 - answered like the service's own
            await self._books.adjust(
                self._desk.act(request), tenant_id, micros, reason=form.text("reason"), name=form.text("once")
            )
        except GatewayError as error:
            return await self._show(request, error)
        return go(f"{_ADMIN}/tenants/{tenant_id}", "adjusted")

    async def system(self, request: Request) -> Response:
        """Deployments, the queue by tenant, and whether what the gateway stands on is there."""
        self._desk.administrator(request)
        return self._desk.page(
            request,
            "admin_system.html",
            health={name: await _trouble(check) for name, check in self._checks.items()},
            deployments=await self._deployments.look(),
            lines=await self._archive.queue(),
        )

    async def audit(self, request: Request) -> Response:
        self._desk.administrator(request)
        asked = Parameters(request, "tenant_id", "said")
        entries = await self._books.audit_log(
            asked.text("tenant_id") or None, before_id=asked.number(), limit=asked.limit
        )
        return self._records(request, "admin_audit.html", entries, asked.limit)

    async def ledger(self, request: Request) -> Response:
        self._desk.administrator(request)
        asked = Parameters(request, "tenant_id", "said")
        entries = await self._books.entries(
            asked.text("tenant_id") or None, before_id=asked.number(), limit=asked.limit
        )
        return self._records(request, "admin_ledger.html", entries, asked.limit)

    def _records(self, request: Request, template: str, entries: Any, limit: int) -> Response:
        older = entries[-1].id if len(entries) == limit else None
        tenant_id = request.query_params.get("tenant_id", "")
        return self._desk.page(request, template, entries=entries, older=older, tenant_id=tenant_id)

    async def _list(self, request: Request, error: GatewayError | None = None) -> Response:
        name = request.query_params.get("q", "").strip()
        return self._desk.page(
            request,
            "admin_tenants.html",
            status=400 if error else 200,
            tenants=await self._tenants.list(limit=_MOST, name_part=name or None),
            q=name,
            trouble=error.detail if error else "",
        )

    async def _show(self, request: Request, error: GatewayError | None = None) -> Response:
        portrait = await self._tenants.portray(request.path_params["tenant_id"])
        return self._desk.page(
            request,
            "admin_tenant.html",
            status=400 if error else 200,
            tenant=portrait.tenant,
            suspended=portrait.tenant.status is TenantStatus.SUSPENDED,
            budgets=portrait.budgets,
            members=portrait.members,
            plain={each.window.value: plain_usd(each.limit_micros) for each in portrait.budgets},
            trouble=error.detail if error else "",
            once=request.scope["request_id"],
        )


async def _trouble(check: Check) -> str:
    """What is wrong; empty when nothing is."""
    try:
        await check()
    except GatewayError as error:
        return error.detail
    return ""
