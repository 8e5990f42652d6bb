"""What is SQLite's own: commits in groups, a full disk, a file that goes away, a lock of another's."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.db import accounts, tenants
from gateway.db.engine import Tx
from gateway.db.migrate import migrate
from gateway.db.sqlite import SqliteDatabase as Database
from gateway.errors import ErrorCode, Unavailable
from tests.databases import keep, names, together
from tests.factories import a_key, a_tenant

PAGE_BYTES = 4096


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    return sqlite_database


def on_disk(path: Path) -> set[str]:
    """What another process sees."""
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM tenants")}


async def fill_the_disk(database: Database) -> None:
    """Let the database grow by two pages at most."""

    def limit(connection: sa.Connection) -> None:
        (pages,) = connection.exec_driver_sql("PRAGMA page_count").one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        connection.rollback()

    await database._writer.run(limit, database._writer.connection())


async def empty_the_disk(database: Database) -> None:
    def unlimit(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        connection.rollback()

    await database._writer.run(unlimit, database._writer.connection())


def keep_much(name: str) -> Callable[[Tx], str]:
    def write(tx: Tx) -> str:
        tenant = a_tenant(name=name)
        tenants.insert_tenant(tx, tenant)
        accounts.insert_key(tx, a_key(tenant, name="x" * 20 * PAGE_BYTES))
        return name

    return write


async def test_writes_that_wait_share_one_commit(database: Database) -> None:
    commits: list[str] = []
    sa.event.listen(database._writer._engine, "commit", lambda _: commits.append("commit"))
    await together(database, *(keep(f"team {n}") for n in range(40)))
    assert len(commits) == 2  # the gate's own, and one for all forty


async def test_a_broken_constraint_fails_its_own_write(database: Database, tmp_path: Path) -> None:
    outcomes = await together(database, keep("same"), keep("same"), keep("other"))
    assert outcomes[0] == "same"
    assert isinstance(outcomes[1], Unavailable)
    assert on_disk(tmp_path / "gateway.db") == {"same", "other"}


async def test_a_full_disk_fails_a_write_whole_and_the_next_works(database: Database, tmp_path: Path) -> None:
    await database.write(keep("before"))
    await fill_the_disk(database)
    with pytest.raises(Unavailable) as caught:
        await database.write(keep_much("too much"))
    assert caught.value.code is ErrorCode.DATABASE_UNAVAILABLE
    assert caught.value.retry_after_s
    assert "full" in (caught.value.internal or "")
    assert await database.write(keep("small")) == "small"
    await empty_the_disk(database)
    assert await database.write(keep_much("large")) == "large"
    assert on_disk(tmp_path / "gateway.db") == {"before", "small", "large"}


async def test_a_full_disk_fails_the_whole_group_and_the_next_works(
    database: Database, tmp_path: Path
) -> None:
    await fill_the_disk(database)
    outcomes = await together(database, keep("first"), keep_much("too much"), keep("last"))
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert on_disk(tmp_path / "gateway.db") == set()
    await empty_the_disk(database)
    assert await together(database, keep("first"), keep_much("much"), keep("last")) == [
        "first",
        "much",
        "last",
    ]
    assert on_disk(tmp_path / "gateway.db") == {"first", "much", "last"}


@pytest.mark.parametrize(
    "error",
    [
        sa.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("disk I/O error")),
        MemoryError(),
        ValueError("by chance, after SQLite gave up"),
    ],
)
async def test_a_transaction_that_sqlite_ended_itself_fails_the_group(
    database: Database, tmp_path: Path, error: Exception
) -> None:
    """Some errors (I/O, memory) roll everything back inside SQLite: no savepoint is left to go back to."""

    def lose_everything(tx: Tx) -> str:
        tx.exec_driver_sql("ROLLBACK")
        raise error

    outcomes = await together(database, keep("first"), lose_everything, keep("last"))
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert on_disk(tmp_path / "gateway.db") == set()
    assert await database.write(keep("next")) == "next"
    assert on_disk(tmp_path / "gateway.db") == {"next"}


async def test_a_write_waits_while_another_process_holds_the_lock(database: Database, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        write = asyncio.create_task(database.write(keep("acme")))
        # Reads go on meanwhile; by the time they have, the write has met the lock.
        for _ in range(20):
            assert await database.read(names) == set()
        assert not write.done()
        other.execute("COMMIT")
    assert await write == "acme"


async def test_a_lock_held_too_long_is_told_as_unavailable(database: Database, tmp_path: Path) -> None:
    await database._writer.run(lambda: database._writer._raw.execute("PRAGMA busy_timeout=20"))
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as caught:
            await database.write(keep("acme"))
        other.execute("COMMIT")
    assert "locked" in (caught.value.internal or "")
    assert await database.write(keep("acme")) == "acme"


async def test_listeners_hear_that_another_process_wrote(database: Database, tmp_path: Path) -> None:
    heard: asyncio.Queue[frozenset[str] | None] = asyncio.Queue()
    database.listen(heard.put_nowait)
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as other, other:
        other.execute(
            "INSERT INTO tenants (id, name, status, created_at_ms, weight) "
            "VALUES ('t', 'acme', 'active', 1, 1)"
        )
    assert await heard.get() is None


async def test_listening_goes_on_after_a_failed_look(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: asyncio.Queue[frozenset[str] | None] = asyncio.Queue()
    database.listen(heard.put_nowait)

    def fail_once() -> int:
        monkeypatch.undo()
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(database._writer, "data_version", fail_once)
    assert await heard.get() is None  # not known is as good as changed
    assert await heard.get() is None


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_database_whose_file_is_gone_takes_and_gives_nothing(
    database: Database, tmp_path: Path, *, replaced: bool
) -> None:
    """SQLite itself would go on in the deleted file, and all that it accepts would end with the process."""
    path, aside = tmp_path / "gateway.db", tmp_path / "aside.db"
    path.rename(aside)
    if replaced:
        path.touch()
    for attempt in (database.read(names), database.write(keep("acme"))):
        with pytest.raises(Unavailable, match="nothing was done"):
            await attempt
    aside.replace(path)
    await database.write(keep("acme"))
    assert await database.read(names) == {"acme"}


async def test_a_file_that_is_no_database_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(b"this is a text, not a database" * 100)
    with pytest.raises(Unavailable) as caught:
        await Database.open(path)
    assert "not a database" in (caught.value.internal or "")


async def test_no_thread_is_left_when_only_the_reader_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(tmp_path / "gateway.db")
    connect, opened = sqlite3.connect, []

    def connect_once(*args, **options):
        opened.append(1)
        if len(opened) > 1:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(*args, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_once)
    with pytest.raises(Unavailable):
        await Database.open(tmp_path / "gateway.db")
    for thread in threading.enumerate():
        if "connection_worker" in thread.name:
            thread.join(30)
            assert not thread.is_alive()


async def test_long_reads_that_come_together_share_one_reader(database: Database) -> None:
    before = threading.active_count()
    await asyncio.gather(*(database.read_long(names) for _ in range(5)))
    assert threading.active_count() == before + 1


async def test_a_long_read_never_reads_another_file(database: Database, tmp_path: Path) -> None:
    (tmp_path / "gateway.db").rename(tmp_path / "elsewhere.db")
    migrate(tmp_path / "gateway.db")
    with pytest.raises(Unavailable) as caught:
        await database.read_long(names)
    assert "was replaced" in str(caught.value.internal)


async def test_a_reader_that_cannot_be_opened_is_tried_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("sqlite3.connect", _cannot)
        with pytest.raises(Unavailable):
            await database.read_long(names)
    assert await database.read_long(names) == set()


def _cannot(*_: object, **__: object) -> sqlite3.Connection:
    raise sqlite3.OperationalError("unable to open database file")
