"""Test keys: the emulator makes their music, and no money moves; all else is as with live keys.

Two emulators run: the one of every test stands for Google, a second one serves test keys.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.bootstrap.services import Services, open_services
from gateway.errors import BudgetSpent, ErrorCode, Forbidden, LimitReached
from gateway.model import BudgetWindow, KeyMode, MusicSpec, Principal, Route, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.pool import Room
from gateway.tasks.submission import Submission
from tests.api import Caller
from tests.emulator import RunningEmulator, start_emulator
from tests.factories import ACT, a_caller, keep_tenant
from tests.workshop import Workshop, open_workshop

LYRIA = Submission(Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None)
CLIP = 60_000
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def _second_process() -> Iterator[RunningEmulator]:
    with start_emulator() as emulator:
        yield emulator


@pytest.fixture
def studio(_second_process: RunningEmulator) -> RunningEmulator:
    """The emulator that serves test keys."""
    _second_process.reset()
    return _second_process


@pytest.fixture
def settings(settings: Settings, studio: RunningEmulator) -> Settings:
    return settings.model_copy(update={"test_emulator_url": f"{studio.url}/"})


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    """Its principal has a test key. Whatever happens in it, its books are right in the end."""
    async with open_workshop(settings, emulator) as opened:
        tenant = await keep_tenant(opened.services.database)
        opened.principal, _ = await a_caller(opened.services.database, tenant, mode=KeyMode.TEST)
        yield opened
        assert await opened.services.books.reconcile() == ()


@pytest.fixture
async def tester(caller: Caller) -> Caller:
    """The caller, with a test key beside its live one."""
    _, key = await caller.services.keyring.create(ACT, caller.tenant_id, name="test", mode=KeyMode.TEST)
    return replace(caller, key=key)


async def live_principal(services: Services, test: Principal) -> Principal:
    """A live key of the same tenant."""
    key, _ = await services.keyring.create(ACT, test.tenant_id, name="live")
    return Principal(test.tenant_id, key.id)


async def used(services: Services, tenant_id: str) -> set[tuple[int, int]]:
    budgets = await services.tenants.list_budgets(tenant_id)
    return {(budget.used.held_micros, budget.used.spent_micros) for budget in budgets}


async def ledger_of(shop: Workshop, task: Task) -> list[tuple[Any, ...]]:
    return await shop.rows(
        f"SELECT kind, held_micros, spent_micros FROM ledger WHERE task_id = '{task.id}' ORDER BY id"
    )


# Who makes the music


async def test_a_test_task_is_made_by_the_emulator_and_a_live_one_is_not(
    shop: Workshop, studio: RunningEmulator
) -> None:
    test = await shop.finish(await shop.submit())
    assert (test.state, test.test, test.emulated) == (TaskState.SUCCEEDED, True, True)
    assert (studio.calls()["paid"], shop.paid()) == (1, 0)
    shop.principal = await live_principal(shop.services, shop.principal)
    live = await shop.finish(await shop.submit())
    assert (live.state, live.test) == (TaskState.SUCCEEDED, False)
    assert (studio.calls()["paid"], shop.paid()) == (1, 1)


async def test_no_credentials_leave_the_gateway_with_it(shop: Workshop, studio: RunningEmulator) -> None:
    class Precious:
        async def token(self) -> str:
            return "ya29.precious"

    for model in shop.pipeline._models[KeyMode.LIVE].values():
        model._client._tokens = Precious()
    await shop.finish(await shop.submit())
    assert [call["authorized"] for call in studio.calls()["calls"]] == [False]
    shop.principal = await live_principal(shop.services, shop.principal)
    await shop.finish(await shop.submit())
    assert shop.calls("authorized") == [True]


@pytest.mark.parametrize("model", ["musicgen", "lyria-002"])
async def test_it_is_the_model_that_a_live_key_would_get(
    shop: Workshop, studio: RunningEmulator, model: str
) -> None:
    task = await shop.finish(await shop.submit(route=Route.STANDARD, model=model, duration_s=1))
    assert (task.state, task.model) == (TaskState.SUCCEEDED, model)
    assert [call["model"] for call in studio.calls()["calls"]] == [model]


async def test_clips_seeds_and_retries_are_as_with_a_live_key(
    shop: Workshop, studio: RunningEmulator
) -> None:
    studio.script({"status": 500}, {"preset": "quota", "retry_after": 1})
    task = await shop.finish(await shop.submit(sample_count=2, seed=41))
    assert [clip.seed for clip in task.clips] == [41, 42]
    assert [call["seed"] for call in studio.calls()["calls"]] == [41, 41, 41, 42]


async def test_a_refusal_is_told_as_with_a_live_key(shop: Workshop, studio: RunningEmulator) -> None:
    studio.script({"preset": "safety"})
    task = await shop.finish(await shop.submit())
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, "safety_blocked")
    assert await ledger_of(shop, task) == [("hold", 0, 0), ("release", 0, 0)]


async def test_an_emulator_out_of_reach_is_waited_for(settings: Settings, emulator: RunningEmulator) -> None:
    away = settings.model_copy(update={"test_emulator_url": NOWHERE})
    async with open_workshop(away, emulator) as shop:
        shop.principal, _ = await a_caller(shop.services.database, mode=KeyMode.TEST)
        submitted = await shop.submit()
        assert await shop.step(submitted) is TaskState.QUEUED
        assert await shop.attempts() == [("failed", "not_sent", "model_unavailable", 0)]
        assert (await shop.claim(submitted)).attempts_spent == 0


async def test_where_everything_is_emulated_test_keys_use_what_is_there(
    settings: Settings, emulator: RunningEmulator
) -> None:
    alone = settings.model_copy(update={"test_emulator_url": ""})
    async with open_workshop(alone, emulator) as shop:
        shop.principal, _ = await a_caller(shop.services.database, mode=KeyMode.TEST)
        task = await shop.finish(await shop.submit())
        assert (task.state, task.test) == (TaskState.SUCCEEDED, True)
        assert shop.paid() == 1
        assert await shop.services.books.reconcile() == ()


# What it costs


async def test_it_costs_nothing_from_the_hold_to_the_end(shop: Workshop) -> None:
    submitted = await shop.submit(sample_count=3)
    assert submitted.price_micros == 0
    task = await shop.finish(submitted)
    assert len(task.clips) == 3
    assert await ledger_of(shop, task) == [("hold", 0, 0), ("settle", 0, 0)]
    assert await shop.rows("SELECT sum(cost_micros) FROM attempts") == [(0,)]
    assert await used(shop.services, shop.principal.tenant_id) == {(0, 0)}


async def test_a_price_multiplier_makes_something_of_nothing_for_nobody(shop: Workshop) -> None:
    tenant = await keep_tenant(shop.services.database, price_ppm=2_000_000)
    shop.principal, _ = await a_caller(shop.services.database, tenant, mode=KeyMode.TEST)
    assert (await shop.submit()).price_micros == 0


@pytest.mark.parametrize("limit_micros", [0, CLIP, 2 * CLIP - 1])
@pytest.mark.parametrize("window", list(BudgetWindow))
async def test_no_budget_refuses_it_however_little_is_left(
    shop: Workshop, window: BudgetWindow, limit_micros: int
) -> None:
    """Nothing, all of it spent, and less than the next request costs."""
    tenant_id = shop.principal.tenant_id
    live = await live_principal(shop.services, shop.principal)
    await shop.services.tenants.set_budgets(ACT, tenant_id, {window: limit_micros})
    if limit_micros:
        await shop.services.tasks.submit(live, LYRIA)
    with pytest.raises(BudgetSpent):
        await shop.services.tasks.submit(live, LYRIA)
    admitted = await shop.services.tasks.submit(shop.principal, LYRIA)
    assert admitted.alerts == ()
    assert (await shop.finish(admitted.task)).state is TaskState.SUCCEEDED


async def test_an_overdrawn_budget_does_not_refuse_it(shop: Workshop) -> None:
    tenant_id = shop.principal.tenant_id
    await shop.services.books.adjust(ACT, tenant_id, 5 * CLIP, reason="a bill")
    await shop.services.tenants.set_budgets(ACT, tenant_id, dict.fromkeys(BudgetWindow, CLIP))
    await shop.finish(await shop.submit())
    assert await used(shop.services, tenant_id) == {(0, 5 * CLIP)}


async def test_it_leaves_the_budget_to_live_keys(shop: Workshop) -> None:
    await shop.services.tenants.set_budgets(ACT, shop.principal.tenant_id, {BudgetWindow.TOTAL: CLIP})
    for _ in range(3):
        await shop.submit()
    live = await live_principal(shop.services, shop.principal)
    await shop.services.tasks.submit(live, LYRIA)
    assert await used(shop.services, shop.principal.tenant_id) == {(CLIP, 0)}


async def test_a_quote_is_of_nothing(shop: Workshop) -> None:
    await shop.services.tenants.set_budgets(ACT, shop.principal.tenant_id, {BudgetWindow.DAY: 0})
    quote = await shop.services.tasks.quote(
        shop.principal, replace(LYRIA, spec=MusicSpec("slow piano", sample_count=4))
    )
    assert (quote.verdict.task.price_micros, quote.verdict.refusal, quote.verdict.alerts) == (0, None, ())


async def test_other_limits_hold(shop: Workshop) -> None:
    tenant = await keep_tenant(shop.services.database, max_queued=2)
    fast, _ = await a_caller(shop.services.database, tenant, mode=KeyMode.TEST)
    slow, _ = await a_caller(shop.services.database, tenant, mode=KeyMode.TEST, rpm=1)
    await shop.services.tasks.submit(slow, LYRIA)
    with pytest.raises(LimitReached) as caught:
        await shop.services.tasks.submit(slow, LYRIA)
    assert caught.value.code is ErrorCode.RATE_LIMITED
    await shop.services.tasks.submit(fast, LYRIA)
    with pytest.raises(LimitReached) as caught:
        await shop.services.tasks.submit(fast, LYRIA)
    assert caught.value.code is ErrorCode.QUEUE_FULL


# What is told of it


@pytest.mark.usefixtures("worker")
async def test_the_task_says_what_it_is(tester: Caller) -> None:
    task = await tester.ended((await tester.ask())["task_id"])
    assert (task["status"], task["test"], task["emulated"]) == ("succeeded", True, True)
    assert (task["price"]["micros"], task["price"]["charged_micros"]) == (0, 0)
    assert task["warnings"] == ["Made by the built-in emulator, not by a Google model."]


async def test_a_dry_run_quotes_nothing_over_http(tester: Caller) -> None:
    quote = (await tester.post("/api/music_generate?dry_run=true", json={"prompt": "x"})).json()
    assert (quote["admitted"], quote["price"]["micros"], quote["price"]["usd"]) == (True, 0, "0.00")


async def test_metrics_tell_test_tasks_from_live_ones(shop: Workshop) -> None:
    await shop.finish(await shop.submit())
    text = shop.services.metrics.render().decode()
    for mode, count in (("test", 1.0), ("live", 0.0)):
        names = f'mode="{mode}",model="lyria-002"'
        assert f'gateway_tasks_total{{{names},state="queued"}} {count}' in text
        assert f'gateway_tasks_total{{{names},state="succeeded"}} {count}' in text
        assert f'gateway_upstream_calls_total{{{names},outcome="delivered"}} {count}' in text
        assert (f"gateway_upstream_seconds_count{{{names}}} 1.0" in text) is (mode == "test")
        assert (f"gateway_received_bytes_total{{{names}}}" in text) is (mode == "test")


# Going live


@pytest.mark.usefixtures("worker")
async def test_who_goes_live_is_not_handed_what_the_emulator_made(
    tester: Caller, caller: Caller, emulator: RunningEmulator
) -> None:
    """The same program, the same Idempotency-Key, another key: a name of a test key is another name."""
    asked: dict[str, Any] = {
        "json": {"prompt": "slow piano", "durationSeconds": 1},
        "headers": {"Idempotency-Key": '"spring-1"'},
    }
    test, live = await tester.post(**asked), await caller.post(**asked)
    assert (test.json()["test"], live.json()["test"]) == (True, False)
    assert "Idempotent-Replayed" not in live.headers
    assert emulator.calls()["paid"] == 1
    for who, first in ((tester, test), (caller, live)):
        again = await who.post(**asked)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json()["task_id"] == first.json()["task_id"]


async def test_a_test_key_stays_one_through_rotations(tester: Caller) -> None:
    keyring = tester.services.keyring
    (before,) = [key for key in await keyring.list(tester.tenant_id) if key.mode is KeyMode.TEST]
    rotated = await keyring.rotate(ACT, before.id, overlap_s=0)
    assert rotated.text.startswith("mg_test_")
    assert (await replace(tester, key=rotated.text).ask())["test"] is True


# Switched off


@pytest.fixture
def off(settings: Settings) -> Settings:
    return settings.model_copy(update={"test_keys": False})


async def test_switched_off_a_request_is_refused_before_anything_is_kept(
    tester: Caller, off: Settings
) -> None:
    principal = await tester.services.authenticator.authenticate(tester.key)
    async with open_services(off) as services:
        for asking in (services.tasks.submit, services.tasks.quote):
            with pytest.raises(Forbidden) as caught:
                await asking(principal, LYRIA)
            assert caught.value.code is ErrorCode.TEST_KEYS_OFF
            assert "mg_live_" in caught.value.detail
        for table in ("tasks", "ledger", "task_events"):
            count = f"SELECT count(*) FROM {table}"
            assert await services.database.read(
                lambda tx, count=count: tx.exec_driver_sql(count).scalar_one() == 0
            )


async def test_switched_off_live_keys_go_on_and_what_was_made_can_be_read(
    tester: Caller, caller: Caller, off: Settings
) -> None:
    made = await tester.ask()
    tester.services.tasks._policy = replace(tester.services.tasks._policy, test_keys=off.test_keys)
    refused = await tester.post(json={"prompt": "x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "test_keys_off")
    assert (await tester.status(made["task_id"])).json()["test"] is True
    await caller.ask()


async def test_a_worker_without_test_keys_fails_what_was_waiting_and_calls_nobody(
    shop: Workshop, off: Settings, studio: RunningEmulator
) -> None:
    task = await shop.submit()
    async with open_services(off, shop.clock) as other:
        lease = await shop.claim(task)
        left = await other.runner._pipeline.run(lease)
    assert left.error is not None
    assert (left.state, left.error.code) == (TaskState.FAILED, "model_misconfigured")
    assert "switched off" in left.error.detail
    assert await ledger_of(shop, task) == [("hold", 0, 0), ("release", 0, 0)]
    assert (studio.calls()["received"], shop.paid()) == (0, 0)


async def test_a_worker_without_test_keys_records_no_call_with_its_claim(
    shop: Workshop, off: Settings
) -> None:
    task = await shop.submit()
    async with open_services(off, shop.clock) as other:
        lease = await shop.claim(task)
        pipeline = other.runner._pipeline
        room = Room(shop.services.runner._claimer._pool._catalog.deployments[-1])
        assert await shop.services.database.write(lambda tx: pipeline.open(tx, lease, room)) is None
    assert await shop.attempts() == []


# The address


@pytest.mark.parametrize("url", ["http://emulator:8090", "https://emulator.example.com/"])
def test_an_emulator_elsewhere_is_named_by_its_address(url: str) -> None:
    assert Settings(test_emulator_url=url).test_emulator_url == url


@pytest.mark.parametrize("url", ["emulator:8090", "ftp://emulator", "http://emulator/v1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="test_emulator_url"):
        Settings(test_emulator_url=url)


async def test_a_proxy_is_not_asked_for_an_emulator_on_this_machine(
    settings: Settings, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    async with open_workshop(settings, emulator) as shop:
        with pytest.raises(httpx.ConnectError):
            await shop.pipeline._models[KeyMode.TEST]["musicgen"]._client._http.get(
                "http://elsewhere.example"
            )
        shop.principal, _ = await a_caller(shop.services.database, mode=KeyMode.TEST)
        assert (await shop.finish(await shop.submit())).state is TaskState.SUCCEEDED
