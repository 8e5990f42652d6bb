"""The first page: on to the only tenant there is, or a choice of them."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.model import Tenant
from gateway.web.dashboard.desk import Desk, go
from gateway.web.dashboard.gate import PREFIX
from gateway.web.dashboard.visits import require_visit

_MOST = 200


class HomePage:
    """``/dashboard``. ``list_tenants`` gives at most so many, for administrators."""

    def __init__(self, desk: Desk, list_tenants: Callable[[int], Awaitable[tuple[Tenant, ...]]]) -> None:
        self._desk = desk
        self._list_tenants = list_tenants

    async def show(self, request: Request) -> Response:
        visit = require_visit(request.scope)
        memberships = visit.person.memberships
        if len(memberships) == 1 and not visit.person.admin:
            return go(tenant_path(memberships[0].tenant.id))
        others = await self._list_tenants(_MOST) if visit.person.admin else ()
        known = {each.tenant.id for each in memberships}
        others = tuple(tenant for tenant in others if tenant.id not in known)
        if visit.person.admin and not memberships and len(others) == 1:
            return go(tenant_path(others[0].id))
        return self._desk.page(request, "home.html", memberships=memberships, others=others)


def tenant_path(tenant_id: str, page: str = "try") -> str:
    return f"{PREFIX}/t/{tenant_id}/{page}"
