"""Word of what other processes changed, on PostgreSQL: in time, by name, and in doubt rather too much."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.db.changes import ChangeFeed
from gateway.db.engine import Database, Tx, touch
from gateway.tasks.snapshots import Snapshots
from tests.databases import PostgresStore, keep, open_store
from tests.eventually import eventually
from tests.factories import keep_task
from tests.proxy import Proxy, open_proxy

Heard = list[frozenset[str] | None]
END_LISTENERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name = 'gateway' AND (query LIKE 'LISTEN%' OR query = 'SELECT 1')"
)


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


@pytest.fixture
async def here(store: PostgresStore) -> AsyncIterator[Database]:
    opened = await open_store(store)
    yield opened
    await opened.close()


@pytest.fixture
async def elsewhere(store: PostgresStore) -> AsyncIterator[Database]:
    """Another process, as far as the database can tell."""
    opened = await open_store(store)
    yield opened
    await opened.close()


@pytest.fixture
def heard(here: Database) -> Heard:
    told: Heard = []
    here.listen(told.append)
    return told


def touching(*things: str) -> Callable[[Tx], None]:
    def write(tx: Tx) -> None:
        for thing in things:
            touch(tx, thing)

    return write


async def test_what_another_process_touched_is_heard_by_name(elsewhere: Database, heard: Heard) -> None:
    await elsewhere.write(touching("a", "it's \\ ü"))
    await eventually(lambda: heard == [frozenset({"a", "it's \\ ü"})])


async def test_ones_own_word_is_heard_once(here: Database, elsewhere: Database, heard: Heard) -> None:
    await here.write(touching("a"))
    assert heard == [frozenset({"a"})]
    await elsewhere.write(touching("b"))
    await eventually(lambda: frozenset({"b"}) in heard)  # by then one's own would have come back
    assert heard == [frozenset({"a"}), frozenset({"b"})]


async def test_what_was_refused_is_not_heard(elsewhere: Database, heard: Heard) -> None:
    def refused(tx: Tx) -> None:
        touch(tx, "bad")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await elsewhere.write(refused)
    await elsewhere.write(keep("untold"))
    await elsewhere.write(touching("good"))
    await eventually(lambda: heard != [])
    assert heard == [frozenset({"good"})]


@pytest.mark.parametrize("count", [300, 2000])
async def test_more_than_fits_into_a_word_may_be_anything(
    elsewhere: Database, heard: Heard, count: int
) -> None:
    things = [f"task_{number:016}" for number in range(count)]
    await elsewhere.write(touching(*things))
    await eventually(lambda: heard != [])
    assert heard == [frozenset(things) if count == 300 else None]


async def test_a_snapshot_is_forgotten_when_another_process_changes_its_task(
    here: Database, elsewhere: Database
) -> None:
    snapshots = Snapshots(here)
    task = await keep_task(here)
    before = await snapshots.get(task.id)
    assert await snapshots.get(task.id) is before

    def change(tx: Tx) -> None:
        touch(tx, task.id)
        tx.exec_driver_sql("UPDATE tasks SET attempt_count = 7")

    await elsewhere.write(change)
    await eventually(lambda: task.id not in snapshots._kept)
    after = await snapshots.get(task.id)
    assert after is not None
    assert after.task.attempt_count == 7


async def test_while_nobody_listens_anything_may_have_changed(
    here: Database, elsewhere: Database, store: PostgresStore, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """Then it listens again by itself."""
    await store.execute(END_LISTENERS)
    await eventually(lambda: None in heard)
    await eventually(lambda: "are heard again" in caplog.text)
    heard.clear()
    await elsewhere.write(touching("a"))
    await eventually(lambda: frozenset({"a"}) in heard)


async def test_a_server_that_is_away_is_waited_for(
    here: Database, elsewhere: Database, store: PostgresStore, heard: Heard
) -> None:
    await asyncio.to_thread(store.server.kill)
    await eventually(lambda: heard.count(None) >= 3)
    await asyncio.to_thread(store.server.start)
    await eventually(lambda: here._feed._connection is not None and not here._feed._connection.is_closed())

    async def is_heard() -> None:
        while frozenset({"a"}) not in heard:
            await elsewhere.write(touching("a"))
            await asyncio.sleep(0.05)

    async with asyncio.timeout(30):
        await is_heard()


async def test_a_network_that_falls_silent_is_noticed(store: PostgresStore) -> None:
    """No connection is closed and nothing fails; only nothing comes."""
    async with open_proxy(store.server.port) as proxy:
        database = await open_behind(proxy, store)
        heard: Heard = []
        database.listen(heard.append)
        proxy.fall_silent()
        await eventually(lambda: heard.count(None) >= 3)
        proxy.speak()
        await database.write(touching("a"))
        assert frozenset({"a"}) in heard
        await database.close()


async def open_behind(proxy: Proxy, store: PostgresStore) -> Database:
    behind = PostgresStore(store.server, store.name)
    behind.url = store.url.replace(str(store.server.port), str(proxy.port))
    return await open_store(behind)


async def test_a_feed_that_was_never_opened_can_be_closed() -> None:
    async def connect() -> None:
        raise AssertionError

    feed = ChangeFeed(connect, lambda: 0.5)
    assert feed.telling(frozenset()) == ""
    await feed.close()
