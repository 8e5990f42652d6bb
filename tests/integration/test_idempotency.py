"""A named request is made once, however often it is sent (peers.md, A5)."""

import asyncio

import httpx
import pytest

from gateway.bootstrap.services import Services, open_services
from gateway.db import idempotency
from gateway.model import BudgetWindow, MusicSpec, Principal, Route
from gateway.settings import Settings
from gateway.tasks.submission import Submission
from gateway.tasks.sweeper import NAMES_KEPT_S, Sweeper
from tests.api import Caller, make_caller
from tests.clock import SetClock
from tests.factories import ACT

NAME = {"Idempotency-Key": '"spring-1"'}
ASYNC = {**NAME, "Prefer": "respond-async"}
BODY = {"prompt": "slow piano", "durationSeconds": 1}


async def count(services: Services, what: str) -> int:
    return await services.database.read(
        lambda tx: tx.exec_driver_sql(f"SELECT count(*) FROM {what}").scalar_one()
    )


async def test_a_repeat_tells_how_it_ended_and_costs_nothing(caller: Caller, worker: None) -> None:
    first = await caller.post(json=BODY, headers=NAME)
    again = await caller.post(json=BODY, headers=NAME)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["task_id"] == first.json()["task_id"]
    assert again.json()["audio_url"] == first.json()["audio_url"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "RateLimit" not in again.headers
    assert await count(caller.services, "tasks") == 1
    assert await count(caller.services, "ledger WHERE kind = 'hold'") == 1


async def test_a_repeat_joins_the_task_while_it_runs(caller: Caller) -> None:
    """I2: the first caller's connection broke; the second waits for the same work."""
    first = await caller.post(json=BODY, headers=ASYNC)
    assert first.status_code == 202
    waiting = asyncio.create_task(caller.post(json=BODY, headers=NAME))
    await asyncio.sleep(0.05)
    caller.services.runner.start()
    joined = await waiting
    assert joined.status_code == 200
    assert joined.json()["task_id"] == first.json()["task_id"]
    assert joined.json()["status"] == "succeeded"


async def test_a_repeat_that_will_not_wait_gets_the_task_as_it_stands(caller: Caller) -> None:
    first = await caller.post(json=BODY, headers=ASYNC)
    again = await caller.post(json=BODY, headers=ASYNC)
    assert again.status_code == 202
    assert again.json() == first.json() | {"warnings": again.json()["warnings"]}
    assert again.headers["Location"] == first.headers["Location"]


async def test_fifty_at_once_make_one_task(caller: Caller) -> None:
    """I3: a race of one name ends with one task, one hold, and one answer for all."""
    answers = await asyncio.gather(*(caller.post(json=BODY, headers=ASYNC) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert await count(caller.services, "tasks") == await count(caller.services, "ledger") == 1


async def test_another_request_under_the_same_name_is_refused(caller: Caller) -> None:
    """I4: the name comes from the caller; what was asked only tells misuse."""
    first = await caller.post(json=BODY, headers=ASYNC)
    for body, path in (
        ({**BODY, "prompt": "fast piano"}, "/api/music_generate"),
        ({"prompt": "slow piano"}, "/api/music_generate_lyria"),
    ):
        other = await caller.post(path, json=body, headers=ASYNC)
        assert other.status_code == 422
        assert other.json()["code"] == "idempotency_key_reused"
    assert await count(caller.services, "tasks") == 1
    again = await caller.post(json=BODY, headers=ASYNC)
    assert again.json()["task_id"] == first.json()["task_id"]


async def test_a_name_is_the_tenants_own(caller: Caller, stranger: Caller) -> None:
    first = await caller.post(json=BODY, headers=ASYNC)
    other = await stranger.post(json={**BODY, "prompt": "drums"}, headers=ASYNC)
    assert other.status_code == 202
    assert other.json()["task_id"] != first.json()["task_id"]


async def test_a_name_holds_for_every_key_of_the_tenant(caller: Caller) -> None:
    first = await caller.post(json=BODY, headers=ASYNC)
    _, second_key = await caller.services.keyring.create(ACT, caller.tenant_id, name="second")
    other = Caller(caller.client, caller.services, caller.tenant_id, second_key)
    again = await other.post(json=BODY, headers=ASYNC)
    assert again.json()["task_id"] == first.json()["task_id"]


async def test_a_refused_request_leaves_its_name_free(caller: Caller) -> None:
    """I5: what was refused for money may be sent again once there is some."""
    tenants = caller.services.tenants
    await tenants.set_budgets(ACT, caller.tenant_id, {BudgetWindow.DAY: 0})
    body = {"prompt": "slow piano"}
    path = "/api/music_generate_lyria"
    assert (await caller.post(path, json=body, headers=ASYNC)).status_code == 402
    assert (await caller.post(path, json={"prompt": ""}, headers=ASYNC)).status_code == 400
    assert await count(caller.services, "idempotency") == 0
    await tenants.set_budgets(ACT, caller.tenant_id, {BudgetWindow.DAY: None})
    assert (await caller.post(path, json=body, headers=ASYNC)).status_code == 202


async def test_a_repeat_counts_towards_no_limit(client: httpx.AsyncClient, services: Services) -> None:
    caller = await make_caller(client, services, "acme", key_rpm=1, max_queued=1)
    first = await caller.post(json=BODY, headers=ASYNC)
    again = await caller.post(json=BODY, headers=ASYNC)
    assert (first.status_code, again.status_code) == (202, 202)
    assert (await caller.post(json=BODY, headers={"Prefer": "respond-async"})).status_code == 429


async def test_a_dry_run_binds_no_name(caller: Caller) -> None:
    quote = await caller.post("/api/music_generate?dry_run=true", json=BODY, headers=NAME)
    assert quote.json()["dry_run"] is True
    other = await caller.post(json={**BODY, "prompt": "drums"}, headers=ASYNC)
    assert other.status_code == 202


async def test_without_a_name_the_same_twice_is_two_tasks(caller: Caller) -> None:
    tasks = [await caller.ask() for _ in range(2)]
    assert tasks[0]["task_id"] != tasks[1]["task_id"]


@pytest.mark.parametrize("value", ['""', "two words", "x" * 256])
async def test_what_is_no_name_is_refused(caller: Caller, value: str) -> None:
    answer = await caller.post(json=BODY, headers={"Idempotency-Key": value})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_a_name_is_remembered_by_the_next_process(settings: Settings) -> None:
    submission = Submission(Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None, "spring")
    async with open_services(settings) as services:
        tenant = await services.tenants.create(ACT, name="acme")
        key, _ = await services.keyring.create(ACT, tenant.id, name="k")
        principal = Principal(tenant.id, key.id)
        first = await services.tasks.submit(principal, submission)
    async with open_services(settings) as services:
        again = await services.tasks.submit(principal, submission)
        assert again.task.id == first.task.id
        assert again.joined


async def test_names_are_forgotten_after_their_time_and_not_before(settings: Settings) -> None:
    clock = SetClock()
    submission = Submission(Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None, "spring")
    async with open_services(settings, clock) as services:
        tenant = await services.tenants.create(ACT, name="acme")
        key, _ = await services.keyring.create(ACT, tenant.id, name="k")
        principal = Principal(tenant.id, key.id)
        sweeper = Sweeper(services.database, services.announcer, services.signals, services.metrics, clock)
        first = await services.tasks.submit(principal, submission)
        clock.advance(NAMES_KEPT_S)
        await sweeper.forget_names()
        assert (await services.tasks.submit(principal, submission)).joined
        clock.advance(0.001)
        await sweeper.forget_names()
        again = await services.tasks.submit(principal, submission)
        assert not again.joined
        assert again.task.id != first.task.id


async def test_names_are_forgotten_in_small_steps(services: Services) -> None:
    tenant = await services.tenants.create(ACT, name="acme")
    key, _ = await services.keyring.create(ACT, tenant.id, name="k")
    for number in range(5):
        submission = Submission(Route.LYRIA, MusicSpec("x"), None, {}, "r", None, f"name {number}")
        await services.tasks.submit(Principal(tenant.id, key.id), submission)
    later_ms = services.clock.now_ms() + 1
    for expected in (2, 2, 1, 0):
        forgotten = await services.database.write(
            lambda tx: idempotency.forget_names(tx, before_ms=later_ms, at_most=2)
        )
        assert forgotten == expected
