"""The provider's cost in each attempt's row, held against what the emulator says it made."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.db import work
from gateway.model import KeyMode, Task
from gateway.settings import Settings
from gateway.tasks.pool import Room
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.fakes import FailingStorage
from tests.workshop import Workshop, open_workshop

COST = 43_000


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    """Google takes less for a clip than the tenant pays; whatever happens, the books are right in the end."""
    costing = settings.model_copy(update={"lyria2_cost_usd": "0.043"})
    async with open_workshop(costing, emulator) as opened:
        yield opened
        assert await opened.services.books.reconcile() == ()


async def costs(shop: Workshop, task: Task) -> list[tuple[Any, ...]]:
    """State and cost of each call, the cost in clips."""
    found = await shop.rows(
        f"SELECT state, cost_micros FROM attempts WHERE task_id = '{task.id}' ORDER BY number"
    )
    assert all(micros % COST == 0 for _, micros in found)
    return [(state, micros // COST) for state, micros in found]


async def test_a_call_costs_the_clips_it_delivered(shop: Workshop) -> None:
    task = await shop.finish(await shop.submit(sample_count=3))
    assert await costs(shop, task) == [("succeeded", 3)]
    assert (task.price_micros, shop.emulator.calls()["clips"]) == (3 * 60_000, 3)


async def test_clips_that_are_missing_cost_nothing_until_they_come(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 1})
    task = await shop.finish(await shop.submit(sample_count=4))
    assert await costs(shop, task) == [("failed", 1), ("succeeded", 3)]
    assert shop.emulator.calls()["clips"] == 4


@pytest.mark.parametrize("preset", ["safety", "recitation", "language", "quota", "not_found", "internal"])
async def test_what_the_provider_refused_costs_nothing(shop: Workshop, preset: str) -> None:
    shop.emulator.script({"preset": preset})
    task = await shop.submit()
    await shop.step(task)
    assert await costs(shop, task) == [("failed", 0)]
    assert shop.emulator.calls()["clips"] == 0


@pytest.mark.parametrize("fault", ["empty_predictions", "no_predictions", "unknown_field"])
async def test_an_answer_without_audio_costs_nothing(shop: Workshop, fault: str) -> None:
    shop.emulator.script({fault: True})
    task = await shop.submit()
    await shop.step(task)
    assert await costs(shop, task) == [("failed", 0)]


@pytest.mark.parametrize("fault", ["not_audio", "short_wav"])
async def test_audio_that_is_no_use_was_made_all_the_same(shop: Workshop, fault: str) -> None:
    shop.emulator.script({fault: True})
    task = await shop.submit()
    await shop.step(task)
    assert await costs(shop, task) == [("failed", 1)]


async def test_an_answer_that_was_lost_may_cost_all_that_was_asked(shop: Workshop) -> None:
    shop.emulator.script({"truncate_json": True})
    task = await shop.submit(sample_count=2)
    await shop.step(task)
    assert await costs(shop, task) == [("unknown", 2)]


async def test_audio_that_could_not_be_stored_was_made(shop: Workshop) -> None:
    shop.use(storage=FailingStorage(shop.services.storage, failures=999))
    task = await shop.finish(await shop.submit(sample_count=2))
    assert await costs(shop, task) == [("unknown", 2)]


async def test_a_call_lost_with_its_worker_may_cost_all_that_was_asked(shop: Workshop) -> None:
    """Whoever finds the lease run out need not know the model, let alone what it took then."""
    shop.emulator.script({"hang": True})
    task = await shop.submit(sample_count=3)
    running = asyncio.create_task(shop.step(task))
    await shop.until_received(1)
    await shop.abandon(running)
    assert await costs(shop, task) == [("unknown", 3)]


async def test_a_call_that_was_given_back_may_cost_all_that_was_asked(shop: Workshop) -> None:
    task = await shop.submit(sample_count=2)
    lease = await shop.claim(task)
    now_ms = shop.clock.now_ms()
    room = Room(shop.services.runner._claimer._pool._catalog.deployments[-1])
    await shop.services.database.write(lambda tx: shop.pipeline.open(tx, lease, room))
    await shop.services.database.write(
        lambda tx: work.requeue(
            tx, task.id, token="mine", not_before_ms=now_ms, reason="drain", now_ms=now_ms
        )
    )
    assert await costs(shop, task) == [("unknown", 2)]


async def test_a_call_abandoned_halfway_may_cost_all_that_was_asked(shop: Workshop) -> None:
    """Its first clip is kept, so that it is not paid for again."""
    shop.emulator.script({"chunk_bytes": 40_000, "chunk_delay_s": 0.05})
    task = await shop.submit(sample_count=4)
    running = asyncio.create_task(shop.step(task))
    # The last of them may have been about to be published.
    await eventually(lambda: len(shop.stored()) > 1)
    await shop.abandon(running)
    assert await costs(shop, task) == [("unknown", 4)]
    assert (await shop.look(task)).clips != ()


async def test_what_a_test_key_asked_for_costs_nothing(shop: Workshop) -> None:
    shop.principal = replace(shop.principal, mode=KeyMode.TEST)
    task = await shop.finish(await shop.submit())
    assert await costs(shop, task) == [("succeeded", 0)]


async def test_without_a_cost_of_its_own_a_clip_costs_its_price(
    settings: Settings, emulator: RunningEmulator
) -> None:
    async with open_workshop(settings, emulator) as shop:
        await shop.finish(await shop.submit())
        assert await shop.rows("SELECT cost_micros FROM attempts") == [(60_000,)]
