"""What every page needs: who is asking and whether they may, and a page or an address in answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.accounts.people import Membership, People, Permission
from gateway.errors import ErrorCode, GatewayError, InvalidRequest, NotFound
from gateway.model import Act
from gateway.web.dashboard.pages import Pages
from gateway.web.dashboard.visits import Visit, require_visit, visit_of
from gateway.web.problems import STATUSES

#: What is said on the page after something was done, by the name in its address.
SAID: Mapping[str, str] = {
    "saved": "Saved.",
    "created": "Created.",
    "deleted": "Deleted.",
    "canceled": "Canceled.",
    "disabled": "Disabled: it is refused from now on, within five seconds everywhere.",
    "enabled": "Enabled.",
    "revoked": "Revoked, for good: it is refused from now on, within five seconds everywhere.",
    "removed": "Removed.",
    "sent": "Sent.",
    "suspended": "Suspended: none of its keys makes anything new.",
    "activated": "Activated.",
    "adjusted": "Entered into the ledger.",
}


@dataclass(frozen=True, slots=True)
class Seat:
    """Somebody at a tenant's page."""

    visit: Visit
    membership: Membership

    @property
    def tenant_id(self) -> str:
        return self.membership.tenant.id

    def may(self, permission: str) -> bool:
        """For templates, which know permissions by their names."""
        return self.membership.may(Permission(permission))


class Desk:
    """Stands behind every handler of a page."""

    def __init__(self, people: People, pages: Pages) -> None:
        self._people = people
        self._pages = pages

    async def enter(self, request: Request, permission: Permission) -> Seat:
        """Let somebody in to a tenant's page. Raises `NotFound` for strangers, `Forbidden` for others."""
        visit = require_visit(request.scope)
        tenant_id = request.path_params["tenant_id"]
        membership = await self._people.enter(visit.person, tenant_id, permission)
        request.scope["ids"]["tenant_id"] = membership.tenant.id
        return Seat(visit, membership)

    def administrator(self, request: Request) -> Visit:
        """Let a platform administrator in. To everybody else there is no such page: raises `NotFound`."""
        visit = require_visit(request.scope)
        if not visit.person.admin:
            raise NotFound("There is no such page.", code=ErrorCode.ROUTE_NOT_FOUND)
        return visit

    def act(self, request: Request) -> Act:
        """Who does something, for the audit log."""
        act: Act = request.scope["act"]
        return act

    def page(
        self,
        request: Request,
        template: str,
        *,
        seat: Seat | None = None,
        status: int = 200,
        **values: Any,
    ) -> Response:
        """A page. Templates find ``visit``, ``seat``, ``path``, ``said`` and what is named here."""
        shared = {
            "visit": visit_of(request.scope),
            "seat": seat,
            "path": request.scope["path"],
            "said": SAID.get(request.query_params.get("said", "")),
        }
        return self._pages.render(template, shared | values, status)

    def show_error(self, request: Request, error: GatewayError) -> Response:
        """The page for what went wrong, with the fields that will not do."""
        status, title = STATUSES.get(error.code, STATUSES[ErrorCode.INTERNAL_ERROR])
        faults = error.fields if isinstance(error, InvalidRequest) else ()
        return self.page(
            request,
            "error.html",
            status=status,
            title=title,
            error=error,
            faults=faults,
            request_id=request.scope["request_id"],
        )


def go(path: str, said: str | None = None, **query: str) -> Response:
    """On to another page, which says what was done: after a form, so that reloading repeats nothing."""
    asked = {**query, **({} if said is None else {"said": said})}
    return RedirectResponse(path + (f"?{urlencode(asked)}" if asked else ""), 303)
