"""Who is calling: the key in a request's headers, checked, and held to what it may be used for."""

from starlette.requests import Request

from gateway.accounts.authentication import Authenticator
from gateway.errors import Forbidden, Unauthorized
from gateway.model import Principal, Scope

_KEY_PREFIX = "mg_"


class Callers:
    """Turns requests into principals."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def identify(self, request: Request, scope: Scope) -> Principal:
        """The caller of a request that needs this scope. Raises `Unauthorized` or `Forbidden`."""
        principal = await self._authenticator.authenticate(_presented_key(request))
        request.scope["ids"] = {"tenant_id": principal.tenant_id, "key_id": principal.key_id}
        if scope not in principal.scopes:
            raise Forbidden(
                f"This key does not have the scope {scope.value!r}, which this request needs; "
                "ask your platform team for it, or use another key."
            )
        return principal


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
