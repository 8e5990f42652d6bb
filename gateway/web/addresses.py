"""Which address a request came from, as far as it can be believed.

Anybody can write an ``X-Forwarded-For``. What a proxy of ours appended stands at its right end, and only that
is believed: one entry for each proxy that is known to be there.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice

from starlette.types import Scope

from gateway.settings import MOST_PROXIES, Network

UNKNOWN = "unknown"
_LONGEST = 60  # an IPv6 address with a zone, brackets and a port
_HOST_BITS = 64

Address = IPv4Address | IPv6Address


class ClientAddresses:
    """``trusted`` is how many proxies stand in front, or the networks they are in; none, if it is 0."""

    def __init__(self, trusted: int | tuple[Network, ...]) -> None:
        self._trusted = trusted

    def of(self, scope: Scope) -> str:
        """What its sender is counted by: an IPv4 address, the /64 of an IPv6 address, or `UNKNOWN`."""
        address = self._address(scope)
        return _grouped(address) if address is not None else UNKNOWN

    def seen(self, scope: Scope) -> str:
        """The whole address, for the record."""
        return str(self._address(scope) or UNKNOWN)

    def _address(self, scope: Scope) -> Address | None:
        client = scope.get("client")
        peer = _parsed(client[0]) if client else None
        if isinstance(self._trusted, int):
            return _behind(self._trusted, scope) or peer
        return self._last_untrusted(peer, scope)

    def _last_untrusted(self, peer: Address | None, scope: Scope) -> Address | None:
        """The nearest one that is no proxy of ours. Behind what cannot be read, nothing is believed."""
        nearest = peer
        entries = _forwarded(scope)
        while nearest is not None and self._is_ours(nearest):
            before = _parsed(next(entries, ""))
            if before is None:
                break
            nearest = before
        return nearest

    def _is_ours(self, address: Address) -> bool:
        return not isinstance(self._trusted, int) and any(address in network for network in self._trusted)


def _behind(hops: int, scope: Scope) -> Address | None:
    """The entry that the outermost of so many proxies appended; the leftmost, if there are fewer."""
    entries = list(islice(_forwarded(scope), hops))
    return _parsed(entries[-1]) if entries else None


def _forwarded(scope: Scope) -> Iterator[str]:
    """The entries of all X-Forwarded-For headers from the right, `MOST_PROXIES` of them."""
    return islice(_all_forwarded(scope), MOST_PROXIES)


def _all_forwarded(scope: Scope) -> Iterator[str]:
    for name, value in reversed(scope["headers"]):
        if name == b"x-forwarded-for":
            # A header may have 60,000 bytes: what lies further to the left is left in one piece.
            yield from reversed(value.decode("latin-1").rsplit(",", MOST_PROXIES))


def _parsed(entry: str) -> Address | None:
    """The address in ``1.2.3.4``, ``1.2.3.4:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``; else None."""
    text = entry.strip()
    if len(text) > _LONGEST:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _grouped(address: Address) -> str:
    """Whoever has an IPv6 address has a whole /64 of them."""
    if isinstance(address, IPv4Address):
        return str(address)
    network = int(address) >> _HOST_BITS << _HOST_BITS
    return f"{IPv6Address(network)}/64"
