"""Clips of several takes: each is paid for once, kept whatever happens, joined, and let go of."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import soundfile

from gateway.model import AudioFormat, Route, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.discards import Discards
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.fakes import FailingStorage
from tests.workshop import MAX_ATTEMPTS, Workshop, open_workshop

TAKE_S = 32.768
ON_BOTH_DATABASES = True


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    emulator.settings(lyria_seconds=TAKE_S)
    async with open_workshop(settings, emulator) as opened:
        yield opened


async def submit(shop: Workshop, duration_s: int = 60, **spec: Any) -> Task:
    return await shop.submit(route=Route.STANDARD, model="lyria-002", duration_s=duration_s, **spec)


async def takes_of(shop: Workshop) -> list[tuple[int, float]]:
    return [
        (int(number), float(seconds))
        for number, seconds in await shop.rows("SELECT number, duration_s FROM takes ORDER BY number")
    ]


async def remove_discarded(shop: Workshop) -> None:
    await Discards(
        shop.services.database, shop.services.storage, shop.services.metrics.retention
    ).remove_all()


def steps_of(task: Task, index: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(task.clips[index].steps or "[]")
    return found


async def test_a_clip_of_two_takes_is_joined_and_its_takes_are_let_go_of(shop: Workshop) -> None:
    submitted = await submit(shop)
    assert submitted.price_micros == 2 * 60_000
    task = await shop.finish(submitted)
    assert (task.state, task.error, task.attempt_count) == (TaskState.SUCCEEDED, None, 1)
    (clip,) = task.clips
    facts = soundfile.info(shop.file(clip.object_name))
    assert (facts.frames, facts.samplerate) == (60 * 48_000, 48_000)
    generate, join, *_ = steps_of(task)
    assert (generate["takes"], join["step"], join["takes"]) == (2, "join", 2)
    assert shop.calls("sample_count") == [2]
    await remove_discarded(shop)
    assert len(shop.stored()) == 1
    assert await takes_of(shop) == []


async def test_the_seeds_of_several_clips_go_on_round_by_round(shop: Workshop) -> None:
    task = await shop.finish(await submit(shop, sample_count=2, seed=10))
    assert [clip.seed for clip in task.clips] == [10, 11]
    assert [steps_of(task, index)[0]["seeds"] for index in range(2)] == [[10, 12], [11, 13]]
    assert sorted(shop.calls("seed")) == [10, 11, 12, 13]
    assert shop.paid() == 4


async def test_a_take_that_is_missing_is_asked_for_alone(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 1})
    submitted = await submit(shop)
    assert await shop.step(submitted) is TaskState.QUEUED
    assert [number for number, _ in await takes_of(shop)] == [0]
    task = await shop.finish_now(submitted)
    assert task.state is TaskState.SUCCEEDED
    assert shop.calls("sample_count") == [2, 1]
    assert shop.emulator.calls()["clips"] == 2


async def test_takes_that_are_too_short_together_are_made_up_for_by_one_more(shop: Workshop) -> None:
    """The model gives 25 s where it should give 32.8 s. Who asked pays what was said before."""
    shop.emulator.settings(lyria_seconds=25.0)
    task = await shop.finish(await submit(shop, duration_s=55))
    assert task.state is TaskState.SUCCEEDED
    assert task.clips[0].duration_s == 55.0
    assert task.price_micros == 2 * 60_000
    assert shop.emulator.calls()["clips"] == 3


async def test_a_clip_that_is_too_short_is_made_up_for_too(shop: Workshop) -> None:
    shop.emulator.settings(lyria_seconds=20.0)
    task = await shop.finish(await submit(shop, duration_s=30))
    assert (task.state, task.clips[0].duration_s) == (TaskState.SUCCEEDED, 30.0)
    assert (task.price_micros, shop.emulator.calls()["clips"]) == (60_000, 2)


async def test_a_model_that_goes_on_giving_too_little_fails_the_task(shop: Workshop) -> None:
    shop.emulator.settings(lyria_seconds=1.0)
    task = await shop.finish(await submit(shop, duration_s=30))
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert shop.paid() == MAX_ATTEMPTS
    await remove_discarded(shop)
    assert shop.stored() == []


async def test_takes_are_kept_when_the_worker_is_gone(shop: Workshop) -> None:
    shop.emulator.script({}, {"hang": True})
    submitted = await submit(shop, seed=1)
    running = asyncio.create_task(shop.step(submitted))
    await shop.until_received(2)
    await shop.abandon(running)
    assert [number for number, _ in await takes_of(shop)] == [0]
    task = await shop.finish(submitted)
    assert task.state is TaskState.SUCCEEDED
    # The first was not asked for again; the second may have been paid twice.
    assert shop.calls("seed") == [1, 2, 2]


async def test_a_fixed_seed_that_is_blocked_costs_its_clip_and_no_other(shop: Workshop) -> None:
    shop.emulator.script({}, {}, {"preset": "recitation"})
    task = await shop.finish(await submit(shop, sample_count=2, seed=10))
    assert task.state is TaskState.SUCCEEDED
    assert [clip.seed for clip in task.clips] == [11]
    assert task.error is not None
    assert task.error.code == "recitation_blocked"
    await remove_discarded(shop)
    assert len(shop.stored()) == 1


async def test_an_unseeded_take_that_is_blocked_is_made_again(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 1}, {"preset": "recitation"})
    task = await shop.finish(await submit(shop))
    assert (task.state, task.error) == (TaskState.SUCCEEDED, None)
    assert shop.calls("sample_count") == [2, 1, 1]


async def test_storage_that_cannot_be_read_puts_the_task_off_and_costs_nothing(shop: Workshop) -> None:
    shop.use(storage=FailingStorage(shop.services.storage, 2, at="read"))
    submitted = await submit(shop)
    assert await shop.step(submitted) is TaskState.QUEUED
    task = await shop.finish_now(submitted)
    assert (task.state, task.error) == (TaskState.SUCCEEDED, None)
    assert shop.paid() == 1
    assert shop.emulator.calls()["clips"] == 2


async def test_what_is_canceled_between_takes_leaves_nothing(shop: Workshop) -> None:
    shop.emulator.script({}, {"hang": True})
    submitted = await submit(shop, seed=1)
    running = asyncio.create_task(shop.step(submitted))
    await shop.until_received(2)
    await shop.services.canceler.cancel(shop.principal, submitted.id)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await remove_discarded(shop)
    await eventually(lambda: shop.stored() == [])
    assert await takes_of(shop) == []


async def test_each_format_can_be_joined(shop: Workshop) -> None:
    for audio_format in AudioFormat:
        task = await shop.finish(await submit(shop, duration_s=35, audio_format=audio_format))
        assert task.state is TaskState.SUCCEEDED
        assert task.clips[0].duration_s == pytest.approx(35.0, abs=0.001)
