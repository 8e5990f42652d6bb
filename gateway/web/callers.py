"""Who is calling: the key in a request's headers, checked, and held to what it may be used for.

The abuse guard stands here, where every request with a key passes.
"""

from functools import partial
from typing import Protocol

from starlette.requests import Request

from gateway.accounts.authentication import Authenticator
from gateway.accounts.guard import Guard
from gateway.errors import Forbidden, Unauthorized, Unavailable
from gateway.model import Principal, Scope
from gateway.web.addresses import ClientAddresses

_KEY_PREFIX = "mg_"
_READS = frozenset({"GET", "HEAD"})


class CallerSource(Protocol):
    """Turns requests into principals: by their keys (`Callers`), or for who is signed in to the dashboard."""

    async def identify(self, request: Request, scope: Scope) -> Principal: ...

    async def is_still_good(self, request: Request, scope: Scope) -> bool: ...


class Callers:
    """Turns requests into principals."""

    def __init__(self, authenticator: Authenticator, guard: Guard, addresses: ClientAddresses) -> None:
        self._authenticator = authenticator
        self._guard = guard
        self._addresses = addresses

    async def identify(self, request: Request, scope: Scope) -> Principal:
        """The caller of a request that needs this scope.

        Raises `Unauthorized` or `Forbidden`; `LimitReached`, or `Unavailable`, where the guard stops it.
        """
        principal = await self._authenticate(request)
        request.scope["ids"] = {"tenant_id": principal.tenant_id, "key_id": principal.key_id}
        if request.method in _READS:
            await self._guard.read(principal.key_id)
        if scope not in principal.scopes:
            raise Forbidden(
                f"This key does not have the scope {scope.value!r}, which this request needs; "
                "ask your platform team for it, or use another key."
            )
        return principal

    async def is_still_good(self, request: Request, scope: Scope) -> bool:
        """Whether the key of a request whose answer goes on still opens it; it is not counted again.

        While the database cannot say, it does: then there is nothing to be told either.
        """
        try:
            principal = await self._authenticator.authenticate(_presented_key(request))
        except Unauthorized:
            return False
        except Unavailable:
            return True
        return scope in principal.scopes

    async def _authenticate(self, request: Request) -> Principal:
        """A key that is known here costs no thought of its address; only what fails is counted by it."""
        try:
            return await self._authenticator.authenticate(
                _presented_key(request), partial(self._before_look_up, request)
            )
        except Unauthorized:
            await self._guard.bad_key(self._addresses.of(request.scope))
            raise

    async def _before_look_up(self, request: Request) -> None:
        await self._guard.before_look_up(self._addresses.of(request.scope))


def _presented_key(request: Request) -> str | None:
    key = request.headers.get("x-api-key")
    authorization = request.headers.get("authorization")
    if authorization is None:
        return key
    scheme, _, token = authorization.partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else None
    if key is None or bearer is None:
        return key or bearer
    # Beside a key, Authorization may hold what lets the caller through to us, as Cloud Run's own tokens do.
    if bearer != key and bearer.startswith(_KEY_PREFIX):
        raise Unauthorized("X-Api-Key and Authorization name different keys; send one of them.")
    return key
