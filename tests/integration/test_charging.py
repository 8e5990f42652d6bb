"""What a task's life costs: held when accepted, charged for what was delivered, let go of otherwise, once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.db import work
from gateway.errors import Unavailable
from gateway.model import BudgetWindow, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.catalog import Catalog
from gateway.tasks.pipeline import LeaseLost
from gateway.web.views import render_task
from tests.emulator import RunningEmulator
from tests.factories import ACT, keep_task
from tests.fakes import FailingDatabase
from tests.workshop import MAX_ATTEMPTS, Workshop, open_workshop

ON_BOTH_DATABASES = True

CLIP = 60_000


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    """Whatever happens in it, its books are right in the end."""
    async with open_workshop(settings, emulator) as opened:
        yield opened
        assert await opened.services.books.reconcile() == ()


async def entries(shop: Workshop, task: Task) -> list[tuple[Any, ...]]:
    return await shop.rows(
        f"SELECT kind, held_micros, spent_micros FROM ledger WHERE task_id = '{task.id}' ORDER BY id"
    )


async def used(shop: Workshop) -> tuple[int, int]:
    """Held and spent in all, which here is the same as today."""
    budgets = await shop.services.tenants.list_budgets(shop.principal.tenant_id)
    (both,) = {(budget.used.held_micros, budget.used.spent_micros) for budget in budgets}
    return both


async def test_accepting_holds_the_price(shop: Workshop) -> None:
    task = await shop.submit(sample_count=3)
    assert await entries(shop, task) == [("hold", 3 * CLIP, 0)]
    assert await used(shop) == (3 * CLIP, 0)


async def test_a_task_that_succeeds_is_settled(shop: Workshop) -> None:
    task = await shop.finish(await shop.submit(sample_count=3))
    assert await entries(shop, task) == [("hold", 3 * CLIP, 0), ("settle", -3 * CLIP, 3 * CLIP)]
    assert await used(shop) == (0, 3 * CLIP)


async def test_running_holds_it_still(shop: Workshop) -> None:
    task = await shop.submit()
    await shop.claim(task)
    assert await used(shop) == (CLIP, 0)


async def test_missing_clips_are_let_go_of(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 3}, {"empty_predictions": True, "times": 9})
    task = await shop.finish(await shop.submit(sample_count=4))
    assert (task.state, len(task.clips)) == (TaskState.SUCCEEDED, 3)
    assert await entries(shop, task) == [("hold", 4 * CLIP, 0), ("settle", -4 * CLIP, 3 * CLIP)]


async def test_a_refusal_costs_nothing(shop: Workshop) -> None:
    shop.emulator.script({"preset": "safety"})
    task = await shop.finish(await shop.submit(sample_count=2))
    assert task.state is TaskState.FAILED
    assert await entries(shop, task) == [("hold", 2 * CLIP, 0), ("release", -2 * CLIP, 0)]
    assert await used(shop) == (0, 0)


async def test_tries_are_not_charged(shop: Workshop) -> None:
    shop.emulator.script({"preset": "recitation", "times": 2}, {"not_audio": True})
    task = await shop.finish(await shop.submit())
    assert (task.state, task.attempt_count) == (TaskState.SUCCEEDED, 4)
    assert await entries(shop, task) == [("hold", CLIP, 0), ("settle", -CLIP, CLIP)]


async def test_a_task_that_was_put_back_keeps_its_hold(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 1})
    submitted = await shop.submit(sample_count=2)
    assert await shop.step(submitted) is TaskState.QUEUED
    assert await entries(shop, submitted) == [("hold", 2 * CLIP, 0)]
    shop.clock.advance(30)
    task = await shop.finish(submitted)
    assert await entries(shop, task) == [("hold", 2 * CLIP, 0), ("settle", -2 * CLIP, 2 * CLIP)]


async def test_a_crash_holds_on_and_is_charged_once(shop: Workshop) -> None:
    shop.emulator.script({}, {"hang": True})
    submitted = await shop.submit(sample_count=2, seed=10)
    running = asyncio.create_task(shop.step(submitted))
    await shop.until_received(2)
    await shop.abandon(running)
    assert await used(shop) == (2 * CLIP, 0)
    task = await shop.finish(submitted)
    assert shop.paid() == 3  # by us; the tenant pays for two
    assert await entries(shop, task) == [("hold", 2 * CLIP, 0), ("settle", -2 * CLIP, 2 * CLIP)]


async def test_workers_that_died_with_every_call_cost_nothing(shop: Workshop) -> None:
    task = await shop.submit()
    shop.emulator.script({"hang": True, "times": MAX_ATTEMPTS})
    for number in range(MAX_ATTEMPTS):
        running = asyncio.create_task(shop.step(task))
        await shop.until_received(number + 1)
        await shop.abandon(running)
    await shop.finish(task)
    assert await entries(shop, task) == [("hold", CLIP, 0), ("release", -CLIP, 0)]


async def test_a_task_given_back_keeps_its_hold(shop: Workshop) -> None:
    submitted = await shop.submit()
    await shop.claim(submitted)
    now_ms = shop.clock.now_ms()
    await shop.services.database.write(
        lambda tx: work.requeue(
            tx, submitted.id, token="mine", not_before_ms=now_ms, reason="drain", now_ms=now_ms
        )
    )
    assert await used(shop) == (CLIP, 0)
    await shop.finish(submitted)
    assert await used(shop) == (0, CLIP)


async def test_whoever_lost_the_lease_charges_nothing(shop: Workshop) -> None:
    shop.emulator.script({"delay_s": 0.2})
    submitted = await shop.submit()
    running = asyncio.create_task(shop.step(submitted))
    await shop.until_received(1)
    await shop.lose_lease()
    with pytest.raises(LeaseLost):
        await running
    assert await entries(shop, submitted) == [("hold", CLIP, 0)]
    await shop.finish(submitted)
    assert await used(shop) == (0, CLIP)


async def test_time_that_ran_out_costs_nothing(shop: Workshop) -> None:
    submitted = await shop.submit()
    shop.clock.advance(900)
    await shop.finish(submitted)
    assert await used(shop) == (0, 0)


async def test_a_model_taken_away_costs_nothing(shop: Workshop) -> None:
    submitted = await shop.submit()
    shop.pipeline._catalog = Catalog(())
    await shop.finish(submitted)
    assert await used(shop) == (0, 0)


async def test_a_database_that_was_away_at_the_end_settles_once(shop: Workshop) -> None:
    shop.pipeline._database = FailingDatabase(shop.services.database, after=1, failures=3)
    task = await shop.finish(await shop.submit())
    assert await entries(shop, task) == [("hold", CLIP, 0), ("settle", -CLIP, CLIP)]


async def test_an_end_that_cannot_be_settled_is_no_end(shop: Workshop) -> None:
    """The row, its clips and its charge are written together or not at all."""
    submitted = await shop.submit()
    await shop.services.database.write(
        lambda tx: tx.exec_driver_sql("ALTER TABLE ledger RENAME COLUMN reason TO away")
    )
    with pytest.raises(Unavailable):
        await shop.step(submitted)
    task = await shop.look(submitted)
    assert (task.state, task.clips) == (TaskState.RUNNING, ())
    await shop.services.database.write(
        lambda tx: tx.exec_driver_sql("ALTER TABLE ledger RENAME COLUMN away TO reason")
    )
    await shop.lose_lease()
    await shop.finish(submitted)
    assert await used(shop) == (0, CLIP)


async def test_a_task_counts_on_the_day_it_was_accepted(shop: Workshop) -> None:
    submitted = await shop.submit()
    shop.emulator.script({"delay_s": 0.2})
    running = asyncio.create_task(shop.step(submitted))
    await shop.until_received(1)
    shop.clock.advance(86_400)  # it is tomorrow
    await running
    days = await shop.rows("SELECT DISTINCT day FROM ledger")
    assert days == [("2027-01-15",)]
    today, month, total = await shop.services.tenants.list_budgets(shop.principal.tenant_id)
    assert [each.used.spent_micros for each in (today, month, total)] == [0, CLIP, CLIP]


async def test_what_was_let_go_of_can_be_used_again(shop: Workshop) -> None:
    await shop.services.tenants.set_budgets(ACT, shop.principal.tenant_id, {BudgetWindow.TOTAL: CLIP})
    shop.emulator.script({"preset": "safety"})
    await shop.finish(await shop.submit())
    await shop.finish(await shop.submit())
    assert await used(shop) == (0, CLIP)


async def test_a_task_of_an_older_gateway_is_charged_when_it_ends(shop: Workshop) -> None:
    """One that ran on after the migration knows of no ledger."""
    (key,) = await shop.services.keyring.list(shop.principal.tenant_id)
    task = await keep_task(shop.services.database, key, created_at_ms=shop.clock.now_ms())
    assert {d.what for d in await shop.services.books.reconcile()} >= {"holds of a task"}
    await shop.finish(task)
    assert await entries(shop, task) == [("hold", CLIP, 0), ("settle", -CLIP, CLIP)]


@pytest.mark.parametrize(
    "fault", [{}, {"preset": "safety"}, {"fewer_clips": 2}, {"preset": "recitation", "times": 9}]
)
async def test_what_the_caller_is_told_is_what_the_ledger_says(shop: Workshop, fault: dict[str, Any]) -> None:
    shop.emulator.script({**fault}, {"empty_predictions": True, "times": 9})
    task = await shop.finish(await shop.submit(sample_count=3))
    told = render_task(task, await shop.services.tasks.links(task), "https://music.example.com")
    charged = sum(spent for _, _, spent in await entries(shop, task))
    assert told["price"]["charged_micros"] == charged
    assert told["price"]["micros"] == 3 * CLIP
