"""Whom a request is counted by: no header, however odd, makes somebody else of its sender."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import MOST_PROXIES, parse_proxies
from gateway.web.addresses import UNKNOWN, ClientAddresses

PROXY = "10.0.0.1"
CLIENT = "203.0.113.7"
INSIDE = "10.0.0.0/8, fd00::/8"


def address(trusted: str, peer: str | None, *forwarded: str | bytes) -> str:
    """What a request from ``peer`` with these X-Forwarded-For headers is counted by."""
    values = [value.encode() if isinstance(value, str) else value for value in forwarded]
    return ClientAddresses(parse_proxies(trusted)).of(scope(peer, values))


def scope(peer: str | None, forwarded: Sequence[bytes]) -> dict[str, Any]:
    headers = [(b"x-api-key", b"x"), *((b"x-forwarded-for", value) for value in forwarded), (b"via", b"x")]
    return {"type": "http", "client": (peer, 4711) if peer is not None else None, "headers": headers}


# Without proxies


def test_without_proxies_it_is_whoever_is_connected() -> None:
    assert address("", CLIENT) == CLIENT


def test_without_proxies_nobody_is_believed() -> None:
    assert address("", CLIENT, "1.1.1.1") == CLIENT
    assert address("0", CLIENT, "1.1.1.1") == CLIENT


@pytest.mark.parametrize("peer", [None, "", "testclient", "/run/gateway.sock"])
def test_all_that_come_without_an_address_are_one(peer: str | None) -> None:
    assert address("", peer) == UNKNOWN
    assert address(INSIDE, peer, CLIENT) == UNKNOWN


def test_whoever_has_an_ipv6_address_has_all_of_its_network() -> None:
    assert address("", "2001:db8:1:2::1") == address("", "2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert address("", "2001:db8:1:3::1") == "2001:db8:1:3::/64"


def test_an_ipv4_address_inside_an_ipv6_one_is_itself() -> None:
    assert address("", f"::ffff:{CLIENT}") == CLIENT


def test_a_zone_is_not_part_of_a_network() -> None:
    assert address("", "fe80::1%eth0") == "fe80::/64"


def test_for_the_record_an_address_is_told_whole() -> None:
    addresses = ClientAddresses(1)
    assert addresses.seen(scope(PROXY, [b"1.1.1.1, 2001:db8:1:2::5"])) == "2001:db8:1:2::5"
    assert addresses.seen(scope(CLIENT, [])) == CLIENT
    assert addresses.seen(scope(None, [])) == UNKNOWN


# A number of proxies


def test_one_proxy_has_appended_the_last_entry() -> None:
    """As on Cloud Run: what the client wrote itself stands before it."""
    assert address("1", PROXY, f"1.1.1.1, 2.2.2.2, {CLIENT}") == CLIENT


def test_of_two_proxies_the_first_has_appended_the_last_but_one() -> None:
    assert address("2", PROXY, f"1.1.1.1, {CLIENT}, 10.0.0.9") == CLIENT


def test_entries_count_across_headers() -> None:
    assert address("2", PROXY, f"1.1.1.1, {CLIENT}", "10.0.0.9") == CLIENT
    assert address("1", PROXY, "1.1.1.1", CLIENT) == CLIENT


def test_with_fewer_entries_than_proxies_the_leftmost_counts() -> None:
    assert address("3", PROXY, f"{CLIENT}, 10.0.0.9") == CLIENT


def test_without_the_header_it_is_whoever_is_connected() -> None:
    assert address("1", CLIENT) == CLIENT


@pytest.mark.parametrize(
    "entry", ["", " ", "unknown", "1.2.3", "1.2.3.4.5", "_hidden", "999.1.1.1", "x" * 9999]
)
def test_what_is_no_address_is_not_believed(entry: str) -> None:
    assert address("1", PROXY, f"1.1.1.1, {entry}") == PROXY


# Networks of proxies


def test_only_a_proxy_of_ours_is_believed() -> None:
    assert address(INSIDE, PROXY, CLIENT) == CLIENT
    assert address(INSIDE, "198.51.100.1", CLIENT) == "198.51.100.1"


def test_the_nearest_that_is_no_proxy_of_ours_counts() -> None:
    assert address(INSIDE, PROXY, f"1.1.1.1, {CLIENT}, 10.9.9.9, fd00::1") == CLIENT


def test_where_all_are_proxies_of_ours_the_furthest_counts() -> None:
    assert address(INSIDE, PROXY, "10.3.3.3, 10.2.2.2") == "10.3.3.3"


def test_behind_what_cannot_be_read_nothing_is_believed() -> None:
    assert address(INSIDE, PROXY, f"{CLIENT}, garbage, 10.2.2.2") == "10.2.2.2"
    assert address(INSIDE, PROXY, f"{CLIENT}, ") == PROXY


def test_a_chain_without_end_is_followed_only_so_far() -> None:
    chain = [f"10.1.0.{number}" for number in range(MOST_PROXIES + 5)]
    assert address(INSIDE, PROXY, ", ".join(reversed(chain))) == chain[MOST_PROXIES - 1]


# Spellings


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        (CLIENT, CLIENT),
        (f" {CLIENT}\t", CLIENT),
        (f"{CLIENT}:51234", CLIENT),
        (f"::ffff:{CLIENT}", CLIENT),
        (f"[::ffff:{CLIENT}]:443", CLIENT),
        ("2001:db8:1:2::5", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::5]", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::5]:8080", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:0:0:0:5", "2001:db8:1:2::/64"),
    ],
)
def test_an_address_is_known_in_each_of_its_spellings(entry: str, meant: str) -> None:
    assert address("1", PROXY, entry) == meant
    assert address(INSIDE, PROXY, entry) == meant


# Garbage

garbage = st.lists(st.binary(max_size=80) | st.text(max_size=40).map(str.encode), max_size=4)
entries = st.lists(
    st.sampled_from(["", "1.1.1.1", "10.0.0.3", "::1", "[::1", "]", "a:b:c", "1.1.1.1:x", "%", "0x7f.1"]),
    max_size=30,
).map(lambda parts: [",".join(parts).encode()])


@given(trusted=st.sampled_from(["", "1", "3", INSIDE]), forwarded=garbage | entries)
def test_no_header_at_all_breaks_it(trusted: str, forwarded: list[bytes]) -> None:
    assert address(trusted, PROXY, *forwarded)


# 10.0.0.0/8 is where the proxies are; a client is somewhere else.
clients = st.ip_addresses(v=4).filter(lambda client: client not in IPv4Network("10.0.0.0/8"))


@given(trusted=st.sampled_from(["1", INSIDE]), forwarded=garbage | entries, client=clients)
def test_nothing_that_a_client_writes_makes_another_of_it(
    trusted: str, forwarded: list[bytes], client: IPv4Address
) -> None:
    """The proxy appends who was connected to it; what stands before that does not matter."""
    assert address(trusted, PROXY, *forwarded, str(client)) == str(client)
    assert address("", str(client), *forwarded) == str(client)


@given(network=st.integers(2**32, 2**64 - 1), hosts=st.tuples(*[st.integers(0, 2**64 - 1)] * 2))
def test_an_ipv6_client_cannot_leave_its_network(network: int, hosts: tuple[int, int]) -> None:
    first, second = (str(IPv6Address(network << 64 | host)) for host in hosts)
    assert address("", first) == address("", second)
