"""What is deleted is gone for everybody but the ledger, on both kinds of database."""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.accounts.books import Books
from gateway.accounts.calendar import periods_at
from gateway.accounts.usage import Query, UsageReports
from gateway.db import deliveries, tasks, tenants, wiping, work
from gateway.db.archive import TaskFilter
from gateway.db.deliveries import Claim
from gateway.db.engine import Database, Tx, has_one_writer
from gateway.db.wiping import Wiped
from gateway.errors import Conflict, NotFound
from gateway.messages import DeliveryState, TryOutcome
from gateway.model import ApiKey, Dimension, MusicSpec, Principal, Task, TaskState
from gateway.tasks import charging
from gateway.tasks.archive import TaskArchive
from gateway.tasks.ids import IdMaker
from gateway.tasks.retention import AT_ONCE
from gateway.tasks.snapshots import Snapshots
from gateway.webhooks.outbox import Announcer
from tests.databases import Pause, SqliteStore, Store
from tests.ended import ERROR, SECRETS, TRACE, count, end_task, keep_ended
from tests.factories import NOW_MS, keep_key, keep_task, keep_tenant
from tests.keeper import Keeper

DAY_MS = 86_400_000
DAY_S = 86_400


@pytest.fixture
async def keeper(database: Database, tmp_path: Path) -> AsyncIterator[Keeper]:
    """Whatever is deleted, the books are right in the end."""
    keeper = Keeper(database, tmp_path / "audio")
    await keeper.local.open()
    yield keeper
    assert await Books(database, keeper.clock).reconcile() == ()
    await keeper.local.close()


async def keep_accepted(database: Database, key: ApiKey | None = None, **changes: Any) -> Task:
    """A task that waits, with its hold."""
    task = await keep_task(database, key, **changes)
    await database.write(lambda tx: charging.hold(tx, task, periods_at(task.created_at_ms, "UTC")))
    return task


# Deleting one


async def test_nothing_is_left_of_what_was_said_and_made(keeper: Keeper, store: Store) -> None:
    task = await keep_ended(
        keeper.database, finished_at_ms=NOW_MS, clips=2, state=TaskState.SUCCEEDED, error=ERROR
    )
    await keeper.store(task)
    before = b"".join(await store.contents())
    assert all(said.encode() in before for said in SECRETS)
    await keeper.delete(task)
    assert keeper.stored() == 0
    for table in ("tasks", "attempts", "outputs", "task_events", "idempotency", "webhook_deliveries"):
        rows = str(await store.fetch(f"SELECT * FROM {table}"))
        left = [said for said in (*SECRETS, TRACE, "4242424", "all that") if said in rows]
        assert left == [], f"{table} still has {left}"


async def test_the_file_of_sqlite_is_overwritten(
    sqlite_store: SqliteStore, sqlite_database: Database, tmp_path: Path
) -> None:
    """Not only forgotten: whoever finds the file must not find the prompt."""
    keeper = Keeper(sqlite_database, tmp_path / "audio")
    long = "a song for Ada " * 600  # more than a page
    task = await keep_ended(
        sqlite_database, finished_at_ms=NOW_MS, error=ERROR, spec=MusicSpec(long, negative_prompt="no drums")
    )
    assert any(b"a song for Ada" in content for content in await sqlite_store.contents())
    await keeper.delete(task)
    await sqlite_database.close()
    with closing(sqlite3.connect(sqlite_store.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    contents = b"".join(await sqlite_store.contents())
    assert [said for said in SECRETS if said.encode() in contents] == []


async def test_what_the_ledger_stands_on_stays(keeper: Keeper) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=NOW_MS, clips=3)
    query = Query(task.tenant_id, group_by=(Dimension.KEY, Dimension.MODEL, Dimension.DAY))
    reports = UsageReports(keeper.database, keeper.clock)
    before = await reports.report(query)
    assert (before.total.clips, before.total.audio_ms, before.total.spent_micros) == (3, 3000, 60_000)
    await keeper.delete(task)
    assert await reports.report(query) == before
    assert await count(keeper.database, "ledger") == 2
    facts = "SELECT sha256, size_bytes, duration_s FROM outputs"
    rows = await keeper.database.read(lambda tx: tx.exec_driver_sql(facts).all())
    assert rows == [("0" * 64, 1044, 1.0)] * 3


async def test_nobody_sees_a_deleted_task_as_one(keeper: Keeper) -> None:
    key = await keep_key(keeper.database)
    gone = await keep_ended(keeper.database, key, finished_at_ms=NOW_MS)
    left = await keep_ended(keeper.database, key, finished_at_ms=NOW_MS)
    snapshots, archive = Snapshots(keeper.database), TaskArchive(keeper.database)
    assert await snapshots.get(gone.id) is not None
    await keeper.delete(gone)
    assert await snapshots.get(gone.id) is None
    for wanted in (TaskFilter(), TaskFilter(tenant_id=key.tenant_id), TaskFilter(key_id=key.id)):
        assert [task.id for task in await archive.list(wanted, before=None, limit=9)] == [left.id]
    with pytest.raises(NotFound):
        await archive.tell(gone.id)


async def test_only_an_ended_task_of_ones_own_is_deleted_and_only_once(keeper: Keeper) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=NOW_MS)
    stranger = await keep_key(keeper.database)
    with pytest.raises(NotFound):
        await keeper.retention.delete(Principal(stranger.tenant_id, stranger.id), task.id)
    assert await keeper.whole() == 1
    await keeper.delete(task)
    with pytest.raises(NotFound):
        await keeper.delete(task)
    assert keeper.counted("gateway_tasks_deleted_total", cause="request") == 1


async def test_what_has_not_ended_is_not_deleted(keeper: Keeper) -> None:
    task = await keep_accepted(keeper.database)
    with pytest.raises(Conflict, match="is queued"):
        await keeper.delete(task)
    await keeper.database.write(
        lambda tx: work.claim(tx, task.id, token="t", now_ms=NOW_MS, expires_at_ms=NOW_MS + 1)
    )
    with pytest.raises(Conflict, match="is running"):
        await keeper.delete(task)
    ids = (task.id,)
    assert await keeper.database.write(lambda tx: wiping.wipe(tx, ids, now_ms=NOW_MS)) == Wiped()
    assert await keeper.whole() == 1


async def test_two_who_delete_at_once_delete_once(keeper: Keeper) -> None:
    task = await keeper.store(await keep_ended(keeper.database, finished_at_ms=NOW_MS, clips=4))
    outcomes = await asyncio.gather(*(keeper.delete(task) for _ in range(4)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", *["NotFound"] * 3]
    assert keeper.stored() == 0


# What webhooks tell of it


async def tell(keeper: Keeper, task: Task) -> str:
    """The message of its end, to the address that it named; its id."""
    announcer = Announcer(IdMaker(keeper.clock, os.urandom), "http://gateway")
    await keeper.database.write(
        lambda tx: announcer.announce_task(tx, task, clips=1, charged_micros=60_000, now_ms=NOW_MS)
    )
    ((found,),) = await keeper.database.read(
        lambda tx: tx.exec_driver_sql("SELECT id FROM webhook_deliveries").all()
    )
    return str(found)


async def claimed(keeper: Keeper, task: Task) -> Claim:
    lanes = await keeper.database.read(lambda tx: deliveries.list_due(tx, now_ms=NOW_MS))
    (found,) = await keeper.database.write(
        lambda tx: deliveries.claim(
            tx, {each.lane: 1 for each in lanes}, token="mine", now_ms=NOW_MS, expires_at_ms=NOW_MS + 1
        )
    )
    return found


def note(tx: Tx, claim: Claim) -> object:
    """A try of it went well."""
    tried = deliveries.record_try(
        tx, claim, at_ms=NOW_MS, duration_ms=1, status=200, outcome=TryOutcome.DELIVERED
    )
    deliveries.finish(tx, claim, DeliveryState.DELIVERED, now_ms=NOW_MS)
    return tried


async def test_what_was_told_of_it_is_forgotten(keeper: Keeper) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=NOW_MS)
    await tell(keeper, task)
    claim = await claimed(keeper, task)
    await keeper.database.write(lambda tx: note(tx, claim))
    await keeper.delete(task)
    assert await count(keeper.database, "webhook_deliveries") == 0
    assert await count(keeper.database, "webhook_attempts") == 0


async def test_what_is_still_to_be_told_is_told_without_what_it_was_about(keeper: Keeper) -> None:
    """That it ended, and what it cost, is a promise; the rest is deleted."""
    task = await keep_ended(
        keeper.database, finished_at_ms=NOW_MS, state=TaskState.FAILED, clips=0, error=ERROR
    )
    message_id = await tell(keeper, task)
    await keeper.delete(task)
    found = await keeper.database.read(lambda tx: deliveries.get_delivery(tx, task.tenant_id, message_id))
    assert found.state is DeliveryState.PENDING
    data = json.loads(found.body)["data"]
    assert (data["task_id"], data["status"], data["price"]["charged_micros"]) == (task.id, "failed", 60_000)
    assert data["metadata"] is None
    assert data["error"] == {"code": "model_refused", "detail": "The task was deleted."}


async def test_a_try_that_is_under_way_meanwhile_counts(keeper: Keeper) -> None:
    task = await keep_ended(keeper.database, finished_at_ms=NOW_MS)
    await tell(keeper, task)
    claim = await claimed(keeper, task)
    await keeper.delete(task)
    assert await keeper.database.write(lambda tx: note(tx, claim)) is not None


# Keeping for so many days


async def keep_team(keeper: Keeper, days: int | None) -> ApiKey:
    return await keep_key(keeper.database, await keep_tenant(keeper.database, retention_days=days))


async def set_days(keeper: Keeper, key: ApiKey, days: int | None) -> None:
    def write(tx: Tx) -> None:
        tenant = tenants.get_tenant(tx, key.tenant_id)
        tenants.update_tenant(tx, replace(tenant, retention_days=days))

    await keeper.database.write(write)


async def test_a_task_is_kept_so_many_days_from_its_end(keeper: Keeper) -> None:
    key = await keep_team(keeper, 7)
    task = await keeper.store(await keep_ended(keeper.database, key, finished_at_ms=NOW_MS, clips=2))
    keeper.clock.advance(7 * DAY_S)
    await keeper.retention.retire()
    assert await keeper.whole() == 1
    keeper.clock.advance(0.001)
    await keeper.retention.retire()
    assert await keeper.whole() == 0
    assert keeper.counted("gateway_tasks_deleted_total", cause="retention") == 1
    await keeper.discards.remove_all()
    assert (keeper.stored(), await count(keeper.database, "discarded_objects")) == (0, 0)
    with pytest.raises(NotFound):
        await keeper.delete(task)


async def test_without_a_policy_everything_is_kept(keeper: Keeper) -> None:
    await keep_ended(keeper.database, await keep_team(keeper, None), finished_at_ms=NOW_MS)
    keeper.clock.advance(36_500 * DAY_S)
    await keeper.retention.retire()
    assert await keeper.whole() == 1


async def test_the_longest_policy_does_not_overflow(keeper: Keeper) -> None:
    await keep_ended(keeper.database, await keep_team(keeper, 36_500), finished_at_ms=NOW_MS)
    await keeper.retention.retire()
    assert await keeper.whole() == 1


async def test_a_policy_holds_from_when_it_is_changed(keeper: Keeper) -> None:
    key = await keep_team(keeper, 30)
    for days in (40, 20, 5):
        await keep_ended(keeper.database, key, finished_at_ms=NOW_MS - days * DAY_MS)
    await keeper.retention.retire()
    assert await keeper.whole() == 2
    await set_days(keeper, key, None)
    await keeper.retention.retire()
    assert await keeper.whole() == 2
    await set_days(keeper, key, 10)
    await keeper.retention.retire()
    assert await keeper.whole() == 1
    await set_days(keeper, key, 60)
    await keeper.retention.retire()
    assert await keeper.whole() == 1


async def test_what_has_not_ended_holds_up_nothing_and_stays(keeper: Keeper) -> None:
    key = await keep_team(keeper, 1)
    waiting = await keep_accepted(keeper.database, key, created_at_ms=NOW_MS - 90 * DAY_MS)
    await keep_ended(keeper.database, key, finished_at_ms=NOW_MS - 2 * DAY_MS)
    await keeper.retention.retire()
    rows = await keeper.database.read(
        lambda tx: tx.exec_driver_sql("SELECT id FROM tasks WHERE deleted_at_ms IS NULL").all()
    )
    assert rows == [(waiting.id,)]


async def test_a_clock_that_was_ahead_for_a_while_holds_up_nothing(keeper: Keeper) -> None:
    """What ended then is kept for longer; what ended after it is not."""
    key = await keep_team(keeper, 1)
    ahead = await keep_ended(keeper.database, key, finished_at_ms=NOW_MS + 365 * DAY_MS)
    await keep_ended(keeper.database, key, finished_at_ms=NOW_MS)
    keeper.clock.advance(2 * DAY_S)
    await keeper.retention.retire()
    assert list(await keeper.database.read(lambda tx: tasks.get_tasks(tx, [ahead.id]))) == [ahead.id]
    assert await keeper.whole() == 1
    keeper.clock.advance(366 * DAY_S)
    await keeper.retention.retire()
    assert await keeper.whole() == 0


async def test_a_clock_that_goes_back_deletes_nothing(keeper: Keeper) -> None:
    await keep_ended(keeper.database, await keep_team(keeper, 1), finished_at_ms=NOW_MS)
    keeper.clock.advance(-365 * DAY_S)
    await keeper.retention.retire()
    assert await keeper.whole() == 1


async def keep_many(keeper: Keeper, key: ApiKey, number: int) -> None:
    def write(tx: Tx) -> None:
        for each in range(number):
            end_task(tx, key, finished_at_ms=NOW_MS - 3 * DAY_MS + each)

    await keeper.database.write(write)


async def test_a_flood_of_old_tasks_goes_in_small_transactions(keeper: Keeper) -> None:
    await keep_many(keeper, await keep_team(keeper, 1), 1000)
    steps: list[int] = []
    keeper.database.listen(lambda touched: steps.append(len(touched or ())))
    await keeper.retention.retire()
    assert (max(steps), sum(steps), await keeper.whole()) == (AT_ONCE, 1000, 0)
    assert await count(keeper.database, "discarded_objects") == 1000
    await keeper.discards.remove_all()
    assert await count(keeper.database, "discarded_objects") == 0


async def test_two_sweepers_at_once_delete_each_task_once(keeper: Keeper) -> None:
    for _ in range(2):
        await keep_many(keeper, await keep_team(keeper, 1), 130)
    await asyncio.gather(*(keeper.another().retire() for _ in range(3)))
    assert keeper.counted("gateway_tasks_deleted_total", cause="retention") == 260
    assert await keeper.whole() == 0


async def test_a_sweeper_does_not_wait_for_who_deletes_what_it_would_delete(keeper: Keeper) -> None:
    key = await keep_team(keeper, 1)
    task = await keep_ended(keeper.database, key, finished_at_ms=NOW_MS - 2 * DAY_MS)
    await keep_ended(keeper.database, key, finished_at_ms=NOW_MS - 2 * DAY_MS + 1)
    pause = Pause()

    def delete_slowly(tx: Tx) -> None:
        wiping.wipe(tx, [task.id], now_ms=NOW_MS)
        pause.wait(tx)

    deleting = asyncio.create_task(keeper.database.write(delete_slowly))
    await pause.entered.wait()
    retiring = asyncio.create_task(keeper.retention.retire())
    if not await keeper.database.read(has_one_writer):
        await retiring
        assert keeper.counted("gateway_tasks_deleted_total", cause="retention") == 1
    pause.end()
    await asyncio.gather(deleting, retiring)
    assert await keeper.whole() == 0


async def test_husks_are_not_looked_through_again(sqlite_database: Database) -> None:
    """However many there are: the index has what is left."""

    def plans(tx: Tx) -> list[str]:
        keys = {"of_tenant": "ten_1", "now_ms": NOW_MS, "at_most": 1}
        found = []
        for statement in (wiping._DUE, wiping._TENANTS_DUE):
            compiled = statement.compile(dialect=tx.dialect)
            values = [keys.get(name, compiled.params[name]) for name in compiled.positiontup]
            rows = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(values))
            found.append("; ".join(row[3] for row in rows))
        return found

    for plan in await sqlite_database.read(plans):
        assert "ix_tasks_kept (tenant_id=? AND finished_at_ms<?)" in plan
        assert "TEMP B-TREE" not in plan
