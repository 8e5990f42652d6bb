"""Which addresses webhooks may go to. Pure: names are resolved in `gateway.webhooks.guard`, when connecting.

The special networks are those of IANA's two registries (RFC 6890), and two that clouds use for their own.
"""

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

from gateway.errors import FieldError, InvalidRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_CHARS = 2000
#: The shape of an address, for the schema: no credentials, no fragment, nothing that must be encoded.
URL_PATTERN = (
    r"^https?://([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][!-\"$-~]*)?$"
)
_URL = re.compile(URL_PATTERN)
_NOT_A_URL = ("not_a_url", "must be an absolute https:// URL, with what is not ASCII percent-encoded.")
_LAST_PORT = 65_535
_LOCAL_NAMES = ("localhost", "localhost.localdomain")

_NOT_FOR_WEBHOOKS = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # unspecified: "this host"
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' own; some clouds' metadata
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local: metadata of most clouds
        "168.63.129.16/32",  # Azure's platform, from inside
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112, like 192.175.48.0/24
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        # Of IPv6 only 2000::/3 is given out to the world; of that, not:
        "2001::/23",  # protocol assignments, among them Teredo, which holds an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
# DNS64 gives such addresses to hosts that have IPv6 only; the last 32 bits are where they lead.
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """``allowed`` are networks that may be reached although special, and without TLS too."""

    allowed: tuple[Network, ...] = ()

    def permits(self, address: Address, *, plain: bool) -> bool:
        """Whether a connection may be made to it. ``plain`` is one without TLS."""
        ways = _ways(address)
        if any(way in network for way in ways for network in self.allowed):
            return True
        return not plain and all(_is_global(way) for way in ways)

    def check_url(self, url: str, field: str) -> None:
        """Refuse an address that can never be delivered to. Raises `InvalidRequest` for ``field``.

        Where a name leads is not looked at: that may change, and counts when connecting.
        """
        problem = self._problem(url)
        if problem is not None:
            raise InvalidRequest((FieldError(field, *problem),))

    def _problem(self, url: str) -> tuple[str, str] | None:
        """Code and advice, or None when it may be tried."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            return _NOT_A_URL
        return _shape_problem(url, parsed) or self._reach_problem(parsed)

    def _reach_problem(self, parsed: httpx.URL) -> tuple[str, str] | None:
        plain = parsed.scheme == "http"
        literal = _literal(parsed.host)
        if literal is not None and not self.permits(literal, plain=False):
            return "address_refused", "names an address that this gateway does not send to."
        if plain and not (self.permits(literal, plain=True) if literal is not None else self.allowed):
            return "https_required", "must begin with https://."
        return None


def _shape_problem(url: str, parsed: httpx.URL) -> tuple[str, str] | None:
    if len(url) > URL_CHARS:
        return "too_long", f"has more than {URL_CHARS} characters."
    if parsed.userinfo:
        return "credentials", "must not hold a user name or password; check the signature instead."
    if "#" in url:
        return "fragment", "must not have a fragment: it would never be sent."
    if not _URL.fullmatch(url) or not 0 < (1 if parsed.port is None else parsed.port) <= _LAST_PORT:
        return _NOT_A_URL
    return None


def _literal(host: str) -> Address | None:
    """The address that a host is, if it is no name. Also in the ways that only old resolvers read."""
    host = host.rstrip(".").lower()
    if host in _LOCAL_NAMES or host.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        # 127.1, 2130706433, 0x7f.0.0.1: no name ends so, and getaddrinfo reads each as 127.0.0.1.
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _ways(address: Address) -> Sequence[Address]:
    """The address, and the IPv4 address that a connection to it would reach."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return (address,)


def _is_global(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return False
    return not any(address in network for network in _NOT_FOR_WEBHOOKS)
