"""Storage that fails after a paid call: the clip is stored from what was put aside, and paid for once."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.bootstrap.services import Services, open_services
from gateway.model import Clip, MusicSpec, Route, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.scratch import LEAST_FREE_BYTES, Scratch
from gateway.tasks.submission import Submission
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.factories import a_caller
from tests.fakes import FailingStorage
from tests.gcs import BUCKET, Fault, Gcs, start_gcs
from tests.workshop import Workshop, open_workshop

Look = Callable[[], Awaitable[Task]]

FOR_EVER = 10_000
LONG_S = 12.0  # several blocks of a reader, and several chunks of Cloud Storage


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    async with open_workshop(settings, emulator) as opened:
        yield opened


def break_storage(shop: Workshop, failures: int, **how: Any) -> FailingStorage:
    storage = FailingStorage(shop.services.storage, failures, **how)
    shop.use(storage=storage)
    return storage


def assert_kept(shop: Workshop, clip: Clip) -> None:
    content = shop.file(clip.object_name).read_bytes()
    assert (clip.size_bytes, clip.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def assert_nothing_else(shop: Workshop, task: Task) -> None:
    """Nothing but the task's clips is anywhere."""
    assert shop.stored() == sorted(f"{clip.object_name.rpartition('/')[2]}.object" for clip in task.clips)
    assert shop.unfinished() == []
    assert shop.pipeline._tools.scratch.used_bytes == 0


@pytest.mark.parametrize(
    ("at", "after"), [("create", 0), ("write", 0), ("write", 3), ("commit", 0), ("answer", 0)]
)
async def test_a_clip_that_storage_did_not_take_is_paid_for_once(shop: Workshop, at: str, after: int) -> None:
    shop.emulator.settings(lyria_seconds=LONG_S)
    undisturbed = await shop.finish(await shop.submit(seed=5))
    break_storage(shop, 3, at=at, after=after)
    task = await shop.finish(await shop.submit(seed=5))
    assert (task.state, task.error, task.attempt_count) == (TaskState.SUCCEEDED, None, 1)
    assert shop.paid() == 1 + 1
    assert (await shop.attempts())[1:] == [("succeeded", None, None, 1)]
    assert task.clips[0].sha256 == undisturbed.clips[0].sha256
    assert_kept(shop, task.clips[0])
    assert len(shop.stored()) == 2
    assert shop.unfinished() == []


async def test_an_answer_is_read_on_when_one_of_its_clips_fails(shop: Workshop) -> None:
    break_storage(shop, 5, only="/1-")
    task = await shop.finish(await shop.submit(sample_count=4))
    assert [clip.index for clip in task.clips] == [0, 1, 2, 3]
    for clip in task.clips:
        assert_kept(shop, clip)
    assert_nothing_else(shop, task)
    assert shop.calls("sample_count") == [4]
    assert len([s for s in shop.clock.slept_s if s]) == 5


async def test_all_clips_of_an_answer_may_fail(shop: Workshop) -> None:
    break_storage(shop, 11, at="write")
    task = await shop.finish(await shop.submit(sample_count=4))
    assert [clip.index for clip in task.clips] == [0, 1, 2, 3]
    for clip in task.clips:
        assert_kept(shop, clip)
    assert_nothing_else(shop, task)
    assert (shop.paid(), await shop.attempts()) == (1, [("succeeded", None, None, 4)])


async def test_no_further_seed_is_paid_for_while_a_clip_waits(shop: Workshop) -> None:
    received: list[int] = []
    storage = break_storage(shop, 3)
    create = storage.create

    async def create_and_look(name: str, **about: Any) -> Any:
        received.append(shop.emulator.calls()["received"])
        return await create(name, **about)

    storage.create = create_and_look
    task = await shop.finish(await shop.submit(sample_count=2, seed=1))
    assert received == [1, 1, 1, 1, 2]
    assert shop.calls("seed") == [1, 2]
    assert_nothing_else(shop, task)


async def test_storage_that_is_down_until_the_deadline_fails_the_task(shop: Workshop) -> None:
    break_storage(shop, FOR_EVER)
    began_ms = shop.clock.now_ms()
    task = await shop.finish(await shop.submit(sample_count=2))
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, "storage_failed")
    assert shop.clock.now_ms() - began_ms == 900_000
    assert shop.paid() == 1
    assert await shop.attempts() == [("unknown", "unknown", "storage_failed", 0)]
    assert await shop.rows("SELECT kind FROM ledger ORDER BY kind") == [("hold",), ("release",)]
    assert_nothing_else(shop, task)


async def test_what_storage_took_is_delivered_when_it_never_takes_the_rest(shop: Workshop) -> None:
    break_storage(shop, FOR_EVER, only="/1-")
    task = await shop.finish(await shop.submit(sample_count=2))
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.SUCCEEDED, "storage_failed")
    assert [clip.index for clip in task.clips] == [0]
    assert shop.paid() == 1
    assert await shop.attempts() == [("unknown", "unknown", "storage_failed", 1)]
    assert await shop.rows("SELECT kind FROM ledger ORDER BY kind") == [("hold",), ("settle",)]
    assert_nothing_else(shop, task)


async def test_a_call_that_was_cut_loses_no_clip_that_came(shop: Workshop) -> None:
    """Two of four clips are through before the cut, and storage has neither."""
    shop.emulator.script({"cut_at_byte": 600_000})
    break_storage(shop, 4)
    task = await shop.finish(await shop.submit(sample_count=4))
    assert [clip.index for clip in task.clips] == [0, 1, 2, 3]
    assert shop.calls("sample_count") == [4, 2]
    assert_nothing_else(shop, task)


@pytest.mark.parametrize("full", ["no directory", "as much as may be"])
async def test_nothing_is_asked_for_that_there_is_no_room_for(
    shop: Workshop, tmp_path: Path, full: str
) -> None:
    """It would be paid for, and lost."""
    (tmp_path / "file").write_text("no directory can be here")
    room = shop.pipeline._tools.scratch
    if full == "no directory":
        shop.use(scratch=Scratch(tmp_path / "file" / "spool", 1 << 30))
    else:
        shop.use(scratch=Scratch(tmp_path / "spool", LEAST_FREE_BYTES - 1))
    task = await shop.submit(sample_count=2)
    assert await shop.step(task) is TaskState.QUEUED
    assert (shop.emulator.calls()["received"], await shop.attempts()) == (0, [])
    shop.use(scratch=room)
    shop.clock.advance(max(0.0, await shop.pause_s(task)))
    assert await shop.step(task) is TaskState.SUCCEEDED


async def test_a_disk_that_fills_up_meanwhile_loses_what_does_not_fit(shop: Workshop, tmp_path: Path) -> None:
    shop.emulator.settings(lyria_seconds=LONG_S)
    small = Scratch(tmp_path / "spool", 1 << 30)
    shop.use(scratch=small)
    task = await shop.submit(sample_count=2)
    # Room for the first clip, and not for the second.
    small._limit_bytes, small.trouble = 3_000_000, lambda: None
    assert await shop.step(task) is TaskState.QUEUED
    assert await shop.attempts() == [("unknown", "unknown", "storage_failed", 1)]
    small._limit_bytes = 1 << 30
    task = await shop.finish_now(task)
    assert [clip.index for clip in task.clips] == [0, 1]
    assert shop.calls("sample_count") == [2, 1]
    assert_nothing_else(shop, task)


async def test_retries_are_counted(shop: Workshop) -> None:
    break_storage(shop, 3)
    await shop.finish(await shop.submit())
    text = shop.services.metrics.render().decode()
    assert 'gateway_uploads_retried_total{outcome="failed"} 2.0' in text
    assert 'gateway_uploads_retried_total{outcome="stored"} 1.0' in text


# A worker that goes away meanwhile


@asynccontextmanager
async def a_worker(settings: Settings) -> AsyncIterator[tuple[Services, Look]]:
    """At work on a task of two clips, of which storage takes the first and not the second."""
    hasty = settings.model_copy(update={"grace_s": 0.0, "lease_s": 1.0})
    async with open_services(hasty) as services:
        storage = FailingStorage(services.storage, FOR_EVER, only="/1-")
        pipeline = services.runner._pipeline
        pipeline._tools = replace(pipeline._tools, storage=storage)
        services.runner.start()
        principal, _ = await a_caller(services.database)
        spec = MusicSpec("slow piano", sample_count=2)
        submission = Submission(Route.LYRIA, spec, None, {}, "r1", None)
        task = (await services.tasks.submit(principal, submission)).task
        await eventually(lambda: len(storage.created) >= 3)
        yield services, partial(services.tasks.get, principal, task.id)
        await services.drain()


def files_in(settings: Settings) -> tuple[list[str], list[str]]:
    """The finished objects, and what lies about."""
    audio = settings.data_dir / "audio"
    objects = [path.name[:2] for path in audio.rglob("*.object")]
    return objects, [path.name for path in (audio / ".incoming").iterdir()]


async def test_a_worker_that_drains_keeps_what_is_stored_and_leaves_nothing_else(
    settings: Settings, emulator: RunningEmulator
) -> None:
    async with a_worker(settings) as (services, look):
        await services.drain()
        assert files_in(settings) == (["0-"], [])
        assert services.runner._pipeline._tools.scratch.used_bytes == 0
        task = await look()
        assert (task.state, [clip.index for clip in task.clips]) == (TaskState.QUEUED, [0])
    assert emulator.calls()["paid"] == 1


async def test_a_worker_that_lost_its_lease_leaves_nothing_unfinished(
    settings: Settings, emulator: RunningEmulator
) -> None:
    async with a_worker(settings) as (services, _):
        await services.database.write(
            lambda tx: tx.exec_driver_sql("UPDATE tasks SET lease_token = 'somebody else''s'")
        )
        await eventually(lambda: not services.runner._active)
        assert files_in(settings)[1] == []
        assert services.runner._pipeline._tools.scratch.used_bytes == 0
    assert emulator.calls()["paid"] == 1


# Cloud Storage


@pytest.fixture(scope="module")
def gcs() -> Iterator[Gcs]:
    with start_gcs() as started:
        started.tokens = frozenset({""})
        yield started


@pytest.fixture
async def cloud_shop(settings: Settings, emulator: RunningEmulator, gcs: Gcs) -> AsyncIterator[Workshop]:
    gcs.reset()
    in_cloud = settings.model_copy(
        update={"storage_url": f"gs://{BUCKET}/music", "storage_emulator_host": gcs.url}
    )
    async with open_workshop(in_cloud, emulator) as opened:
        yield opened


def assert_in_bucket(gcs: Gcs, clip: Clip) -> None:
    """It is the only object."""
    key = f"music/{clip.object_name}"
    assert gcs.names() == [key]
    content = gcs.backend("GET", f"/storage/v1/b/{BUCKET}/o/{quote(key, safe='')}?alt=media").body
    assert (clip.size_bytes, clip.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("seconds", "operation", "nth", "fault"),
    [
        (1.0, "multipart", 1, Fault.DENIED),
        (1.0, "multipart", 1, Fault.DAMAGE),
        (LONG_S, "start", 1, Fault.DENIED),
        (LONG_S, "chunk", 1, Fault.DENIED),
        (LONG_S, "chunk", 3, Fault.GONE),
        (LONG_S, "chunk", 5, Fault.DENIED),
    ],
)
async def test_a_clip_that_the_bucket_did_not_take_is_paid_for_once(
    cloud_shop: Workshop, gcs: Gcs, seconds: float, operation: str, nth: int, fault: Fault
) -> None:
    cloud_shop.emulator.settings(lyria_seconds=seconds)
    gcs.script(operation, nth, fault)
    task = await cloud_shop.finish(await cloud_shop.submit())
    assert (task.state, task.attempt_count, cloud_shop.paid()) == (TaskState.SUCCEEDED, 1, 1)
    assert task.clips[0].object_name.endswith("-2.wav")
    assert_in_bucket(gcs, task.clips[0])


@pytest.mark.parametrize("withdrawn", [True, False])
async def test_an_object_whose_answer_was_lost_does_not_stay(
    cloud_shop: Workshop, gcs: Gcs, withdrawn: bool
) -> None:
    """The object is there, nobody hears of it, and all that is asked then goes unanswered."""
    cloud_shop.emulator.settings(lyria_seconds=LONG_S)
    gcs.script("chunk", 5, Fault.DONE_THEN_CUT)
    for nth in range(1, 7):
        gcs.script("query", nth, Fault.UNAVAILABLE)
    if not withdrawn:
        for nth in range(1, 4):
            gcs.script("get", nth, Fault.UNAVAILABLE)
    task = await cloud_shop.finish(await cloud_shop.submit())
    assert (task.state, task.attempt_count, cloud_shop.paid()) == (TaskState.SUCCEEDED, 1, 1)
    assert task.clips[0].object_name.endswith("-2.wav")
    assert_in_bucket(gcs, task.clips[0])
