"""Where webhooks may not go, however the address is written (peers.md A13, W4)."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.webhooks.addresses import URL_CHARS, AddressPolicy

STRICT = AddressPolicy()
LOOPBACK_ALLOWED = AddressPolicy((ip_network("127.0.0.0/8"), ip_network("::1/128")))

FORBIDDEN = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
    *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1"),
    *("192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.1.1.1"),
    *("240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "100::1"),
    *("2001:db8::1", "3fff::1", "2001::1", "5f00::1"),
    # IPv4 inside: mapped, compatible, translated, NAT64, 6to4, Teredo.
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:808:808::1"),
    *("2001:0:7f00:1::1",),
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "64:ff9b::808:808")


@pytest.mark.parametrize("text", [text for text in FORBIDDEN if text != "::ffff:8.8.8.8"])
def test_what_is_not_public_is_not_reached(text: str) -> None:
    assert not STRICT.permits(ip_address(text), plain=False)


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_reached_with_tls_only(text: str) -> None:
    assert STRICT.permits(ip_address(text), plain=False)
    assert not STRICT.permits(ip_address(text), plain=True)


def test_a_mapped_address_is_the_address_it_leads_to() -> None:
    assert STRICT.permits(ip_address("::ffff:8.8.8.8"), plain=False)
    assert LOOPBACK_ALLOWED.permits(ip_address("::ffff:127.0.0.1"), plain=True)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_like_the_address(inner: IPv4Address) -> None:
    alone = STRICT.permits(inner, plain=False)
    assert STRICT.permits(IPv6Address(f"::ffff:{inner}"), plain=False) is alone
    assert STRICT.permits(IPv6Address(f"64:ff9b::{inner}"), plain=False) is alone
    assert not STRICT.permits(IPv6Address((0x2002 << 112) | (int(inner) << 80)), plain=False)


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_reached(address: IPv4Address | IPv6Address) -> None:
    """A second opinion: the standard library's table is somebody else's."""
    special = (
        address.is_private,
        address.is_loopback,
        address.is_link_local,
        address.is_multicast,
        address.is_reserved,
        address.is_unspecified,
    )
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    nat64 = isinstance(address, IPv6Address) and address in ip_network("64:ff9b::/96")
    if any(special) and not mapped and not nat64:
        assert not STRICT.permits(address, plain=False)


def test_a_network_that_is_allowed_is_reached_without_tls_too() -> None:
    assert LOOPBACK_ALLOWED.permits(ip_address("127.0.0.1"), plain=True)
    assert LOOPBACK_ALLOWED.permits(ip_address("::1"), plain=False)
    assert not LOOPBACK_ALLOWED.permits(ip_address("10.0.0.1"), plain=False)
    assert not LOOPBACK_ALLOWED.permits(ip_address("8.8.8.8"), plain=True)


# URLs, as they are given


def problem(url: str, policy: AddressPolicy = STRICT) -> str | None:
    """The code of the refusal."""
    try:
        policy.check_url(url, "url")
    except InvalidRequest as refused:
        (field,) = refused.fields
        assert field.field == "url"
        return field.code
    return None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/hooks/1?tenant=a&b=%C3%BC",
        "https://hooks.example.com./x",
        "https://xn--mller-kva.example/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:444/x?y",
        "https://example.com/@me",
        "https://example.com?x",
    ],
)
def test_an_address_that_could_be_reached_is_taken(url: str) -> None:
    assert problem(url) is None


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "not_a_url"),
        ("example.com", "not_a_url"),
        ("ftp://example.com", "not_a_url"),
        ("javascript:alert(1)", "not_a_url"),
        ("HTTPS://example.com", "not_a_url"),
        ("https://", "not_a_url"),
        ("https:///path", "not_a_url"),
        ("https://[::1", "not_a_url"),
        ("https://exa mple.com", "not_a_url"),
        ("https://example.com/\r\nHost: x", "not_a_url"),
        ("https://müller.example/", "not_a_url"),
        ("https://example.com:0/", "not_a_url"),
        ("https://example.com:65536/", "not_a_url"),
        ("https://[fe80::1%25eth0]/", "not_a_url"),
        ("https://" + "a" * URL_CHARS, "too_long"),
        ("https://user@example.com/", "credentials"),
        ("https://user:word@example.com/", "credentials"),
        ("https://example.com\\@127.0.0.1/", "credentials"),
        ("https://example.com/#there", "fragment"),
        ("http://example.com/", "https_required"),
        ("http://8.8.8.8/", "https_required"),
        ("https://localhost/", "address_refused"),
        ("https://api.localhost:8080/", "address_refused"),
        ("https://LOCALHOST./", "address_refused"),
        ("https://127.0.0.1/", "address_refused"),
        ("https://127.1/", "address_refused"),
        ("https://2130706433/", "address_refused"),
        ("https://0x7f.0.0.1/", "address_refused"),
        ("https://0177.0.0.1/", "not_a_url"),
        ("https://[::ffff:7f00:1]/", "address_refused"),
        ("https://169.254.169.254/computeMetadata/v1/", "address_refused"),
    ],
)
def test_an_address_that_never_could_is_refused_at_once(url: str, code: str) -> None:
    assert problem(url) == code


def test_a_refusal_says_nothing_of_the_inside() -> None:
    with pytest.raises(InvalidRequest) as refused:
        STRICT.check_url("https://10.1.2.3/", "webhook_url")
    assert str(refused.value) == "webhook_url: names an address that this gateway does not send to."


def test_where_networks_are_allowed_a_name_may_be_one_of_them_without_tls() -> None:
    """Where it leads is looked at when connecting."""
    assert problem("http://hooks.internal/", LOOPBACK_ALLOWED) is None
    assert problem("http://127.0.0.1:9000/", LOOPBACK_ALLOWED) is None
    assert problem("http://localhost:9000/", LOOPBACK_ALLOWED) is None
    assert problem("http://8.8.8.8/", LOOPBACK_ALLOWED) == "https_required"
    assert problem("https://10.0.0.1/", LOOPBACK_ALLOWED) == "address_refused"


@given(st.text(max_size=60).map(lambda tail: f"https://{tail}") | st.text(max_size=40))
def test_no_text_is_too_strange_to_be_judged(text: str) -> None:
    problem(text)
