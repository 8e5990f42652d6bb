"""Tasks whose work is interrupted: crashes, lost leases, time running out, a database that goes away."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.db import work
from gateway.db.engine import Tx
from gateway.db.work import AttemptEnd
from gateway.errors import Unavailable
from gateway.model import TaskState
from gateway.settings import Settings
from gateway.tasks.catalog import Catalog
from gateway.tasks.pipeline import LeaseLost
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.factories import a_clip
from tests.fakes import FailingDatabase
from tests.workshop import MAX_ATTEMPTS, Workshop, open_workshop

ON_BOTH_DATABASES = True


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    async with open_workshop(settings, emulator) as opened:
        yield opened


async def test_a_crash_between_seeds_pays_for_none_twice(shop: Workshop) -> None:
    shop.emulator.script({}, {}, {"hang": True})
    submitted = await shop.submit(sample_count=4, seed=10)
    running = asyncio.create_task(shop.step(submitted))
    await shop.until_received(3)
    await shop.abandon(running)
    task = await shop.finish(submitted)
    assert (task.state, len(task.clips)) == (TaskState.SUCCEEDED, 4)
    assert shop.calls("seed") == [10, 11, 12, 12, 13]
    assert shop.paid() == 5  # the one that was open counts
    assert [attempt[0] for attempt in await shop.attempts()] == [
        "succeeded",
        "succeeded",
        "unknown",
        "succeeded",
        "succeeded",
    ]


async def test_clips_of_a_call_that_is_abandoned_are_kept(shop: Workshop) -> None:
    shop.emulator.script({"chunk_bytes": 40_000, "chunk_delay_s": 0.05})
    submitted = await shop.submit(sample_count=4)
    running = asyncio.create_task(shop.step(submitted))
    await eventually(lambda: len(shop.stored()) >= 2)
    await shop.abandon(running)
    kept = len((await shop.look(submitted)).clips)
    assert 1 <= kept < 4  # one may have been about to be published
    assert len(shop.stored()) == kept
    task = await shop.finish(submitted)
    assert [clip.index for clip in task.clips] == [0, 1, 2, 3]
    assert shop.calls("sample_count") == [4, 4 - kept]
    assert len(shop.stored()) == 4
    assert shop.unfinished() == []


async def test_a_task_whose_clips_are_all_there_ends_without_a_call(shop: Workshop) -> None:
    """A worker was stopped between the last clip and the end."""
    task = await shop.submit()
    await shop.claim(task)

    def leave(tx: Tx) -> None:
        now_ms = shop.clock.now_ms()
        work.begin_attempt(
            tx,
            task.id,
            token="mine",
            attempt_id="a1",
            deployment="lyria-002",
            clips_asked=1,
            now_ms=now_ms,
        )
        work.end_attempt(tx, task.id, AttemptEnd("a1", "unknown", (a_clip(task),)), now_ms=now_ms)
        work.requeue(tx, task.id, token="mine", not_before_ms=now_ms, reason="drain", now_ms=now_ms)

    await shop.services.database.write(leave)
    assert await shop.step(task) is TaskState.SUCCEEDED
    assert shop.emulator.calls()["received"] == 0


async def test_a_task_that_cost_all_it_may_ends_without_a_call(shop: Workshop) -> None:
    """Workers died with every call it was allowed."""
    task = await shop.submit()
    shop.emulator.script({"hang": True, "times": MAX_ATTEMPTS})
    for number in range(MAX_ATTEMPTS):
        running = asyncio.create_task(shop.step(task))
        await shop.until_received(number + 1)
        await shop.abandon(running)
    ended = await shop.finish(task)
    assert ended.error is not None
    assert (ended.state, ended.error.code) == (TaskState.FAILED, "model_unavailable")
    assert shop.emulator.calls()["received"] == MAX_ATTEMPTS


async def test_a_lost_lease_changes_nothing(shop: Workshop) -> None:
    shop.emulator.script({"delay_s": 0.2})
    submitted = await shop.submit()
    running = asyncio.create_task(shop.step(submitted))
    await shop.until_received(1)
    await shop.lose_lease()
    before = await shop.rows("SELECT * FROM tasks"), await shop.attempts()
    with pytest.raises(LeaseLost):
        await running
    assert (await shop.rows("SELECT * FROM tasks"), await shop.attempts()) == before
    assert (await shop.look(submitted)).clips == ()
    task = await shop.finish(submitted)
    assert len(task.clips) == 1
    assert shop.file(task.clips[0].object_name).exists()


async def test_a_lost_lease_makes_no_further_call(shop: Workshop) -> None:
    submitted = await shop.submit()
    lease = await shop.claim(submitted)
    with pytest.raises(LeaseLost):
        await shop.pipeline.run(replace(lease, token="somebody else's"))
    assert shop.emulator.calls()["received"] == 0
    assert await shop.attempts() == []


async def test_a_lease_lost_between_seeds_makes_no_further_call(shop: Workshop) -> None:
    shop.emulator.script({"delay_s": 0.2})
    submitted = await shop.submit(sample_count=4, seed=1)
    running = asyncio.create_task(shop.step(submitted))
    await shop.until_received(1)
    await shop.lose_lease()
    with pytest.raises(LeaseLost):
        await running
    assert shop.emulator.calls()["received"] == 1


async def test_a_task_that_waited_too_long_fails_without_a_call(shop: Workshop) -> None:
    submitted = await shop.submit()
    shop.clock.advance(900)
    task = await shop.finish(submitted)
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, "model_timeout")
    assert shop.emulator.calls()["received"] == 0


async def test_what_was_made_in_time_is_delivered(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 1})
    submitted = await shop.submit(sample_count=2)
    await shop.step(submitted)
    shop.clock.advance(900)
    task = await shop.finish(submitted)
    assert (task.state, len(task.clips)) == (TaskState.SUCCEEDED, 1)
    assert task.error is not None
    assert task.error.code == "model_timeout"


async def test_time_that_runs_out_between_seeds_ends_the_task(shop: Workshop) -> None:
    shop.emulator.script({"delay_s": 0.2})
    submitted = await shop.submit(sample_count=3, seed=1)
    running = asyncio.create_task(shop.step(submitted))
    await shop.until_received(1)
    shop.clock.advance(901 + 2 * 60)  # for each further call a minute
    assert await running is TaskState.SUCCEEDED
    task = await shop.look(submitted)
    assert len(task.clips) == 1
    assert task.error is not None
    assert task.error.code == "model_timeout"
    assert shop.emulator.calls()["received"] == 1


async def test_a_model_taken_out_of_the_configuration_fails_its_tasks(shop: Workshop) -> None:
    submitted = await shop.submit()
    shop.pipeline._catalog = Catalog(())
    task = await shop.finish(submitted)
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, "model_misconfigured")
    assert "lyria-002" in task.error.detail


async def test_a_model_taken_out_leaves_what_it_made(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 1})
    submitted = await shop.submit(sample_count=2)
    await shop.step(submitted)
    shop.clock.advance(30)
    shop.pipeline._catalog = Catalog(())
    task = await shop.finish(submitted)
    assert (task.state, len(task.clips)) == (TaskState.SUCCEEDED, 1)


@pytest.mark.parametrize("failures", [1, 5])
async def test_a_database_that_is_away_for_a_while_costs_no_second_call(
    shop: Workshop, failures: int
) -> None:
    shop.pipeline._closing._database = FailingDatabase(shop.services.database, after=0, failures=failures)
    task = await shop.finish(await shop.submit())
    assert (task.state, task.attempt_count) == (TaskState.SUCCEEDED, 1)
    assert shop.paid() == 1


async def test_a_database_that_stays_away_ends_the_worker_not_the_task(shop: Workshop) -> None:
    shop.pipeline._closing._database = FailingDatabase(shop.services.database, after=0, failures=99)
    submitted = await shop.submit()
    with pytest.raises(Unavailable):
        await shop.step(submitted)
    assert (await shop.look(submitted)).state is TaskState.RUNNING
    shop.pipeline._closing._database = shop.services.database
    await shop.lose_lease()
    task = await shop.finish(submitted)
    assert (task.state, task.attempt_count, shop.paid()) == (TaskState.SUCCEEDED, 2, 2)
