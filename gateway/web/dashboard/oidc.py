"""Signing in with OpenID Connect: the authorization code flow with PKCE, a state and a nonce.

Documents: OpenID Connect Core 1.0 and Discovery 1.0, RFC 7636. What one attempt has to remember is in a
cookie that is signed and lives for ten minutes, so any instance can take its end.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.accounts.sessions import Sessions, SignInMethod
from gateway.web.dashboard.cookies import Cookies
from gateway.web.dashboard.gate import SIGN_IN
from gateway.web.dashboard.signin import SignInPages, safe_path
from gateway.web.dashboard.tokens import Fetch, KeySets, provider_away, refused, verified_email

COOKIE = "gateway_oidc"
_LIFE_S = 600
# A code verifier has 43 characters at least (RFC 7636 §4.1), which are 32 bytes.
_BYTES = 32
_TIMEOUT_S = 10.0
_ALGORITHMS = ("RS256", "ES256", "PS256")
_DISCOVERY = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Provider:
    """Who signs people in, and who we are to it."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str


class OidcPages:
    """``/dashboard/sign-in/oidc`` and its ``/callback``."""

    def __init__(
        self,
        provider: Provider,
        keys: KeySets,
        fetch: Fetch,
        sessions: Sessions,
        sign_in: SignInPages,
        cookies: Cookies,
        new_bytes: Callable[[int], bytes],
    ) -> None:
        self._provider = provider
        self._keys = keys
        self._fetch = fetch
        self._sessions = sessions
        self._sign_in = sign_in
        self._cookies = cookies
        self._new_bytes = new_bytes
        self._configuration: Mapping[str, Any] | None = None

    async def start(self, request: Request) -> Response:
        """On to the provider."""
        configuration = await self._discover()
        state, nonce, verifier = (_text(self._new_bytes(_BYTES)) for _ in range(3))
        after = safe_path(request.query_params.get("next", ""))
        challenge = _text(hashlib.sha256(verifier.encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self._provider.client_id,
            "redirect_uri": self._provider.redirect_uri,
            "scope": "openid email",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = configuration["authorization_endpoint"]
        response = RedirectResponse(f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", 303)
        kept = self._sessions.seal(".".join((state, nonce, verifier, _text(after.encode()))), _LIFE_S)
        response.raw_headers.append(self._cookies.make(COOKIE, kept, life_s=_LIFE_S))
        return response

    async def finish(self, request: Request) -> Response:
        """Back from the provider. Raises `Forbidden` for what is not the end of what began here."""
        kept = self._sessions.unseal(self._cookies.read(request.scope, COOKIE))
        if kept is None:
            raise refused("no attempt is under way in this browser, or its time is over")
        state, nonce, verifier, after = kept.split(".")
        if not hmac.compare_digest(request.query_params.get("state", "").encode(), state.encode()):
            raise refused("the state is another attempt's")
        if (code := request.query_params.get("code")) is None:
            raise refused(f"the provider says {request.query_params.get('error', 'nothing')[:100]}")
        configuration = await self._discover()
        token = await self._exchange(str(configuration["token_endpoint"]), code, verifier)
        expected = {"iss": str(configuration["issuer"]), "aud": self._provider.client_id, "nonce": nonce}
        claims = await self._keys.claims(token, str(configuration["jwks_uri"]), _ALGORITHMS, expected)
        require_party(claims, self._provider.client_id)
        session = await self._sessions.open(verified_email(claims, said=True), SignInMethod.OIDC)
        response = self._sign_in.begin(session, base64.urlsafe_b64decode(_padded(after)).decode())
        response.raw_headers.append(self._cookies.drop(COOKIE))
        return response

    async def _exchange(self, url: str, code: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._provider.redirect_uri,
            "code_verifier": verifier,
        }
        secret = (self._provider.client_id, self._provider.client_secret)
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
                response = await client.post(url, data=form, auth=secret)
                found = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise provider_away(str(error)) from error
        if response.is_error or not isinstance(found, dict) or not isinstance(found.get("id_token"), str):
            raise refused(f"the provider's token endpoint answered {response.status_code}")
        return str(found["id_token"])

    async def _discover(self) -> Mapping[str, Any]:
        """The provider's own description; what names another issuer is not believed (Discovery §4.3)."""
        if self._configuration is None:
            found = await self._fetch(self._provider.issuer.rstrip("/") + _DISCOVERY)
            wanted = {"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"}
            if not wanted <= found.keys() or found["issuer"].rstrip("/") != self._provider.issuer.rstrip("/"):
                raise provider_away("the provider's configuration is not of the issuer that was named")
            self._configuration = found
        return self._configuration


def require_party(claims: Mapping[str, Any], client_id: str) -> None:
    """Raises `Forbidden` unless the token was made for us; of several audiences it must name us."""
    audiences = claims.get("aud")
    alone = isinstance(audiences, str) or audiences == [client_id]
    if claims.get("azp", client_id if alone else None) != client_id:
        raise refused("the token was made for somebody else")


OIDC_START = f"{SIGN_IN}/oidc"
OIDC_CALLBACK = f"{OIDC_START}/callback"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
