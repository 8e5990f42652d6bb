"""People that Identity-Aware Proxy has signed in: who they are is in a header that it signs.

Document: cloud.google.com/iap/docs/signed-headers-howto. Without a valid one nobody is signed in, whatever
cookie they have: whoever gets past the proxy must not get in here.
"""

from starlette.datastructures import Headers
from starlette.types import Scope

from gateway.accounts.people import People
from gateway.accounts.sessions import Sessions, SignInMethod
from gateway.web.dashboard.tokens import KeySets, verified_email
from gateway.web.dashboard.visits import Visit

HEADER = "x-goog-iap-jwt-assertion"
ISSUER = "https://cloud.google.com/iap"


class IapVisitors:
    """`gateway.web.dashboard.gate.ProxyVisitor`. Raises `Forbidden` for an assertion that will not do."""

    def __init__(
        self, keys: KeySets, people: People, sessions: Sessions, *, audience: str, keys_url: str
    ) -> None:
        self._keys = keys
        self._people = people
        self._sessions = sessions
        self._expected = {"iss": ISSUER, "aud": audience}
        self._keys_url = keys_url

    async def __call__(self, scope: Scope) -> Visit | None:
        assertion = Headers(scope=scope).get(HEADER)
        if assertion is None:
            return None
        claims = await self._keys.claims(assertion, self._keys_url, ("ES256",), self._expected)
        person = await self._people.find(verified_email(claims, said=False))
        return Visit(person, self._sessions.form_token(f"iap {person.email}"), SignInMethod.IAP)
