"""What waits too long is ended and let go of, once, whoever looks."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from gateway.db import sweeps, work
from gateway.db.engine import Database, Tx
from gateway.model import MusicSpec, Route, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.submission import Submission
from gateway.tasks.sweeper import DELIVERIES_KEPT_S, Sweeper
from tests.emulator import RunningEmulator
from tests.factories import ACT
from tests.queueing import in_turn
from tests.workshop import Workshop, open_workshop


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    """Whatever happens in it, its books are right in the end."""
    async with open_workshop(settings, emulator) as opened:
        yield opened
        assert await opened.services.books.reconcile() == ()


def sweeper_of(shop: Workshop) -> Sweeper:
    services = shop.services
    return Sweeper(services.database, services.announcer, services.signals, services.metrics, shop.clock)


async def held(shop: Workshop) -> int:
    budgets = await shop.services.tenants.list_budgets(shop.principal.tenant_id)
    return budgets[-1].used.held_micros


async def state(shop: Workshop, task: Task) -> TaskState:
    return (await shop.look(task)).state


async def test_a_task_that_waited_too_long_expires_and_its_money_comes_back(
    shop: Workshop, settings: Settings
) -> None:
    """B2: every hold has a deadline and a sweep."""
    task = await shop.submit(sample_count=2)
    shop.clock.advance(settings.task_timeout_s - 0.001)
    await sweeper_of(shop).expire_overdue()
    assert await state(shop, task) is TaskState.QUEUED
    assert await held(shop) == 120_000
    shop.clock.advance(0.001)
    await sweeper_of(shop).expire_overdue()
    expired = await shop.look(task)
    assert (expired.state, expired.error.code) == (TaskState.EXPIRED, "expired")
    assert expired.finished_at_ms == shop.clock.now_ms()
    assert await held(shop) == 0


async def hurried(shop: Workshop, start_within_s: int) -> Task:
    submission = Submission(
        Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None, start_within_s=start_within_s
    )
    return (await shop.services.tasks.submit(shop.principal, submission)).task


async def test_a_task_that_was_not_started_in_its_time_expires_and_is_free(shop: Workshop) -> None:
    task, patient = await hurried(shop, 30), await shop.submit()
    shop.clock.advance(29.999)
    await sweeper_of(shop).expire_overdue()
    assert await state(shop, task) is TaskState.QUEUED
    shop.clock.advance(0.001)
    assert await may_start(shop) == [patient.id]
    await sweeper_of(shop).expire_overdue()
    expired = await shop.look(task)
    assert (expired.state, expired.error.code, expired.charged_micros) == (TaskState.EXPIRED, "expired", 0)
    assert await state(shop, patient) is TaskState.QUEUED
    assert await held(shop) == 60_000


async def test_no_worker_starts_what_is_over_before_it_was_swept(shop: Workshop) -> None:
    task = await hurried(shop, 30)
    shop.clock.advance(30)
    now_ms = shop.clock.now_ms()
    claim = partial(work.claim, task_id=task.id, token="mine", now_ms=now_ms, expires_at_ms=now_ms + 1)
    assert await shop.services.database.write(claim) is None
    assert await state(shop, task) is TaskState.QUEUED


async def test_what_was_started_in_its_time_goes_on_after_it(shop: Workshop) -> None:
    """Also when its worker is lost and it has to be started again."""
    task = await hurried(shop, 30)
    await shop.claim(task)
    await shop.lose_lease()
    await sweeper_of(shop).expire_overdue()
    assert await may_start(shop) == [task.id]
    assert (await shop.finish(task)).state is TaskState.SUCCEEDED


async def test_what_is_overdue_is_found_along_its_own_indexes(sqlite_database: Database) -> None:
    """Whatever waits besides."""

    def plan(tx: Tx) -> list[str]:
        plans = []
        for statement in sweeps._OVERDUE:
            compiled = statement.compile(dialect=tx.dialect)
            values = tuple(1 for _ in compiled.positiontup)
            rows = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled.string}", values)
            plans.append(" ".join(row.detail for row in rows))
        return plans

    by_deadline, by_start = await sqlite_database.read(plan)
    assert by_deadline == "SEARCH tasks USING INDEX ix_tasks_deadline (deadline_at_ms<?)"
    assert by_start == "SEARCH tasks USING INDEX ix_tasks_start_by (start_by_at_ms<?)"


async def test_postgres_finds_it_along_them_too(postgres_database: Database) -> None:
    def plan(tx: Tx) -> list[str]:
        tx.exec_driver_sql("SET LOCAL enable_seqscan = off")
        return [
            "\n".join(tx.exec_driver_sql(f"EXPLAIN {literal(statement, tx)}").scalars())
            for statement in sweeps._OVERDUE
        ]

    by_deadline, by_start = await postgres_database.read(plan)
    assert "Index Scan using ix_tasks_deadline" in by_deadline
    assert "Index Scan using ix_tasks_start_by" in by_start


def literal(statement: Any, tx: Tx) -> str:
    bound = statement.limit(100).params(now_ms=1)
    return str(bound.compile(dialect=tx.dialect, compile_kwargs={"literal_binds": True}))


async def test_whoever_waits_for_it_is_told(shop: Workshop, settings: Settings) -> None:
    task = await shop.submit()
    waiting = asyncio.create_task(shop.services.tasks.wait(shop.principal, task.id, timeout_s=10**6))
    await asyncio.sleep(0)
    shop.clock.advance(settings.task_timeout_s)
    await sweeper_of(shop).expire_overdue()
    assert (await waiting).state is TaskState.EXPIRED


async def test_several_sweepers_end_a_task_once(shop: Workshop, settings: Settings) -> None:
    for _ in range(120):
        await shop.submit()
    shop.clock.advance(settings.task_timeout_s)
    await asyncio.gather(*(sweeper_of(shop).expire_overdue() for _ in range(3)))
    counted = await shop.rows("SELECT state, count(*) FROM tasks GROUP BY state")
    assert counted == [("expired", 120)]
    assert await shop.rows("SELECT count(*) FROM ledger WHERE kind = 'release'") == [(120,)]


async def test_what_was_run_before_is_left_to_a_worker(shop: Workshop, settings: Settings) -> None:
    """It may have clips, which are delivered."""
    task = await shop.submit()
    await shop.claim(task)
    await shop.lose_lease()
    shop.clock.advance(settings.task_timeout_s)
    await sweeper_of(shop).expire_overdue()
    assert await state(shop, task) is TaskState.QUEUED
    assert (await shop.finish(task)).error.code == "model_timeout"


async def test_a_task_claimed_meanwhile_is_not_ended(shop: Workshop, settings: Settings) -> None:
    task = await shop.submit()
    shop.clock.advance(settings.task_timeout_s)
    now_ms = shop.clock.now_ms()
    ids = await shop.services.database.read(lambda tx: sweeps.list_overdue(tx, now_ms=now_ms, at_most=9))
    assert ids == (task.id,)
    await shop.claim(task)
    assert await sweeper_of(shop).expire_overdue() is None
    assert await state(shop, task) is TaskState.RUNNING
    assert (await shop.rows("SELECT count(*) FROM ledger")) == [(1,)]


async def may_start(shop: Workshop) -> list[str | None]:
    """The task that each waiting tenant may start next."""
    now_ms = shop.clock.now_ms()
    found = await shop.services.database.read(lambda tx: in_turn(tx, now_ms))
    return [task_id for _, task_id in found]


async def test_a_suspended_tenant_starts_nothing_and_what_ran_goes_on(shop: Workshop) -> None:
    """Suspending stops new work at once, and lets running work finish, also when it has to be run again."""
    waiting, started = await shop.submit(), await shop.submit()
    await shop.claim(started)
    await shop.services.tenants.suspend(ACT, shop.principal.tenant_id)
    assert await may_start(shop) == []
    await shop.lose_lease()
    assert await may_start(shop) == [started.id]
    assert (await shop.finish(started)).state is TaskState.SUCCEEDED
    assert await may_start(shop) == []
    await shop.services.tenants.activate(ACT, shop.principal.tenant_id)
    assert await may_start(shop) == [waiting.id]


async def test_what_a_suspended_tenant_has_waiting_expires_in_its_time(
    shop: Workshop, settings: Settings
) -> None:
    task = await shop.submit()
    await shop.services.tenants.suspend(ACT, shop.principal.tenant_id)
    shop.clock.advance(settings.task_timeout_s)
    await sweeper_of(shop).expire_overdue()
    assert await state(shop, task) is TaskState.EXPIRED


async def test_webhooks_that_ended_long_ago_are_forgotten(shop: Workshop) -> None:
    tenant_id = shop.principal.tenant_id
    endpoint = await shop.services.webhooks.create(ACT, tenant_id, "https://hooks.example.com/music")
    waits = (await shop.services.webhooks.test(tenant_id, endpoint.id)).id
    shop.clock.advance(61)
    ended = (await shop.services.webhooks.test(tenant_id, endpoint.id)).id
    end = f"SET state = 'delivered', finished_at_ms = {shop.clock.now_ms()} WHERE id = '{ended}'"
    await shop.services.database.write(lambda tx: tx.exec_driver_sql(f"UPDATE webhook_deliveries {end}"))
    shop.clock.advance(DELIVERIES_KEPT_S)
    await sweeper_of(shop).forget_deliveries()
    assert await _kept(shop) == {ended, waits}
    shop.clock.advance(0.001)
    await sweeper_of(shop).forget_deliveries()
    assert await _kept(shop) == {waits}


async def _kept(shop: Workshop) -> set[str]:
    return {row[0] for row in await shop.rows("SELECT id FROM webhook_deliveries")}
