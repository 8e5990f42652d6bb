"""Everybody's tasks, as whoever runs the gateway looks at them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.bootstrap.services import Services
from gateway.db import archive, work
from gateway.db.engine import Database, Tx
from gateway.errors import ErrorCode, NotFound, Unavailable
from gateway.families.musicgen import MUSICGEN
from gateway.model import EntryKind, Place, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.archive import TaskArchive, TaskFilter
from tests.emulator import RunningEmulator
from tests.factories import NOW_MS, keep_key, keep_task, keep_tenant
from tests.workshop import Workshop, open_workshop

ALL = TaskFilter()


@pytest.fixture
def desk(database: Database) -> TaskArchive:
    return TaskArchive(database)


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    async with open_workshop(settings, emulator) as opened:
        yield opened


async def listed(desk: TaskArchive, wanted: TaskFilter, limit: int = 100) -> list[Task]:
    """All that fit, page by page."""
    found: list[Task] = []
    while page := await desk.list(
        wanted, before=Place(found[-1].created_at_ms, found[-1].id) if found else None, limit=limit
    ):
        found += page
    return found


async def start(database: Database, task: Task) -> None:
    await database.write(
        lambda tx: work.claim(tx, task.id, token=task.id, now_ms=NOW_MS, expires_at_ms=NOW_MS + 60_000)
    )


# Lists


async def test_everybodys_tasks_are_listed_newest_first(desk: TaskArchive, database: Database) -> None:
    made = [
        await keep_task(database, id=f"task_{number:02}", created_at_ms=NOW_MS + number)
        for number in range(7)
    ]
    assert await listed(desk, ALL) == made[::-1]
    assert await listed(desk, ALL, limit=2) == made[::-1]


@pytest.mark.parametrize("of", ["tenant", "key"])
async def test_tasks_of_one_moment_are_paged_without_loss(
    desk: TaskArchive, database: Database, of: str
) -> None:
    key = await keep_key(database)
    made = {(await keep_task(database, key)).id for _ in range(7)}
    await keep_task(database)
    wanted = TaskFilter(tenant_id=key.tenant_id) if of == "tenant" else TaskFilter(key_id=key.id)
    found = [task.id for task in await listed(desk, wanted, limit=3)]
    assert (len(found), set(found)) == (7, made)


async def test_each_question_narrows_the_list(desk: TaskArchive, database: Database) -> None:
    key, other = await keep_key(database), await keep_key(database)
    first = await keep_task(database, key, state=TaskState.FAILED, created_at_ms=NOW_MS)
    second = await keep_task(database, key, model=MUSICGEN, created_at_ms=NOW_MS + 1)
    third = await keep_task(database, other, created_at_ms=NOW_MS + 2)
    for wanted, expected in (
        (TaskFilter(tenant_id=key.tenant_id), [second, first]),
        (TaskFilter(key_id=other.id), [third]),
        (TaskFilter(state=TaskState.FAILED), [first]),
        (TaskFilter(state=TaskState.QUEUED), [third, second]),
        (TaskFilter(state=TaskState.RUNNING), []),
        (TaskFilter(model=MUSICGEN), [second]),
        (TaskFilter(created_from_ms=NOW_MS + 1), [third, second]),
        (TaskFilter(created_before_ms=NOW_MS + 1), [first]),
        (TaskFilter(tenant_id=key.tenant_id, key_id=other.id), []),
    ):
        assert await listed(desk, wanted) == expected, wanted


@pytest.mark.parametrize("wanted", [TaskFilter(tenant_id="ten_x"), TaskFilter(key_id="k")], ids=str)
async def test_a_tenant_or_key_that_is_none_is_told_as_such(desk: TaskArchive, wanted: TaskFilter) -> None:
    with pytest.raises(NotFound) as caught:
        await desk.list(wanted, before=None, limit=1)
    assert caught.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (ALL, "sqlite_autoindex_tasks_1"),
        (TaskFilter(tenant_id="t"), "ix_tasks_tenant_id_created_at_ms"),
        (TaskFilter(key_id="k"), "ix_tasks_key_id_created_at_ms"),
    ],
)
async def test_a_page_is_found_along_an_index(
    sqlite_database: Database, wanted: TaskFilter, index: str
) -> None:
    """Whatever there is: a page costs what a page holds."""
    plans: list[str] = []

    def look(tx: Tx) -> None:
        def explain(conn: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
            if "FROM tasks" in statement and "EXPLAIN" not in statement:
                rows = conn.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values)
                plans.extend(row[3] for row in rows.fetchall())

        sa.event.listen(tx.engine, "before_cursor_execute", explain)
        archive.list_tasks(tx, wanted, before=Place(NOW_MS, "task_1"), limit=10)
        sa.event.remove(tx.engine, "before_cursor_execute", explain)

    await sqlite_database.read(look)
    assert index in plans[0], plans


# One task


async def test_a_tasks_whole_story_is_told(shop: Workshop) -> None:
    task = await shop.finish(await shop.submit(sample_count=2))
    story = await shop.services.archive.tell(task.id)
    assert story.task == task
    (attempt,) = story.attempts
    assert (attempt.number, attempt.deployment, attempt.state) == (1, "lyria-002", "succeeded")
    assert (attempt.clips_asked, attempt.clips_delivered, attempt.fault) == (2, 2, None)
    assert attempt.started_at_ms == attempt.finished_at_ms == shop.clock.now_ms()
    assert [event.kind for event in story.events] == ["queued", "running", "clip", "clip", "succeeded"]
    assert [row.entry.kind for row in story.entries] == [EntryKind.HOLD, EntryKind.SETTLE]
    assert story.entries[1].entry.spent_micros == task.price_micros


async def test_a_task_that_is_none_is_told_as_such(desk: TaskArchive) -> None:
    with pytest.raises(NotFound) as caught:
        await desk.tell("task_x")
    assert caught.value.code is ErrorCode.NOT_FOUND


# The queue


async def test_the_queue_tells_who_waits_and_who_runs(desk: TaskArchive, database: Database) -> None:
    idle, waits, runs = [await keep_tenant(database, name=name) for name in ("idle", "waits", "runs")]
    await keep_task(database, await keep_key(database, idle), state=TaskState.SUCCEEDED)
    key = await keep_key(database, waits)
    for number in range(3):
        await keep_task(database, key, created_at_ms=NOW_MS + number)
    key = await keep_key(database, replace(runs, weight=3))
    await start(database, await keep_task(database, key))
    first, second = await desk.queue()
    assert (first.tenant_id, first.tenant_name, first.waiting, first.running) == (waits.id, "waits", 3, 0)
    assert first.since_ms == NOW_MS
    assert (second.tenant_id, second.waiting, second.running, second.since_ms) == (runs.id, 0, 1, None)


async def test_an_empty_queue_has_no_lines(desk: TaskArchive) -> None:
    assert await desk.queue() == ()


# Long searches


async def test_what_a_search_finds_is_what_was_committed(services: Services) -> None:
    task = await keep_task(services.database)
    assert await services.archive.list(ALL, before=None, limit=1) == (task,)
    assert await services.books.reconcile() != ()


async def test_a_database_that_was_replaced_is_not_begun_anew(services: Services, settings: Settings) -> None:
    settings.database_path.unlink()
    with pytest.raises(Unavailable):
        await services.archive.list(ALL, before=None, limit=1)
    assert not settings.database_path.exists()
