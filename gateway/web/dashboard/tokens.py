"""Signed statements of identity (JWT, RFC 7519): their keys fetched and kept, their claims checked."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from gateway.errors import ErrorCode, Forbidden, Unavailable
from gateway.ports import Clock

Fetch = Callable[[str], Awaitable[Mapping[str, Any]]]

_KEPT_S = 3600.0
_AGAIN_S = 60.0
_LEEWAY_S = 30
_TIMEOUT_S = 10.0
# What joserfc lets through of a forged token besides its own errors: a header that is of the wrong type.
_UNREADABLE = (JoseError, ValueError, TypeError, KeyError, AttributeError)


async def fetch_json(url: str) -> Mapping[str, Any]:
    """A small document of a provider's. Raises `Unavailable`."""
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
            response = await client.get(url)
            response.raise_for_status()
            found = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise provider_away(str(error)) from error
    if not isinstance(found, dict):
        raise provider_away(f"{url} is no JSON object")
    return found


def provider_away(internal: str) -> Unavailable:
    return Unavailable(
        "Who you are cannot be asked just now. Try again in a minute.",
        code=ErrorCode.SIGN_IN_UNAVAILABLE,
        internal=internal,
    )


class KeySets:
    """The public keys at an address: kept for an hour, and asked for again when one is not among them."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._found: dict[str, tuple[float, KeySet]] = {}

    async def claims(
        self, token: str, keys_url: str, algorithms: tuple[str, ...], expected: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """What the token says, if one of those keys signed it for us and its time is now.

        ``expected`` are claims that must be there with these values. Raises `Forbidden` or `Unavailable`.
        """
        try:
            claims = self._decode(token, await self._keys(keys_url, _KEPT_S), algorithms)
        except _UNREADABLE:
            # Keys are replaced now and then.
            try:
                claims = self._decode(token, await self._keys(keys_url, _AGAIN_S), algorithms)
            except _UNREADABLE as error:
                raise refused(str(error)) from error
        options: dict[str, Any] = {
            name: {"essential": True, "value": value} for name, value in expected.items()
        }
        times: dict[str, Any] = {"exp": {"essential": True}, "iat": {"essential": True}}
        registry = jwt.JWTClaimsRegistry(self._now_s, _LEEWAY_S, **options, **times)
        try:
            registry.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise refused(str(error)) from error
        return claims

    def _decode(self, token: str, keys: KeySet, algorithms: tuple[str, ...]) -> dict[str, Any]:
        return dict(jwt.decode(token, keys, algorithms=list(algorithms)).claims)

    async def _keys(self, url: str, kept_s: float) -> KeySet:
        now_s = self._clock.monotonic_s()
        found = self._found.get(url)
        if found is None or now_s - found[0] >= kept_s:
            document: Any = await self._fetch(url)
            found = self._found[url] = (now_s, _key_set(document, url))
        return found[1]

    def _now_s(self) -> int:
        return self._clock.now_ms() // 1000


def _key_set(document: Any, url: str) -> KeySet:
    """Raises `Unavailable`: keys that cannot be read are the provider's trouble, not the visitor's."""
    try:
        return KeySet.import_key_set(document)
    except _UNREADABLE as error:
        raise provider_away(f"{url} has no keys that can be read: {error}") from error


def refused(internal: str) -> Forbidden:
    """What is told of every statement that will not do: nothing of why."""
    return Forbidden(
        "Signing in did not work. Start again.", code=ErrorCode.SIGN_IN_REFUSED, internal=internal
    )


def verified_email(claims: Mapping[str, Any], *, said: bool) -> str:
    """The address. ``said``: only if the claims say that it was verified (OpenID Connect Core 1.0, §5.1).

    Some providers let people enter any address and say nothing of it. Identity-Aware Proxy has no such claim.
    Raises `Forbidden` for an address that the provider does not vouch for.
    """
    email = claims.get("email")
    if not isinstance(email, str) or "@" not in email or claims.get("email_verified", not said) is not True:
        raise refused("no verified email among the claims")
    return email.strip().lower()
