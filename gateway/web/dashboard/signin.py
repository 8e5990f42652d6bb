"""Signing in by a link, and signing out: here or everywhere."""

import re

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.accounts.sessions import Session, Sessions
from gateway.errors import ErrorCode, GatewayError
from gateway.web.dashboard.cookies import Cookies
from gateway.web.dashboard.desk import Desk
from gateway.web.dashboard.forms import form_of
from gateway.web.dashboard.gate import PREFIX, SESSION_COOKIE, SIGN_IN, session_cookie
from gateway.web.dashboard.visits import require_visit, visit_of

# A path of ours and nothing that a browser could take for another host: no second slash, no backslash.
_OURS = re.compile(r"/(?:dashboard|docs)(?:[/?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?", re.ASCII)


class SignInPages:
    """``/dashboard/sign-in…`` and ``/dashboard/sign-out``. ``providers``: label, address."""

    def __init__(
        self,
        desk: Desk,
        sessions: Sessions,
        cookies: Cookies,
        providers: tuple[tuple[str, str], ...],
        life_s: int,
        *,
        behind_proxy: bool,
    ) -> None:
        self._desk = desk
        self._sessions = sessions
        self._cookies = cookies
        self._providers = providers
        self._life_s = life_s
        self._behind_proxy = behind_proxy

    async def show(self, request: Request) -> Response:
        after = safe_path(request.query_params.get("next", ""))
        if visit_of(request.scope) is not None:
            return RedirectResponse(after, 303)
        return self._page(request, after)

    async def show_link(self, request: Request) -> Response:
        """A page with a button: what fetches links for a preview must not use them up."""
        return self._desk.page(request, "link.html", secret=request.query_params.get("token", ""))

    async def use_link(self, request: Request) -> Response:
        try:
            session = await self._sessions.use_link(form_of(request).text("token"))
        except GatewayError as error:
            if error.code is not ErrorCode.LINK_INVALID:
                raise
            return self._page(request, PREFIX, error.detail)
        return self.begin(session, PREFIX)

    def _page(self, request: Request, after: str, trouble: str = "") -> Response:
        return self._desk.page(
            request,
            "sign_in.html",
            status=403 if trouble else 200,
            providers=self._providers,
            behind_proxy=self._behind_proxy,
            after=after,
            trouble=trouble,
        )

    def begin(self, session: Session, after: str) -> Response:
        """Keep a session that was just opened, and go on."""
        response = RedirectResponse(safe_path(after), 303)
        response.raw_headers.append(session_cookie(self._cookies, session, self._life_s))
        return response

    async def sign_out(self, request: Request) -> Response:
        """Here, or wherever this person is signed in."""
        visit = require_visit(request.scope)
        if form_of(request).ticked("everywhere"):
            await self._sessions.end_all(visit.person.email)
        elif visit.session_id is not None:
            await self._sessions.end(visit.session_id)
        response = RedirectResponse(SIGN_IN, 303)
        response.raw_headers.append(self._cookies.drop(SESSION_COOKIE))
        return response


def safe_path(path: str) -> str:
    """A page of ours to go to after signing in; the first one for anything else."""
    return path if _OURS.fullmatch(path) and "//" not in path else PREFIX
