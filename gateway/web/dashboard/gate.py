"""The gate before the dashboard: who is this, did this form come from us, and what every page carries.

Closed unless it is said to be open: only the addresses in `OPEN` are shown to those who have not signed in.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.accounts.people import People
from gateway.accounts.sessions import Session, Sessions
from gateway.errors import ErrorCode, GatewayError, Unauthorized
from gateway.model import Act
from gateway.web.dashboard.cookies import Cookies
from gateway.web.dashboard.forms import receive_form, refuse_other_sites
from gateway.web.dashboard.visits import Visit, put_visit, visit_of

logger = logging.getLogger(__name__)

PREFIX = "/dashboard"
SIGN_IN = f"{PREFIX}/sign-in"
API = f"{PREFIX}/api/"
#: Shown to everybody: how to sign in, what pages are made of, the documentation.
OPEN = (SIGN_IN, f"{PREFIX}/static/", "/docs")
SESSION_COOKIE = "gateway_session"
_SAFE = frozenset({"GET", "HEAD"})

#: Finds who a request comes from by what a proxy in front says of it; None where it says nothing.
ProxyVisitor = Callable[[Scope], Awaitable[Visit | None]]
ShowError = Callable[[Request, GatewayError], Response]


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """``audio_origins`` are where players may load audio from, besides the gateway itself."""

    own_hosts: frozenset[str]
    audio_origins: tuple[str, ...]
    session_s: int

    def security_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        media = " ".join(("'self'", *self.audio_origins))
        policy = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self' data:",
                "font-src 'self'",
                f"media-src {media}",
                f"connect-src {media}",
                "form-action 'self'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
            )
        )
        return (
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"same-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        )


class Gate:
    """Wraps the dashboard's router."""

    def __init__(
        self,
        router: ASGIApp,
        sessions: Sessions,
        people: People,
        cookies: Cookies,
        policy: GatePolicy,
        source_of: Callable[[Scope], str],
        show_error: ShowError,
        proxy_visitor: ProxyVisitor | None = None,
    ) -> None:
        self._router = router
        self._sessions = sessions
        self._people = people
        self._cookies = cookies
        self._headers = policy.security_headers()
        self._policy = policy
        self._source_of = source_of
        self._show_error = show_error
        self._proxy_visitor = proxy_visitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        added: list[tuple[bytes, bytes]] = []
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                there = {name for name, _ in message["headers"]}
                usual = [*self._headers, (b"cache-control", b"no-store")]
                message["headers"] += [each for each in usual if each[0] not in there]
                if b"set-cookie" not in there:
                    message["headers"] += added
            await send(message)

        try:
            receive = await self._admit(scope, receive, added)
            await self._router(scope, receive, send_with_headers)
        except (GatewayError, HTTPException) as error:
            if started or scope["path"].startswith(API):
                raise
            response = self._answer(Request(scope), _known(error))
            await response(scope, receive, send_with_headers)

    async def _admit(self, scope: Scope, receive: Receive, added: list[tuple[bytes, bytes]]) -> Receive:
        put_visit(scope, None)
        visit = await self._visit(scope, added)
        put_visit(scope, visit)
        actor = visit.person.email if visit else "nobody"
        scope["act"] = Act(f"person:{actor}", self._source_of(scope), scope["request_id"])
        scope["ids"] = {"person": actor} if visit else {}
        if visit is None and not _is_open(scope["path"]):
            raise Unauthorized("Sign in to the dashboard first.")
        if scope["method"] in _SAFE:
            return receive
        refuse_other_sites(scope, self._policy.own_hosts)
        return await receive_form(scope, receive, visit.form_token if visit else None)

    async def _visit(self, scope: Scope, added: list[tuple[bytes, bytes]]) -> Visit | None:
        if self._proxy_visitor is not None:
            return await self._proxy_visitor(scope)
        token = self._cookies.read(scope, SESSION_COOKIE)
        session = await self._sessions.find(token) if token else None
        if session is None:
            return None
        if session.token is not None:
            added.append(session_cookie(self._cookies, session, self._policy.session_s))
        person = await self._people.find(session.email, admin=session.admin)
        return Visit(person, session.form_token, session.method, session.id)

    def _answer(self, request: Request, error: GatewayError) -> Response:
        """A page that says what is wrong; whoever is not signed in is shown where to."""
        reads = request.method in _SAFE
        if isinstance(error, Unauthorized) and reads and visit_of(request.scope) is None:
            wanted = request.scope["path"]
            query = request.scope["query_string"].decode("latin-1")
            after = f"?next={quote(wanted + (f'?{query}' if query else ''), safe='')}"
            return RedirectResponse(SIGN_IN + ("" if wanted == PREFIX else after), 303)
        if error.code is ErrorCode.INTERNAL_ERROR or error.internal:
            logger.error("%s: %s", error.code.value, error.internal or error.detail)
        return self._show_error(request, error)


def session_cookie(cookies: Cookies, session: Session, life_s: int) -> tuple[bytes, bytes]:
    """The header that keeps a session's new token."""
    return cookies.make(SESSION_COOKIE, session.token or "", life_s=life_s)


def _is_open(path: str) -> bool:
    return any(path == each.rstrip("/") or path.startswith(each.rstrip("/") + "/") for each in OPEN)


def _known(error: GatewayError | HTTPException) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    if error.status_code == 404:  # noqa: PLR2004 - the router's word
        return GatewayError("There is no such page.", code=ErrorCode.ROUTE_NOT_FOUND)
    return GatewayError("This page takes no such request.", code=ErrorCode.METHOD_NOT_ALLOWED)
