"""What was stored and never recorded is found and removed, and nothing else is ever touched."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.db import work
from gateway.db.engine import Database
from gateway.db.work import AttemptEnd
from gateway.errors import StorageError, Unavailable
from gateway.model import Task, TaskState
from gateway.tasks.naming import object_name
from gateway.tasks.orphans import ORPHAN_AGE_MS, WALK_EVERY_S
from tests.ended import count, keep_ended
from tests.factories import NOW_MS, a_clip, keep_key, keep_task
from tests.gcs import Gcs, start_gcs
from tests.keeper import Keeper
from tests.stores import open_gcs_store

OLD_MS = NOW_MS - ORPHAN_AGE_MS - 1


@pytest.fixture
async def keeper(database: Database, tmp_path: Path) -> AsyncIterator[Keeper]:
    keeper = Keeper(database, tmp_path / "audio")
    await keeper.local.open()
    yield keeper
    await keeper.local.close()


@pytest.fixture(scope="module")
def gcs() -> Iterator[Gcs]:
    with start_gcs() as started:
        yield started


async def put(keeper: Keeper, name: str, *, made_at_ms: int = OLD_MS) -> str:
    await keeper.put(name)
    os.utime(keeper.directory / f"{name}.object", (0, made_at_ms / 1000))
    return name


async def store(keeper: Keeper, task: Task) -> None:
    for clip in task.clips:
        await put(keeper, clip.object_name)


def orphan_of(task: Task, index: int = 0) -> str:
    """What a call stored whose worker could not say so."""
    return object_name(task, index, "lost", "wav")


async def look(keeper: Keeper) -> int:
    """Look for orphans and remove them; how many objects are left."""
    await keeper.search().look()
    await keeper.more_discards().remove_all()
    return keeper.stored()


async def test_an_orphan_is_removed_and_what_is_recorded_stays(keeper: Keeper) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=OLD_MS, clips=3)
    await store(keeper, task)
    await put(keeper, orphan_of(task))
    assert await look(keeper) == 3
    assert keeper.counted("gateway_orphans_found_total") == 1
    assert [(await keeper.local.signed_url(clip.object_name)).url for clip in task.clips]


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELED])
async def test_an_orphan_of_a_task_that_has_nothing_is_removed(keeper: Keeper, state: TaskState) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=OLD_MS, clips=0, state=state)
    await put(keeper, orphan_of(task))
    assert await look(keeper) == 0


async def test_what_is_young_stays_until_it_is_old(keeper: Keeper) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=NOW_MS)
    await put(keeper, orphan_of(task), made_at_ms=NOW_MS)
    keeper.clock.advance(ORPHAN_AGE_MS / 1000)
    assert await look(keeper) == 1
    keeper.clock.advance(0.001)
    assert await look(keeper) == 0


async def test_what_a_task_that_has_not_ended_stored_stays_however_old(keeper: Keeper) -> None:
    """It is about to be recorded, perhaps; and a clock that was set ahead makes everything old."""
    task = await keep_task(keeper.database)
    name = await put(keeper, orphan_of(task))
    assert await look(keeper) == 1
    await keeper.database.write(
        lambda tx: work.claim(tx, task.id, token="t", now_ms=NOW_MS, expires_at_ms=NOW_MS + 60_000)
    )
    assert await look(keeper) == 1
    clip = replace(a_clip(task), object_name=name)
    end = AttemptEnd("a1", "succeeded", (clip,))

    def finish(tx: object) -> None:
        work.begin_attempt(
            tx, task.id, token="t", attempt_id="a1", deployment="d", clips_asked=1, now_ms=NOW_MS
        )
        work.end_attempt(tx, task.id, end, now_ms=NOW_MS)
        work.finish(tx, task.id, token="t", state=TaskState.SUCCEEDED, error=None, now_ms=NOW_MS)

    await keeper.database.write(finish)
    assert await look(keeper) == 1


@pytest.mark.parametrize(
    "name",
    [
        "readme.txt",
        "ten_x/task_x/cover.png",
        "ten_x/task_x/0-lost.wav/notes",
        "backup/{tenant}/{task}/0-lost.wav",
        "{tenant}/{task}/0-LOST.wav",
        # Of a task that is not in this database: another gateway's, perhaps.
        "{tenant}/task_00009999/0-lost.wav",
        # Of another tenant's task.
        "ten_9999/{task}/0-lost.wav",
    ],
)
async def test_what_is_not_ours_stays(keeper: Keeper, name: str) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=OLD_MS, clips=0)
    await put(keeper, name.format(tenant=task.tenant_id, task=task.id))
    assert await look(keeper) == 1


async def test_what_a_deleted_task_left_behind_is_removed(keeper: Keeper) -> None:
    """Such as audio that came back with a backup of the storage."""
    task = await keep_ended(keeper.database, finished_at_ms=OLD_MS, clips=2)
    await keeper.delete(task)
    await store(keeper, task)
    await put(keeper, orphan_of(task))
    assert await look(keeper) == 0


async def test_many_pages_are_walked_through(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.tasks.orphans._PAGE", 3)
    key = await keep_key(keeper.database)
    for _ in range(5):
        task = await keep_ended(keeper.database, key, finished_at_ms=OLD_MS, clips=2)
        await store(keeper, task)
        await put(keeper, orphan_of(task, 3))
    assert await look(keeper) == 10
    assert keeper.counted("gateway_orphans_found_total") == 5


async def test_several_who_look_at_once_find_each_once(keeper: Keeper) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=OLD_MS)
    await store(keeper, task)
    for index in range(20):
        await put(keeper, orphan_of(task, index))
    await asyncio.gather(*(keeper.search().look() for _ in range(3)))
    assert keeper.counted("gateway_orphans_found_total") == 20
    assert await count(keeper.database, "discarded_objects") == 20


async def test_a_walk_is_due_once_a_day(keeper: Keeper) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=OLD_MS, clips=0)
    search = keeper.search()
    await search.look()
    await put(keeper, orphan_of(task))
    keeper.clock.advance(WALK_EVERY_S - 1)
    await search.look()
    assert await count(keeper.database, "discarded_objects") == 0
    keeper.clock.advance(1)
    await search.look()
    assert await count(keeper.database, "discarded_objects") == 1
    assert keeper.storage.tidied == 2


async def test_a_walk_that_the_database_broke_off_goes_on(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.tasks.orphans._PAGE", 1)
    first = await keep_ended(keeper.database, finished_at_ms=OLD_MS, clips=0)
    last = await keep_ended(keeper.database, finished_at_ms=OLD_MS, clips=0)
    for task in (first, last):
        await put(keeper, orphan_of(task))
    search = keeper.search()
    read, reads = keeper.database.read, iter([True, False])

    async def seldom(function: object) -> object:
        if next(reads, True):
            return await read(function)
        raise Unavailable("not now")

    monkeypatch.setattr(keeper.database, "read", seldom)
    with pytest.raises(Unavailable):
        await search.look()
    await keeper.local.delete(orphan_of(first))
    await search.look()
    assert keeper.counted("gateway_orphans_found_total") == 2
    assert keeper.storage.tidied == 1


async def test_a_walk_that_storage_broke_off_begins_anew(keeper: Keeper) -> None:
    """The cursor may be what storage does not take any more."""
    task = await keep_ended(keeper.database, finished_at_ms=OLD_MS, clips=0)
    await put(keeper, orphan_of(task))
    keeper.storage.listings = 1
    search = keeper.search()
    with pytest.raises(StorageError):
        await search.look()
    await search.look()
    assert keeper.counted("gateway_orphans_found_total") == 1


async def test_a_bucket_is_searched_alike(keeper: Keeper, gcs: Gcs) -> None:
    async with open_gcs_store(gcs) as bucket:
        task = await keep_ended(keeper.database, finished_at_ms=OLD_MS)
        orphan = orphan_of(task)
        for name in (task.clips[0].object_name, orphan, "readme.txt"):
            await bucket.put(name, b"x")
        gcs.put(f"elsewhere/{orphan}", b"somebody else's, beside our prefix")
        before = set(bucket.names())
        keeper.clock.advance(-10 * 365 * 86_400)
        await keeper.search(bucket.storage).look()
        assert await count(keeper.database, "discarded_objects") == 0
        keeper.clock.advance(20 * 365 * 86_400)
        await keeper.search(bucket.storage).look()
        await keeper.more_discards(bucket.storage).remove_all()
        assert before - set(bucket.names()) == {f"clips/ü +/{orphan}"}
