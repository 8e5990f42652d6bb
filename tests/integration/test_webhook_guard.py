"""Webhooks cannot reach inside networks, whatever a name resolves to, and when (peers.md A13, W4)."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import httpcore
import pytest

from gateway.messages import TryOutcome
from gateway.upstream.network import PullingBackend
from gateway.webhooks.addresses import Address, AddressPolicy
from gateway.webhooks.guard import AddressRefused, GuardedBackend, Resolver, guarded_pools
from gateway.webhooks.sender import Message, Sender
from tests.certificates import write_certificate
from tests.clock import SetClock
from tests.eventually import eventually
from tests.receiver import Receiver, answering, receiving

STRICT = AddressPolicy()
LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))
# Somebody's public address, which no test connects to.
PUBLIC = "8.8.8.8"
SECRET = "whsec_c2VjcmV0"


class Names:
    """A resolver with its own answers: the next one for each question, and the last one from then on."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ip_address(text) for text in answer]


class Watched(PullingBackend):
    """Connects for real, but for `PUBLIC`, where nobody answers; remembers what it was asked for."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def connect_tcp(self, host: str, port: int, *rest: Any) -> httpcore.AsyncNetworkStream:
        self.hosts.append(host)
        if host == PUBLIC:
            raise httpcore.ConnectError("nobody there")
        return await super().connect_tcp(host, port, *rest)


async def send(
    url: str, policy: AddressPolicy, names: Names, inner: PullingBackend, trust: ssl.SSLContext | None = None
) -> TryOutcome:
    pools = guarded_pools(policy, names, inner, trust or ssl.create_default_context())
    sender = Sender(pools, SetClock(), user_agent="test", timeout_s=10)
    try:
        return (await sender.send(Message("msg_1", url, "{}", (SECRET,)))).outcome
    finally:
        for pool in pools.values():
            await pool.aclose()


@pytest.fixture
async def inside() -> AsyncIterator[Receiver]:
    """Something inside that must not be reached."""
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def inner() -> Watched:
    return Watched()


# Names


@pytest.mark.parametrize(
    "leads_to",
    [
        *(
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "10.0.0.1",
            "0.0.0.0",
        ),
        *("fd00:ec2::254", "100.64.0.1", "2002:7f00:1::1", "fe80::1%lo"),
    ],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_name_that_leads_inside_is_not_connected_to(
    inside: Receiver, inner: Watched, leads_to: str, scheme: str
) -> None:
    url = f"{scheme}://hooks.example.com:{inside.port}/"
    assert await send(url, STRICT, Names([leads_to]), inner) is TryOutcome.ADDRESS_REFUSED
    assert (inner.hosts, inside.connections) == ([], 0)


async def test_an_address_in_the_url_is_judged_like_one_behind_a_name(
    inside: Receiver, inner: Watched
) -> None:
    """Also as old resolvers read it: the system's is asked, and what it says is what counts."""
    for host in ("127.0.0.1", "2130706433", "127.1", "[::1]", "localhost"):
        names = Resolver()
        url = f"https://{host}:{inside.port}/"
        assert await send(url, STRICT, names, inner) is TryOutcome.ADDRESS_REFUSED  # type: ignore[arg-type]
    assert (inner.hosts, inside.connections) == ([], 0)


async def test_a_name_that_changes_between_check_and_connection_cannot(
    inside: Receiver, inner: Watched
) -> None:
    """DNS rebinding: what was checked is what is connected to, and the next try is checked anew."""
    names = Names([PUBLIC], ["127.0.0.1"])
    url = f"https://rebind.example.com:{inside.port}/"
    assert await send(url, STRICT, names, inner) is TryOutcome.NOT_CONNECTED
    assert inner.hosts == [PUBLIC]
    assert names.asked == [("rebind.example.com", inside.port)]

    assert await send(url, STRICT, names, inner) is TryOutcome.ADDRESS_REFUSED
    assert (inner.hosts, inside.connections) == ([PUBLIC], 0)


async def test_of_several_addresses_only_those_outside_are_tried(inside: Receiver, inner: Watched) -> None:
    names = Names(["127.0.0.1", PUBLIC, "::1"])
    assert await send(f"https://both.example.com:{inside.port}/", STRICT, names, inner) is (
        TryOutcome.NOT_CONNECTED
    )
    assert (inner.hosts, inside.connections) == ([PUBLIC], 0)


async def test_a_redirect_is_a_failure_and_is_not_followed(inside: Receiver, inner: Watched) -> None:
    for status in (301, 302, 307, 308):
        async with receiving(answering(status, Location=inside.url)) as outside:
            assert await send(outside.url, LOOPBACK, Names(["127.0.0.1"]), inner) is TryOutcome.REDIRECTED
            assert len(outside.received) == 1
    assert inside.connections == 0


# Networks that are allowed


async def test_a_network_that_is_allowed_is_reached_without_tls(inside: Receiver, inner: Watched) -> None:
    outcome = await send(f"http://hooks.internal:{inside.port}/x?y=1", LOOPBACK, Names(["127.0.0.1"]), inner)
    assert outcome is TryOutcome.DELIVERED
    (received,) = inside.received
    assert received.line == "POST /x?y=1 HTTP/1.1"
    assert received.headers["host"] == f"hooks.internal:{inside.port}"


async def test_everywhere_else_tls_is_needed(inner: Watched) -> None:
    assert await send("http://hooks.example.com/", LOOPBACK, Names([PUBLIC]), inner) is (
        TryOutcome.ADDRESS_REFUSED
    )
    assert inner.hosts == []


async def test_the_next_address_is_tried_when_one_does_not_answer(inside: Receiver, inner: Watched) -> None:
    names = Names(["127.0.0.9", "127.0.0.8", "127.0.0.1"])
    assert await send(f"http://many.internal:{inside.port}/", LOOPBACK, names, inner) is TryOutcome.DELIVERED
    assert inner.hosts == ["127.0.0.9", "127.0.0.8", "127.0.0.1"]


async def test_nothing_goes_to_a_socket_in_the_file_system(inner: Watched) -> None:
    backend = GuardedBackend(LOOPBACK, Names([PUBLIC]), inner, plain=True)
    with pytest.raises(AddressRefused):
        await backend.connect_unix_socket("/run/docker.sock")


async def test_waiting_is_left_to_the_backend_inside(inner: Watched) -> None:
    await GuardedBackend(LOOPBACK, Names([PUBLIC]), inner, plain=True).sleep(0)


# TLS


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


def serving_as(certificate: Path) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    return tls


async def test_tls_verifies_the_name_although_an_address_is_connected_to(
    tmp_path: Path, inner: Watched
) -> None:
    certificate = write_certificate(tmp_path / "both.pem", "hooks.internal")
    async with receiving(tls=serving_as(certificate)) as receiver:
        url = f"https://hooks.internal:{receiver.port}/"
        trust = trusting(certificate)
        assert await send(url, LOOPBACK, Names(["127.0.0.1"]), inner, trust) is TryOutcome.DELIVERED
        assert receiver.received[0].headers["host"] == f"hooks.internal:{receiver.port}"


async def test_the_certificate_of_another_name_does_not_do(tmp_path: Path, inner: Watched) -> None:
    certificate = write_certificate(tmp_path / "both.pem", "other.internal")
    async with receiving(tls=serving_as(certificate)) as receiver:
        for host, trust in (
            ("hooks.internal", trusting(certificate)),
            ("other.internal", ssl.create_default_context()),
        ):
            url = f"https://{host}:{receiver.port}/"
            outcome = await send(url, LOOPBACK, Names(["127.0.0.1"]), inner, trust)
            assert outcome is TryOutcome.TLS_FAILED
        assert receiver.received == []


async def test_what_speaks_no_tls_is_told_apart_from_what_is_not_there(inner: Watched) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"https://a.internal:{server.sockets[0].getsockname()[1]}/"
    names = Names(["127.0.0.1"])
    assert await send(url, LOOPBACK, names, inner) is TryOutcome.TLS_FAILED
    server.close()
    assert await send(url, LOOPBACK, names, inner) is TryOutcome.NOT_CONNECTED


# The system's resolver


async def test_names_are_resolved() -> None:
    assert ip_address("127.0.0.1") in await Resolver()("localhost", 80)
    assert list(await Resolver()("8.8.8.8", 443)) == [ip_address("8.8.8.8")]


@pytest.mark.parametrize("host", ["no-such-name.invalid", "a" * 64 + ".example", "a..b", "x" * 300])
async def test_what_does_not_resolve_is_said_to_be_so(host: str, inner: Watched) -> None:
    with pytest.raises(OSError):
        await Resolver()(host, 443)
    assert await send(f"https://{host}/", STRICT, Resolver(), inner) is TryOutcome.NAME_NOT_FOUND  # type: ignore[arg-type]


async def test_names_that_take_for_ever_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their threads are not those of the event loop, and whoever gives up waiting is let go."""
    answered, asked = threading.Event(), threading.Semaphore(0)

    def slow(*_: Any, **__: Any) -> list[Any]:
        asked.release()
        answered.wait()
        return []

    monkeypatch.setattr("gateway.webhooks.guard.socket.getaddrinfo", slow)
    resolve = Resolver()
    waiting = [asyncio.create_task(resolve(f"{number}.example", 443)) for number in range(64)]  # type: ignore[var-annotated]
    try:
        for _ in waiting:
            await asyncio.to_thread(asked.acquire)
        one_more = asyncio.create_task(resolve("more.example", 443))  # type: ignore[var-annotated]
        for each in waiting[1:]:
            each.cancel()
        await asyncio.wait(waiting[1:])
        assert not one_more.done()
    finally:
        answered.set()
    assert (await waiting[0], await one_more) == ((), ())
    await eventually(lambda: not any(t.name == "webhook-resolver" for t in threading.enumerate()))
