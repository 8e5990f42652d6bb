"""The gate before the admin API: an admin token, or nothing; not even whether an address exists."""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.accounts.admins import AdminTokens
from gateway.errors import ErrorCode, Forbidden, NotAnAdmin
from gateway.model import Act
from gateway.settings import ADMIN_TOKEN_CHARS


class AdminGate:
    """Lets administrators through to the router behind it. It looks at nothing but the request's headers.

    Puts the `Act` under which they act into the scope, for the audit log. Raises `Forbidden` while no token
    is configured, `NotAnAdmin` for everybody else.
    """

    def __init__(self, admins: AdminTokens, source_of: Callable[[Scope], str], router: ASGIApp) -> None:
        self._admins = admins
        self._source_of = source_of
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = self._actor(scope)
        scope["act"] = Act(actor, self._source_of(scope), scope["request_id"])
        scope["ids"] = {"actor": actor}
        await self._router(scope, receive, send)

    def _actor(self, scope: Scope) -> str:
        if not self._admins:
            raise Forbidden(
                "The admin API is closed. Whoever runs the gateway opens it by setting GATEWAY_ADMIN_TOKEN "
                f"to a secret of at least {ADMIN_TOKEN_CHARS} characters.",
                code=ErrorCode.ADMIN_CLOSED,
            )
        actor = self._admins.actor(_bearer(scope))
        if actor is None:
            raise NotAnAdmin("Send an admin token as Authorization: Bearer. An API key is none.")
        return actor


def _bearer(scope: Scope) -> str:
    """The token that a request presents; empty without one, and where it presents several."""
    values = Headers(scope=scope).getlist("authorization")
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""
