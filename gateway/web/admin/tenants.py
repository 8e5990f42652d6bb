"""Tenants, their budgets and their people."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.tenants import Tenants
from gateway.model import Role
from gateway.web.admin.requests import Page, Parameters, act_of, cursor_at, read_body
from gateway.web.admin.schemas import BudgetsBody, MemberBody, TenantBody, TenantPatch
from gateway.web.admin.views import render_budgets, render_member, render_portrait, render_tenant
from gateway.web.answers import answer, nothing
from gateway.web.queries import read_query


class TenantsApi:
    """``/admin/api/tenants``."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    async def list(self, request: Request) -> Response:
        asked = Parameters(request, "name")
        found = await self._tenants.list(
            after=asked.place(), limit=asked.limit + 1, name_part=asked.text("name")
        )
        page = Page.of(found, asked.limit, lambda tenant: cursor_at(tenant.created_at_ms, tenant.id))
        return page.answer(render_tenant)

    async def create(self, request: Request) -> Response:
        body = await read_body(request, TenantBody)
        tenant = await self._tenants.create(act_of(request), budgets=body.budgets.limits(), **body.terms())
        return await self._portrait(tenant.id, 201)

    async def get(self, request: Request) -> Response:
        read_query(request)
        return await self._portrait(_tenant_id(request))

    async def update(self, request: Request) -> Response:
        body = await read_body(request, TenantPatch)
        tenant = await self._tenants.update(act_of(request), _tenant_id(request), **body.terms())
        return await self._portrait(tenant.id)

    async def suspend(self, request: Request) -> Response:
        read_query(request)
        tenant = await self._tenants.suspend(act_of(request), _tenant_id(request))
        return await self._portrait(tenant.id)

    async def activate(self, request: Request) -> Response:
        read_query(request)
        tenant = await self._tenants.activate(act_of(request), _tenant_id(request))
        return await self._portrait(tenant.id)

    async def set_budgets(self, request: Request) -> Response:
        body = await read_body(request, BudgetsBody)
        budgets = await self._tenants.set_budgets(act_of(request), _tenant_id(request), body.limits())
        return answer({"budgets": render_budgets(budgets)})

    async def list_members(self, request: Request) -> Response:
        read_query(request)
        members = await self._tenants.list_members(_tenant_id(request))
        return Page(members, None).answer(render_member)

    async def put_member(self, request: Request) -> Response:
        body = await read_body(request, MemberBody)
        email, role = request.path_params["email"], Role(body.role)
        member = await self._tenants.put_member(act_of(request), _tenant_id(request), email, role)
        return answer(render_member(member))

    async def remove_member(self, request: Request) -> Response:
        read_query(request)
        email = request.path_params["email"]
        await self._tenants.remove_member(act_of(request), _tenant_id(request), email)
        return nothing()

    async def _portrait(self, tenant_id: str, status: int = 200) -> Response:
        return answer(render_portrait(await self._tenants.portray(tenant_id)), status)


def _tenant_id(request: Request) -> str:
    return str(request.path_params["tenant_id"])
