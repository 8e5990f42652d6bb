"""The cookies that the dashboard sets (RFC 6265bis): for itself alone, out of reach of scripts."""

from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

from starlette.types import Scope

_SECONDS_LEFT = 0


class Cookies:
    """``secure`` where the gateway is reached by https: then no other host or path can have set them."""

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure

    def name(self, name: str) -> str:
        return f"__Host-{name}" if self._secure else name

    def read(self, scope: Scope, name: str) -> str:
        """The value that a request carries; empty without one."""
        for text in _texts(scope):
            try:
                morsel = SimpleCookie(text).get(self.name(name))
            except CookieError:
                continue
            if morsel is not None:
                return morsel.value
        return ""

    def make(self, name: str, value: str, *, life_s: int) -> tuple[bytes, bytes]:
        """The header that sets it. ``value`` is of our own making: letters, digits, and ``.-_``."""
        parts = [f"{self.name(name)}={value}", "Path=/", f"Max-Age={life_s}", "HttpOnly", "SameSite=Lax"]
        if self._secure:
            parts.append("Secure")
        return b"set-cookie", "; ".join(parts).encode()

    def drop(self, name: str) -> tuple[bytes, bytes]:
        return self.make(name, "", life_s=_SECONDS_LEFT)


def _texts(scope: Scope) -> Iterable[str]:
    return (value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")
