"""The abuse guard as callers meet it: reads with one key, bad keys from one address, good keys behind it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gateway.accounts import keys, shared_windows
from gateway.accounts.guard import ROUND_SIZE
from gateway.bootstrap.services import Services, open_services
from gateway.db import accounts as account_rows
from gateway.settings import Settings
from tests.api import BASE_URL, Caller, checked_client, make_apis, make_app, make_caller
from tests.clock import SetClock
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.factories import ACT
from tests.redis import RunningRedis
from tests.running import start_gateway
from tests.specification import Specification

UNKNOWN = "task_01k7zq5v9hm3x8c2r6t4w0y1ab"
PATH = f"/api/task-status/{UNKNOWN}"
OFFICE, ELSEWHERE = "203.0.113.7", "198.51.100.9"


class Gateway:
    """A gateway on a clock that is set by hand, reached from any address."""

    def __init__(self, settings: Settings, specification: Specification, clock: SetClock) -> None:
        self.clock = clock
        self._settings = settings
        self._specification = specification
        self._stack = AsyncExitStack()
        self.services: Services

    async def open(self) -> "Gateway":
        self.services = await self._stack.enter_async_context(open_services(self._settings, self.clock))
        self._app = make_app(make_apis(self._settings, self.services), self.services)
        return self

    async def close(self) -> None:
        await self._stack.aclose()

    async def at(self, address: str = OFFICE) -> httpx.AsyncClient:
        """A client there. Every answer is held to openapi.yaml."""
        transport = httpx.ASGITransport(self._app, client=(address, 4711))
        client = checked_client(self._specification, transport=transport, base_url=BASE_URL)
        return await self._stack.enter_async_context(client)

    async def caller(self, name: str = "acme", address: str = OFFICE) -> Caller:
        return await make_caller(await self.at(address), self.services, name)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.services.metrics.registry.get_sample_value(f"gateway_guard_{name}_total", labels)


MakeGateway = Callable[..., Any]


@pytest.fixture
async def make_gateway(settings: Settings, specification: Specification) -> AsyncIterator[MakeGateway]:
    opened: list[Gateway] = []

    async def make(**changes: Any) -> Gateway:
        gateway = Gateway(settings.model_copy(update=changes), specification, SetClock())
        opened.append(await gateway.open())
        return gateway

    yield make
    for gateway in opened:
        await gateway.close()


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> Gateway:
    """Three reads a minute with a key, three bad keys a minute from an address."""
    made: Gateway = await make_gateway(reads_per_minute=3, bad_keys_per_minute=3)
    return made


def a_bad_key() -> str:
    """Well-formed, of nobody: only a look-up tells it from a good one."""
    return keys.mint(secrets.choice).text


async def statuses(client: httpx.AsyncClient, *presented: str | None, method: str = "GET") -> list[int]:
    """What requests with these keys are answered, one after another."""
    found = []
    for key in presented:
        path = PATH if method in {"GET", "HEAD"} else "/api/music_generate"
        headers = {"X-Api-Key": key} if key is not None else {}
        found.append((await client.request(method, path, headers=headers)).status_code)
    return found


class Reads:
    """Which keys the database is asked for, transaction by transaction."""

    def __init__(self, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[str]] = []

        def noted(tx: Any, ids: Any) -> Any:
            self.batches.append(list(ids))
            return account_rows.get_credentials(tx, ids)

        monkeypatch.setattr(services.authenticator._rows, "_fetch", noted)

    @property
    def ids(self) -> list[str]:
        return [key_id for batch in self.batches for key_id in batch]


# Reads


async def test_a_key_that_reads_too_often_is_told_to_slow_down(gateway: Gateway) -> None:
    caller = await gateway.caller()
    assert [(await caller.status(UNKNOWN)).status_code for _ in range(3)] == [404] * 3
    gateway.clock.advance(12)
    response = await caller.status(UNKNOWN)
    assert (response.status_code, response.json()["code"]) == (429, "slow_down")
    assert response.headers["retry-after"] == "48"
    assert response.headers["ratelimit-policy"] == '"reads";q=3;w=60'
    assert response.headers["ratelimit"] == '"reads";r=0;t=48'
    assert response.json()["violated-policies"] == ["reads"]
    assert gateway.metric("refused", guard="reads") == 1


async def test_a_key_that_waits_as_it_was_told_is_let_in_again(gateway: Gateway) -> None:
    """L11."""
    caller = await gateway.caller()
    for _ in range(3):
        await caller.status(UNKNOWN)
        gateway.clock.advance(5)
    wait_s = int((await caller.status(UNKNOWN)).headers["retry-after"])
    gateway.clock.advance(wait_s - 1)
    assert (await caller.status(UNKNOWN)).status_code == 429
    gateway.clock.advance(1)
    assert (await caller.status(UNKNOWN)).status_code == 404


async def test_one_key_exhausted_leaves_another_unharmed(gateway: Gateway) -> None:
    """L6, also where both belong to one tenant."""
    caller = await gateway.caller()
    _, second = await gateway.services.keyring.create(ACT, caller.tenant_id, name="second")
    assert await statuses(caller.client, *[caller.key] * 4) == [404, 404, 404, 429]
    assert await statuses(caller.client, *[second] * 4) == [404, 404, 404, 429]


async def test_reads_are_counted_by_key_wherever_it_is_used(gateway: Gateway) -> None:
    caller = await gateway.caller()
    assert await statuses(caller.client, caller.key, caller.key) == [404, 404]
    assert await statuses(await gateway.at(ELSEWHERE), caller.key, caller.key) == [404, 429]


async def test_head_is_a_read(gateway: Gateway) -> None:
    caller = await gateway.caller()
    assert await statuses(caller.client, *[caller.key] * 4, method="HEAD") == [404, 404, 404, 429]


async def test_asking_for_music_is_never_slowed_down(gateway: Gateway) -> None:
    """Those have their exact limits, and polls use none of them up."""
    caller = await gateway.caller()
    assert 429 in await statuses(caller.client, *[caller.key] * 5)
    for _ in range(10):
        await caller.ask()
    assert 429 in await statuses(caller.client, caller.key)


async def test_a_key_without_the_right_to_read_does_not_read_for_ever(gateway: Gateway) -> None:
    caller = await gateway.caller()
    await gateway.services.database.write(
        lambda tx: tx.exec_driver_sql("""UPDATE api_keys SET scopes = '["generate"]'""")
    )
    assert await statuses(caller.client, *[caller.key] * 4) == [403, 403, 403, 429]


# Bad keys


@pytest.mark.parametrize("kind", ["missing", "malformed", "unknown", "two"])
async def test_an_address_that_presents_bad_keys_is_refused(gateway: Gateway, kind: str) -> None:
    client = await gateway.at()
    found = []
    for _ in range(5):
        headers = {
            "missing": {},
            "malformed": {"X-Api-Key": "mg_live_nonsense"},
            "unknown": {"X-Api-Key": a_bad_key()},
            "two": {"X-Api-Key": a_bad_key(), "Authorization": f"Bearer {a_bad_key()}"},
        }[kind]
        response = await client.get(PATH, headers=headers)
        found.append(response.status_code)
    assert found == [401, 401, 401, 429, 429]
    assert response.json()["code"] == "slow_down"
    assert response.headers["ratelimit-policy"] == '"bad_keys";q=3;w=60'
    assert "www-authenticate" not in response.headers
    assert gateway.metric("refused", guard="bad_keys") == 2


async def test_posts_with_bad_keys_count_too(gateway: Gateway) -> None:
    client = await gateway.at()
    assert await statuses(client, "x", "x", method="POST") == [401, 401]
    assert await statuses(client, "x", "x") == [401, 429]
    assert await statuses(client, "x", method="POST") == [429]


async def test_a_key_that_was_stopped_is_a_bad_one(gateway: Gateway) -> None:
    caller = await gateway.caller()
    await gateway.services.keyring.revoke(ACT, caller.key[8:20])
    assert await statuses(caller.client, *[caller.key] * 4) == [401, 401, 401, 429]


async def test_another_address_is_not_refused(gateway: Gateway) -> None:
    assert await statuses(await gateway.at(), *["x"] * 4) == [401, 401, 401, 429]
    assert await statuses(await gateway.at(ELSEWHERE), "x") == [401]


async def test_an_address_that_waits_as_it_was_told_is_let_in_again(gateway: Gateway) -> None:
    client = await gateway.at()
    await statuses(client, *["x"] * 3)
    gateway.clock.advance(20)
    response = await client.get(PATH)
    assert response.headers["retry-after"] == "40"
    gateway.clock.advance(40)
    assert await statuses(client, "x") == [401]


async def test_an_ipv6_address_is_refused_with_its_network(gateway: Gateway) -> None:
    assert await statuses(await gateway.at("2001:db8:1:2::1"), "x", "x") == [401, 401]
    assert await statuses(await gateway.at("2001:db8:1:2:3:4:5:6"), "x", "x") == [401, 429]
    assert await statuses(await gateway.at("2001:db8:1:3::1"), "x") == [401]


async def test_nothing_is_looked_up_for_a_refused_address_that_has_no_key(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await gateway.at()
    await statuses(client, *["x"] * 4)
    reads = Reads(gateway.services, monkeypatch)
    assert await statuses(client, None, "x", "mg_live_nonsense", "") == [429] * 4
    assert reads.batches == []
    assert gateway.clock.slept_s == []


# Good keys behind an address that is refused


async def test_a_good_key_is_not_shut_out_by_bad_ones_from_its_address(gateway: Gateway) -> None:
    """Hundreds of people may share one address."""
    caller = await gateway.caller()
    assert await statuses(caller.client, caller.key) == [404]
    assert await statuses(caller.client, *["x"] * 5) == [401, 401, 401, 429, 429]
    assert await statuses(caller.client, caller.key) == [404]
    gateway.clock.advance(10)  # what was read of it is out of date by now
    assert await statuses(caller.client, "x", caller.key) == [429, 404]
    assert gateway.clock.slept_s == []
    await caller.ask()


async def test_a_good_key_that_was_never_seen_here_is_let_through_too(gateway: Gateway) -> None:
    """It is looked up in a round with others, once; from then on it is known."""
    caller = await gateway.caller()
    assert await statuses(caller.client, *["x"] * 4) == [401, 401, 401, 429]
    assert await statuses(caller.client, caller.key) == [404]
    assert len(gateway.clock.slept_s) == 1
    await caller.ask()
    gateway.clock.advance(10)
    assert await statuses(caller.client, "x", caller.key) == [429, 404]
    assert len(gateway.clock.slept_s) == 1


async def test_a_flood_of_keys_that_look_good_costs_few_look_ups(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can work out a checksum."""
    caller = await gateway.caller()
    await statuses(caller.client, *["x"] * 3)
    reads = Reads(gateway.services, monkeypatch)
    held = asyncio.Event()

    async def hold(seconds: float) -> None:
        await held.wait()

    monkeypatch.setattr(gateway.clock, "sleep", hold)
    good = asyncio.create_task(caller.status(UNKNOWN))
    flood = [asyncio.create_task(statuses(caller.client, a_bad_key())) for _ in range(2 * ROUND_SIZE)]
    await eventually(lambda: sum(task.done() for task in flood) == ROUND_SIZE + 1)
    assert reads.batches == []
    held.set()
    assert {code for codes in await asyncio.gather(*flood) for code in codes} == {429}
    assert (await good).status_code == 404
    assert len(reads.ids) == ROUND_SIZE
    assert len(reads.batches) <= 3


async def test_one_bad_key_again_and_again_is_looked_up_once_in_two_seconds(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What most often happens: a program that nobody looks after, with a key that is gone."""
    client = await gateway.at()
    bad = a_bad_key()
    reads = Reads(gateway.services, monkeypatch)
    assert set(await statuses(client, *[bad] * 50)) == {401, 429}
    assert len(reads.ids) == 1


# Behind proxies


async def test_behind_proxies_the_address_is_what_they_say(make_gateway: MakeGateway) -> None:
    """Cloud Run appends the client's address; what the client wrote itself stands before it."""
    gateway = await make_gateway(bad_keys_per_minute=3, trusted_proxies="1")
    client = await gateway.at("169.254.1.1")

    async def status(forwarded: str) -> int:
        return (await client.get(PATH, headers={"X-Forwarded-For": forwarded})).status_code

    assert [await status(f"10.0.0.{n}, {OFFICE}") for n in range(4)] == [401, 401, 401, 429]
    assert await status(ELSEWHERE) == 401


async def test_a_client_cannot_choose_its_address(gateway: Gateway) -> None:
    client = await gateway.at()
    found = [
        (await client.get(PATH, headers={"X-Forwarded-For": f"10.0.0.{number}"})).status_code
        for number in range(4)
    ]
    assert found == [401, 401, 401, 429]


def test_not_even_one_on_this_machine_can(tmp_path: Path, emulator: RunningEmulator) -> None:
    """The server itself would believe it, unless it is told not to."""
    with start_gateway(tmp_path, emulator.url, GATEWAY_BAD_KEYS_PER_MINUTE="3") as running:
        found = [
            httpx.get(running.url + PATH, headers={"X-Forwarded-For": f"10.0.0.{number}"}, trust_env=False)
            for number in range(4)
        ]
    assert [response.status_code for response in found] == [401, 401, 401, 429]


# Switched off, shared, and out of order


async def test_without_limits_nobody_is_slowed_down(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(reads_per_minute=0, bad_keys_per_minute=0)
    caller = await gateway.caller()
    assert set(await statuses(caller.client, *[caller.key] * 100)) == {404}
    assert set(await statuses(caller.client, *["x"] * 100)) == {401}


@pytest.fixture
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests answers late."""
    monkeypatch.setattr(shared_windows, "PATIENCE_S", 30.0)


@pytest.mark.usefixtures("_patience")
async def test_two_instances_with_one_redis_count_together(
    make_gateway: MakeGateway, redis: RunningRedis
) -> None:
    """L1."""
    changes = {"limits_url": SecretStr(redis.url), "reads_per_minute": 4}
    first = await make_gateway(**changes)
    second = await make_gateway(**changes)
    caller = await first.caller()
    client = await second.at(ELSEWHERE)
    assert await statuses(caller.client, caller.key, caller.key) == [404, 404]
    assert await statuses(client, *[caller.key] * 3) == [404, 404, 429]
    assert await statuses(caller.client, caller.key) == [429]


@pytest.mark.usefixtures("_patience")
@pytest.mark.parametrize(("on_error", "found"), [("allow", [404, 404, 401]), ("refuse", [503, 503, 503])])
async def test_a_redis_that_is_gone_does_what_was_set(
    make_gateway: MakeGateway, redis: RunningRedis, on_error: str, found: list[int]
) -> None:
    """L8."""
    url = SecretStr(redis.url)
    gateway = await make_gateway(limits_url=url, limits_on_error=on_error)
    caller = await gateway.caller()
    assert await statuses(caller.client, caller.key) == [404]
    redis.kill()
    try:
        gateway.clock.advance(1)
        assert await statuses(caller.client, caller.key, caller.key, "x") == found
        await caller.ask()
    finally:
        redis.start()
    outcome = {"allow": "allowed", "refuse": "refused"}[on_error]
    assert gateway.metric("uncounted", guard="reads", outcome=outcome) == 2
    assert gateway.metric("uncounted", guard="bad_keys", outcome=outcome) == 1
    gateway.clock.advance(1)
    assert await statuses(caller.client, caller.key) == [404]
