"""One try, against receivers that behave in every way (the proof that the issue asks for)."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from email.utils import formatdate
from ipaddress import ip_network

import httpcore
import pytest

from gateway.bootstrap.services import SystemClock
from gateway.messages import TryOutcome
from gateway.upstream.network import PullingBackend
from gateway.webhooks.addresses import AddressPolicy
from gateway.webhooks.guard import Resolver, guarded_pools
from gateway.webhooks.sender import Answer, Message, Sender
from gateway.webhooks.signing import Secrets
from tests.receiver import (
    Behaviour,
    answering,
    babbling,
    breaking_off,
    closing,
    cut_short,
    hanging,
    receiving,
    speaking_nonsense,
    stalling,
)

SECRET = Secrets(b"a signing secret of thirty-two by").of_endpoint("whep_1", 1)
BODY = '{"type":"task.succeeded","data":{"metadata":{"name":"Müller"}}}'


@pytest.fixture
async def pools() -> AsyncIterator[dict[str, httpcore.AsyncConnectionPool]]:
    policy = AddressPolicy((ip_network("127.0.0.0/8"),))
    opened = guarded_pools(policy, Resolver(), PullingBackend(), ssl.create_default_context())
    yield opened
    for pool in opened.values():
        await pool.aclose()


@pytest.fixture
def sender(pools: dict[str, httpcore.AsyncConnectionPool]) -> Sender:
    return Sender(pools, SystemClock(), user_agent="music-gateway/test", timeout_s=10)


def message(url: str) -> Message:
    return Message("msg_1", url, BODY, (SECRET,))


async def told(sender: Sender, behaviour: Behaviour) -> Answer:
    async with receiving(behaviour) as receiver:
        return await sender.send(message(receiver.url))


async def test_a_receiver_gets_a_signed_message(sender: Sender) -> None:
    async with receiving() as receiver:
        answer = await sender.send(message(receiver.url))
        (received,) = receiver.received
    assert (answer.outcome, answer.status) == (TryOutcome.DELIVERED, 200)
    assert received.verified(SECRET)["data"]["metadata"] == {"name": "Müller"}
    assert received.line == "POST /hook HTTP/1.1"
    assert {name: received.headers[name] for name in ("content-type", "user-agent", "connection")} == {
        "content-type": "application/json",
        "user-agent": "music-gateway/test",
        "connection": "close",
    }
    assert received.headers.keys() <= {
        *("host", "content-type", "content-length", "user-agent", "connection"),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    }


@pytest.mark.parametrize(
    ("behaviour", "outcome", "status"),
    [
        (answering(204), TryOutcome.DELIVERED, 204),
        (answering(200, b"x" * 100_000), TryOutcome.DELIVERED, 200),
        (answering(500), TryOutcome.REJECTED, 500),
        (answering(404, b"no such hook"), TryOutcome.REJECTED, 404),
        (answering(410), TryOutcome.GONE, 410),
        (answering(302, Location="http://127.0.0.1/"), TryOutcome.REDIRECTED, 302),
        (answering(304), TryOutcome.REDIRECTED, 304),
        (closing, TryOutcome.BROKEN_OFF, None),
        (breaking_off, TryOutcome.BROKEN_OFF, None),
        (speaking_nonsense, TryOutcome.BROKEN_OFF, None),
        # Once its status is out, a receiver has taken the message.
        (cut_short, TryOutcome.DELIVERED, 200),
        (stalling, TryOutcome.DELIVERED, 200),
        (babbling, TryOutcome.DELIVERED, 200),
    ],
)
async def test_what_a_receiver_does_is_told_by_its_kind(
    sender: Sender, behaviour: Behaviour, outcome: TryOutcome, status: int | None
) -> None:
    answer = await told(sender, behaviour)
    assert (answer.outcome, answer.status) == (outcome, status)


async def test_a_receiver_that_hangs_is_given_up(
    pools: dict[str, httpcore.AsyncConnectionPool],
) -> None:
    impatient = Sender(pools, SystemClock(), user_agent="test", timeout_s=0.2)
    answer = await told(impatient, hanging)
    assert (answer.outcome, answer.status) == (TryOutcome.TIMED_OUT, None)
    assert answer.duration_ms >= 200


async def test_a_status_counts_although_the_time_runs_out_in_the_body(
    pools: dict[str, httpcore.AsyncConnectionPool],
) -> None:
    impatient = Sender(pools, SystemClock(), user_agent="test", timeout_s=0.5)
    assert (await told(impatient, stalling)).outcome is TryOutcome.DELIVERED


async def test_no_connection_is_kept(sender: Sender, pools: dict[str, httpcore.AsyncConnectionPool]) -> None:
    async with receiving(answering(200), babbling, stalling, answering(500)) as receiver:
        for _ in range(4):
            await sender.send(message(receiver.url))
        assert receiver.connections == 4
    assert [pool.connections for pool in pools.values()] == [[], []]


async def test_no_cookie_comes_back(sender: Sender) -> None:
    async with receiving(answering(200, Set_Cookie="session=1; Path=/")) as receiver:
        await sender.send(message(receiver.url))
        await sender.send(message(receiver.url))
        assert "cookie" not in receiver.received[1].headers


async def test_a_busy_receiver_says_when_to_come_back(sender: Sender) -> None:
    assert (await told(sender, answering(503, Retry_After="120"))).retry_after_s == 120
    later = formatdate(SystemClock().now_ms() / 1000 + 600, usegmt=True)
    asked_s = (await told(sender, answering(429, retry_after=later))).retry_after_s
    assert asked_s is not None
    assert 590 < asked_s <= 600
    assert (await told(sender, answering(500, Retry_After="120"))).retry_after_s is None
    assert (await told(sender, answering(503))).retry_after_s is None


async def test_being_cancelled_ends_a_try_at_once(
    sender: Sender, pools: dict[str, httpcore.AsyncConnectionPool]
) -> None:
    async with receiving(hanging) as receiver:
        sending = asyncio.create_task(sender.send(message(receiver.url)))
        await receiver.until_received(1)
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()
    assert [pool.connections for pool in pools.values()] == [[], []]


async def test_proxies_of_the_environment_are_not_asked(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve the name itself, where nothing checks it."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await told(sender, answering())).outcome is TryOutcome.DELIVERED
