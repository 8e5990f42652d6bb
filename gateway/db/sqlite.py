"""SQLite under SQLAlchemy Core: one writer with group commit, one reader, one more for what takes long.

A transaction is a plain function that takes an open `Tx`. The whole function runs in the connection's
thread: a hop per transaction, not per statement (see DECISIONS.md, "Whole transactions in the thread").
Writes that arrive while one is being committed share the next commit, each in its own savepoint, so
``synchronous=FULL`` costs one fsync for all of them.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiosqlite
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from gateway.db.engine import Database, Tx, take_touched, unavailable
from gateway.errors import Unavailable

T = TypeVar("T")

logger = logging.getLogger(__name__)

_BUSY_TIMEOUT_S = 10.0
_GROUP_LIMIT = 64
# Of pages, for each connection. Many tenants at once are many pages; what is not used is not taken.
_CACHE_KIB = 16_384
# Whoever commits at that many pages of WAL, 16 MiB, copies them into the file first: each page once, however
# often it was changed. SQLite's 1,000 made that one admission in eighty where 10,000 tenants took turns.
_CHECKPOINT_PAGES = 4_000
_LOOK_AT_OTHERS_EVERY_S = 0.25
# Who is in the way is another process, and stays.
_ALONE_TIMEOUT_S = 1.0
# A writer takes its lock at once: no deadlock can arise from upgrading a read lock later.
_BEGIN_WRITE = "BEGIN IMMEDIATE"


class SqliteThread:
    """One SQLite connection in a thread of its own. aiosqlite owns both; SQLAlchemy speaks through them."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._path = path
        self._read_only = read_only
        self._raw: sqlite3.Connection | None = None
        self._file_id = (0, 0)
        self._thread = aiosqlite.Connection(self._connect, iter_chunk_size=64)
        self._engine = sa.create_engine("sqlite://", creator=self._existing, poolclass=StaticPool)
        self._connection: sa.Connection | None = None

    def _connect(self) -> sqlite3.Connection:
        # isolation_level=None: `_transaction` says when a transaction starts, not the driver.
        raw = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            raw.execute("PRAGMA journal_mode=WAL")
            raw.execute("PRAGMA synchronous=FULL")
            raw.execute("PRAGMA foreign_keys=ON")
            # What was deleted is overwritten, and not only forgotten.
            raw.execute("PRAGMA secure_delete=ON")
            raw.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            raw.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            if self._read_only:
                raw.execute("PRAGMA query_only=ON")
        except sqlite3.Error:
            raw.close()
            raise
        self._file_id = self._find_file()
        self._raw = raw
        return raw

    def _find_file(self) -> tuple[int, int]:
        """What is at the path now: device and inode. Raises `sqlite3.OperationalError` when nothing is."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise sqlite3.OperationalError(f"its file cannot be found: {error.strerror}") from error
        return found.st_dev, found.st_ino

    def _existing(self) -> sqlite3.Connection:
        if self._raw is None:  # pragma: no cover - `open` comes first
            raise RuntimeError("the connection is not open")
        return self._raw

    async def open(self) -> None:
        """Raises `sqlite3.Error` when the file cannot be opened; nothing is left running then."""
        try:
            await self._thread
        except sqlite3.Error:
            # aiosqlite has told its thread to end but does not wait: it would outlive the event loop.
            await asyncio.to_thread(self._thread._thread.join)  # noqa: SLF001 - there is no other way to wait
            raise
        self._connection = await self.run(self._engine.connect)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run in the connection's thread. Publicly, aiosqlite runs single statements only."""
        execute: Callable[..., Awaitable[T]] = self._thread._execute  # noqa: SLF001 - see the docstring
        return await execute(function, *args)

    async def transact(self, function: Callable[..., T], *args: Any) -> T:
        """As `run`, the open connection first, if the file is still the one that was opened.

        SQLite does not notice that its file was deleted or replaced: it would go on for ever, in a file that
        ends with the process. Raises `sqlite3.OperationalError`.
        """
        connection = self.connection()

        def checked() -> T:
            if self._find_file() != self._file_id:
                raise sqlite3.OperationalError("its file was replaced; start the gateway again")
            return function(connection, *args)

        return await self.run(checked)

    def connection(self) -> sa.Connection:
        if self._connection is None:  # pragma: no cover - `open` comes first
            raise RuntimeError("the connection is not open")
        return self._connection

    def data_version(self) -> int:
        """A number that another connection's commits change, and our own do not. In the thread, please."""
        # Not through SQLAlchemy: that would take the write lock for a look.
        return int(self._existing().execute("PRAGMA data_version").fetchone()[0])

    async def close(self) -> None:
        if self._connection is not None:
            await self.run(self._connection.close)
            self._connection = None
        await self._thread.close()
        self._engine.dispose(close=False)


class _Work(Generic[T]):
    """A write on its way: the function, and where its outcome goes."""

    __slots__ = ("function", "future", "outcome", "touched")

    def __init__(self, function: Callable[[Tx], T], future: "asyncio.Future[T]") -> None:
        self.function = function
        self.future = future
        self.outcome: T | BaseException | None = None
        self.touched: frozenset[str] = frozenset()


class SqliteDatabase(Database):
    """A file. All writes go through one connection, so they are one after another."""

    def __init__(self, path: Path, writer: SqliteThread, reader: SqliteThread) -> None:
        super().__init__()
        self._path = path
        self._writer = writer
        self._reader = reader
        self._slow_reader: SqliteThread | None = None
        self._slow_reader_lock = asyncio.Lock()
        self._waiting: list[_Work[Any]] = []
        self._committer: asyncio.Task[None] | None = None
        self._closing = False
        self._others: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path) -> "SqliteDatabase":
        """Open an existing, migrated database. Raises `Unavailable` when it cannot be opened."""
        writer, reader = SqliteThread(path, read_only=False), SqliteThread(path, read_only=True)
        try:
            await writer.open()
            try:
                await reader.open()
            # Cancelled or failed: the writer's thread would keep the process from ending.
            except BaseException:
                await writer.close()
                raise
        except sqlite3.Error as error:
            raise _unavailable(error) from error
        database = cls(path, writer, reader)
        # Known before anything is read, so that nothing remembered is older than the first look.
        version = await writer.run(writer.data_version)
        database._others = asyncio.create_task(database._look_at_others(version))
        return database

    async def close(self) -> None:
        self._closing = True
        if self._others is not None:
            self._others.cancel()
            await asyncio.wait([self._others])
        if self._committer is not None:
            await self._committer
        async with self._slow_reader_lock:
            if self._slow_reader is not None:
                await self._slow_reader.close()
        await self._reader.close()
        await self._writer.close()

    async def read(self, function: Callable[[Tx], T]) -> T:
        self._check_open()
        try:
            return await self._reader.transact(_read, function)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise _unavailable(error) from error

    async def read_long(self, function: Callable[[Tx], T]) -> T:
        try:
            return await (await self._patient()).transact(_read, function)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise _unavailable(error) from error

    async def _patient(self) -> SqliteThread:
        """The reader for what takes long, opened when it is first needed: most processes never do."""
        async with self._slow_reader_lock:
            self._check_open()
            if self._slow_reader is None:
                # Not in another file that has taken the place of ours.
                await self._reader.transact(lambda _: None)
                opened = SqliteThread(self._path, read_only=True)
                await opened.open()
                self._slow_reader = opened
            return self._slow_reader

    async def write(self, function: Callable[[Tx], T]) -> T:
        self._check_open()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Work(function, future))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_groups())
        try:
            return await asyncio.shield(future)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise _unavailable(error) from error

    def _check_open(self) -> None:
        if self._closing:
            raise _unavailable(RuntimeError("it is closed"))

    async def _commit_groups(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:_GROUP_LIMIT], self._waiting[_GROUP_LIMIT:]
            try:
                await self._writer.transact(_commit_group, group)
            except BaseException as error:  # noqa: BLE001 - whatever it was, every waiter must hear of it
                for work in group:
                    work.outcome = error
            touched = frozenset[str]().union(*(work.touched for work in group))
            if touched:
                self._tell(touched)
            for work in group:
                _deliver(work)

    async def _look_at_others(self, seen: int | None) -> None:
        """Notice commits of other processes: `data_version` changes with those, and not with our own."""
        while True:
            await asyncio.sleep(_LOOK_AT_OTHERS_EVERY_S)
            try:
                version = await self._writer.run(self._writer.data_version)
            except sqlite3.Error as error:
                logger.error("database: %s", error)
                version = None
            if version is None or version != seen:
                self._tell(None)
            seen = version


@contextmanager
def hold_file(path: Path) -> Iterator[Tx]:
    """An existing file alone, in one transaction, which is committed at the end unless that is an error.

    Whoever has it open in WAL mode shares a lock on the file, also while it does nothing, so a gateway that
    serves it is found out; and until the end nobody else can open, read or change it, so that `data_version`
    would have nothing to tell. Raises `sqlite3.Error` or SQLAlchemy's `DBAPIError`: "database is locked"
    where it is not to be had alone.
    """
    with closing(sqlite3.connect(path, timeout=_ALONE_TIMEOUT_S, isolation_level=None)) as raw:
        raw.execute("PRAGMA locking_mode=EXCLUSIVE")
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("PRAGMA foreign_keys=ON")
        engine = sa.create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        with engine.connect() as connection, _transaction(connection, "BEGIN EXCLUSIVE"):
            yield connection


def _deliver(work: _Work[Any]) -> None:
    if work.future.done():  # pragma: no cover - the loop is closing and cancelled it
        return
    if isinstance(work.outcome, BaseException):
        work.future.set_exception(work.outcome)
        # The caller may have hung up; its exception is then nobody's, and that is fine.
        work.future.exception()
    else:
        work.future.set_result(work.outcome)


def _read(connection: sa.Connection, function: Callable[[Tx], T]) -> T:
    with _transaction(connection, "BEGIN"):
        return function(connection)


def _commit_group(connection: sa.Connection, group: list[_Work[Any]]) -> None:
    """Run each function in its own savepoint, then commit once for all."""
    if len(group) == 1:
        take_touched(connection)
        with _transaction(connection, _BEGIN_WRITE):
            group[0].outcome = group[0].function(connection)
        group[0].touched = take_touched(connection)
        return
    with _transaction(connection, _BEGIN_WRITE):
        for work in group:
            take_touched(connection)
            try:
                with _savepoint(connection):
                    work.outcome = work.function(connection)
            except (sa.exc.OperationalError, sqlite3.Error):
                # Disk full or I/O trouble may have ended the whole transaction inside SQLite: fail the group.
                raise
            except Exception as error:  # noqa: BLE001 - one caller's refusal or mistake is nobody else's
                work.outcome = error
            else:
                work.touched = take_touched(connection)


@contextmanager
def _transaction(connection: sa.Connection, begin: str) -> Iterator[None]:
    """BEGIN is ours to say, and not in SQLAlchemy's "begin" event: any listener slows every statement."""
    with connection.begin():
        raw = connection.connection.cursor()
        raw.execute(begin)
        raw.close()
        yield


@contextmanager
def _savepoint(connection: sa.Connection) -> Iterator[None]:
    """As `Connection.begin_nested`, which compiles its statements anew each time: a tenth of an admission."""
    raw = connection.connection.cursor()
    raw.execute("SAVEPOINT work")
    try:
        yield
    except (sa.exc.OperationalError, sqlite3.Error):
        # SQLite may have ended the transaction itself, savepoints and all.
        raise
    except BaseException:  # whatever it was, half of this work must not be committed with the others'
        raw.execute("ROLLBACK TO work")
        raw.execute("RELEASE work")
        raise
    else:
        raw.execute("RELEASE work")
    finally:
        raw.close()


def _unavailable(error: BaseException) -> Unavailable:
    # SQLAlchemy's own text repeats the statement with its values: prompts have no place in a log.
    return unavailable(str(error.orig if isinstance(error, sa.exc.DBAPIError) else error))
