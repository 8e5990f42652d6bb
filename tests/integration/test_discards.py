"""What is discarded goes from storage, sooner or later, whoever is killed or out of order meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.db import discards, wiping
from gateway.db.engine import Database
from gateway.errors import StorageError
from gateway.model import Task
from gateway.tasks.discards import AT_ONCE
from tests.ended import count, keep_ended
from tests.factories import NOW_MS
from tests.fakes import FailingDatabase, FailingStorage
from tests.gcs import Fault, Gcs, start_gcs
from tests.keeper import Keeper
from tests.stores import open_gcs_store


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


async def keep(keeper: Keeper, clips: int = 2) -> Task:
    """An ended task and its audio."""
    return await keeper.store(await keep_ended(keeper.database, finished_at_ms=NOW_MS, clips=clips))


async def left(keeper: Keeper) -> int:
    return await count(keeper.database, "discarded_objects")


class Hanging(FailingStorage):
    """A storage that never gets round to deleting."""

    def __init__(self, storage: FailingStorage) -> None:
        super().__init__(storage)
        self.asked = asyncio.Event()

    async def delete(self, name: str) -> None:
        self.asked.set()
        await asyncio.Event().wait()


async def discard(keeper: Keeper, names: list[str]) -> None:
    await keeper.database.write(partial(discards.discard, names=names, now_ms=NOW_MS))


async def test_what_is_deleted_is_gone_from_storage_at_once(keeper: Keeper) -> None:
    task = await keep(keeper, clips=4)
    await keeper.delete(task)
    assert (keeper.stored(), await left(keeper)) == (0, 0)
    assert keeper.counted("gateway_objects_deleted_total", outcome="deleted") == 4


async def test_killed_before_storage_was_asked_the_next_pass_does_it(keeper: Keeper) -> None:
    task = await keep(keeper)
    await keeper.database.write(lambda tx: wiping.wipe(tx, [task.id], now_ms=NOW_MS))
    assert (keeper.stored(), await left(keeper)) == (2, 2)
    await keeper.more_discards().remove_all()
    assert (keeper.stored(), await left(keeper)) == (0, 0)


async def test_killed_before_it_was_noted_the_next_pass_notes_it(keeper: Keeper) -> None:
    task = await keep(keeper)
    await keeper.database.write(lambda tx: wiping.wipe(tx, [task.id], now_ms=NOW_MS))
    await keeper.local.delete(task.clips[0].object_name)
    await keeper.more_discards().remove_all()
    assert (keeper.stored(), await left(keeper)) == (0, 0)


async def test_a_caller_that_hangs_up_leaves_nothing_undone(keeper: Keeper) -> None:
    task = await keep(keeper)
    keeper.storage = hanging = Hanging(keeper.storage)
    keeper.retention = keeper.another()
    deleting = asyncio.create_task(keeper.delete(task))
    await hanging.asked.wait()
    deleting.cancel()
    await asyncio.gather(deleting, return_exceptions=True)
    await keeper.more_discards(keeper.local).remove_all()
    assert (keeper.stored(), await left(keeper), await keeper.whole()) == (0, 0, 0)


async def test_a_storage_that_hangs_does_not_hold_up_the_answer(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await keep(keeper)
    monkeypatch.setattr("gateway.tasks.retention._PATIENCE_S", 0.01)
    keeper.storage = Hanging(keeper.storage)
    await keeper.another().delete(keeper.principal(task), task.id)
    assert (await keeper.whole(), await left(keeper)) == (0, 2)


async def test_a_storage_that_is_down_keeps_nobody_from_deleting(keeper: Keeper) -> None:
    task = await keep(keeper)
    keeper.storage.held = lambda _: True
    await keeper.delete(task)
    assert (await keeper.whole(), keeper.stored(), await left(keeper)) == (0, 2, 2)
    with pytest.raises(StorageError, match="None of 2"):
        await keeper.discards.remove_all()
    keeper.storage.held = lambda _: False
    await keeper.discards.remove_all()  # behind what it gave up on
    await keeper.discards.remove_all()
    assert (keeper.stored(), await left(keeper)) == (0, 0)
    assert keeper.counted("gateway_objects_deleted_total", outcome="failed") == 4


async def test_a_database_that_is_down_keeps_word_of_what_is_to_do(keeper: Keeper) -> None:
    task = await keep(keeper)
    failing = FailingDatabase(keeper.database, after=1, failures=1)
    keeper.database, whole = failing, keeper.database
    await keeper.another().delete(keeper.principal(task), task.id)
    keeper.database = whole
    assert (keeper.stored(), await left(keeper)) == (0, 2)
    await keeper.more_discards().remove_all()
    assert await left(keeper) == 0


async def test_an_object_that_storage_holds_on_to_blocks_no_other(keeper: Keeper) -> None:
    task = await keep(keeper, clips=4)
    held = task.clips[1].object_name
    keeper.storage.held = lambda name: name == held
    await keeper.delete(task)
    assert (keeper.stored(), await left(keeper)) == (1, 1)


async def test_a_step_full_of_held_objects_blocks_no_other(keeper: Keeper) -> None:
    """They sort first, and there are more of them than one step takes."""
    keeper.storage.held = lambda name: name.startswith("a")
    await discard(keeper, [f"a{number}" for number in range(AT_ONCE + 20)] + ["b1", "b2"])
    with pytest.raises(StorageError):
        await keeper.discards.remove_all()
    await keeper.discards.remove_all()
    assert await left(keeper) == AT_ONCE + 20


async def test_many_are_deleted_by_several_at_once(keeper: Keeper) -> None:
    names = [f"ten_1/task_1/0-{number}.wav" for number in range(230)]
    for name in names:
        await keeper.put(name)
    await discard(keeper, names)
    await asyncio.gather(*(keeper.more_discards().remove_all() for _ in range(3)))
    assert (keeper.stored(), await left(keeper)) == (0, 0)


async def test_what_is_discarded_twice_is_discarded_once(keeper: Keeper) -> None:
    for new in (2, 0):
        assert new == await keeper.database.write(partial(discards.discard, names=["a", "b"], now_ms=NOW_MS))


async def test_it_goes_from_a_bucket_too_once_that_answers(keeper: Keeper, gcs: Gcs) -> None:
    async with open_gcs_store(gcs) as store:
        await store.put("ten_1/task_1/0-a.wav", b"x")
        await store.put("ten_1/task_1/1-a.wav", b"x")
        await discard(keeper, ["ten_1/task_1/0-a.wav", "ten_1/task_1/1-a.wav"])
        gcs.script("delete", 1, Fault.DENIED)
        bucket = keeper.more_discards(store.storage)
        await bucket.remove_all()
        assert (len(store.names()), await left(keeper)) == (1, 1)
        await bucket.remove_all()
        assert (store.names(), await left(keeper)) == ([], 0)
