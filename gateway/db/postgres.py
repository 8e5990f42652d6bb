"""PostgreSQL under SQLAlchemy Core: a small pool of connections, each transaction on one of its own.

A transaction is the same plain function as on SQLite, run by `AsyncConnection.run_sync`. BEGIN and COMMIT are
said here and not by SQLAlchemy, so that it is always known whether a COMMIT was on its way when a connection
was lost. Before that, nothing remains and the function is run again; after, only the database knows, and the
caller is told so (see DECISIONS.md, "What is tried again on PostgreSQL").
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, NoReturn, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool
from sqlalchemy.util.concurrency import await_

from gateway.db.changes import ChangeFeed
from gateway.db.connecting import (
    ALONE,
    APPLICATION,
    ENDLESS,
    ERRORS,
    LONG,
    USUAL,
    Patience,
    Refused,
    Server,
    cause_of,
    connect,
    make_engine,
    may_pass,
    said,
)
from gateway.db.engine import Database, Tx, take_touched, unavailable
from gateway.db.locks import forget_locks
from gateway.db.prepared import DRIVER
from gateway.db.turns import Turns
from gateway.errors import ConfigurationError, Conflict

T = TypeVar("T")

_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Each statement sees what was committed before it, and so what was waited for at a lock.
_BEGIN_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

_TRIES = 4
_FIRST_PAUSE_S = 0.02

# "migrate" in ASCII: any number that is nobody else's in this database.
_MIGRATING = 0x6D696772617465

# A server takes a moment to end the session of a connection that was closed.
_LOOK_FOR_OTHERS_S = 3.0
_OTHERS = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND application_name = :name"
).bindparams(name=APPLICATION)


class AsyncpgDriver:
    """`gateway.db.prepared.Driver` on a connection: to be called inside `run_sync`."""

    __slots__ = ("_raw",)

    def __init__(self, raw: asyncpg.Connection) -> None:
        self._raw = raw

    def run(self, sql: str, values: Sequence[Any]) -> int:
        return _count(self._wait(self._raw.execute(sql, *values)))

    def fetch(self, sql: str, values: Sequence[Any]) -> Iterable[Iterable[Any]]:
        rows: list[Iterable[Any]] = self._wait(self._raw.fetch(sql, *values))
        return rows

    def _wait(self, answer: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await_(answer)
        except asyncpg.IntegrityConstraintViolationError as error:
            raise sa.exc.IntegrityError(None, None, Refused(error)) from None


def _count(status: str) -> int:
    """``UPDATE 3``, ``INSERT 0 1``."""
    return int(status.rpartition(" ")[2])


class PostgresDatabase(Database):
    """A server that others may use at the same time."""

    def __init__(
        self,
        server: Server,
        engine: AsyncEngine,
        long_engine: AsyncEngine,
        feed: ChangeFeed,
        turns: Turns,
        jitter: Callable[[], float],
    ) -> None:
        super().__init__()
        self._server = server
        self._engine = engine
        self._long_engine = long_engine
        self._one_at_a_time = asyncio.Lock()
        self._feed = feed
        self._turns = turns
        self._jitter = jitter
        self._running: set[asyncio.Task[Any]] = set()
        self._closing = False

    @classmethod
    async def open(
        cls, server: Server, *, pool_size: int, jitter: Callable[[], float], patience: Patience = USUAL
    ) -> "PostgresDatabase":
        """Open an existing, migrated database, with which ``server`` is closed.

        ``jitter`` gives numbers from 0 to 1.
        Raises `Unavailable` when it cannot be reached, `ConfigurationError` when it will not do.
        """
        engine = make_engine(
            server,
            patience,
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=patience.lock_s,
            pool_reset_on_return=None,
        )
        long_engine = make_engine(server, LONG, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        feed = ChangeFeed(partial(connect, server, patience), jitter)
        database = cls(server, engine, long_engine, feed, Turns(patience.lock_s), jitter)
        try:
            async with engine.connect() as connection:
                _check_encoding(await _raw(connection))
            await feed.open(database._tell)
        except ERRORS as error:
            await database._let_go()
            raise unavailable(said(cause_of(error))) from None
        except BaseException:  # cancelled, or not to be used: no connection may stay behind
            await database._let_go()
            raise
        return database

    async def close(self) -> None:
        self._closing = True
        if self._running:
            await asyncio.wait(self._running)
        await self._feed.close()
        await self._let_go()

    async def _let_go(self) -> None:
        await self._engine.dispose()
        await self._server.close()

    async def read(self, function: Callable[[Tx], T]) -> T:
        return await self._see_through(partial(self._read, function, self._engine))

    async def read_long(self, function: Callable[[Tx], T]) -> T:
        """One at a time, on a connection that is opened for it: the pool is for what is over soon."""
        return await self._see_through(partial(self._read_alone, function))

    async def write(self, function: Callable[[Tx], T]) -> T:
        return await self._see_through(partial(self._write, function))

    def turn(self, of: str) -> AbstractAsyncContextManager[None]:
        return self._turns.take(of)

    async def _see_through(self, transact: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """In a task of its own: a caller that hangs up must not leave half a transaction behind."""
        if self._closing:
            raise unavailable("it is closed")
        task = asyncio.create_task(self._try(transact))
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            # The caller may have hung up; the failure is then nobody's, and that is fine.
            task.exception()

    async def _try(self, transact: Callable[[], Coroutine[Any, Any, T]]) -> T:
        pause_s = _FIRST_PAUSE_S
        for tries in range(1, _TRIES + 1):
            try:
                return await transact()
            except ERRORS as error:
                cause = cause_of(error)
                if tries == _TRIES or not may_pass(cause, tries):
                    raise unavailable(said(cause)) from None
            await asyncio.sleep(pause_s * (0.5 + self._jitter()))
            pause_s *= 4
        raise AssertionError("the last try returns or raises")  # pragma: no cover

    async def _read_alone(self, function: Callable[[Tx], T]) -> T:
        async with self._one_at_a_time:
            return await self._read(function, self._long_engine)

    async def _read(self, function: Callable[[Tx], T], engine: AsyncEngine) -> T:
        async with engine.connect() as connection:
            raw = await _raw(connection)
            try:
                await raw.execute(_BEGIN_READ)
                return (await connection.run_sync(_run, function, raw))[0]
            finally:
                await _roll_back(connection, raw)

    async def _write(self, function: Callable[[Tx], T]) -> T:
        async with self._engine.connect() as connection:
            raw = await _raw(connection)
            try:
                await raw.execute(_BEGIN_WRITE)
                result, touched = await connection.run_sync(_run, function, raw)
                _check_alive(raw)
            except BaseException:  # whatever it was, nothing of it may stay
                await _roll_back(connection, raw)
                raise
            await self._commit(connection, raw, touched)
            return result

    async def _commit(
        self, connection: AsyncConnection, raw: asyncpg.Connection, touched: frozenset[str]
    ) -> None:
        """The word to other processes goes with the transaction, or not at all."""
        try:
            status = await raw.execute(self._feed.telling(touched) + "COMMIT")
        except ERRORS as error:
            if getattr(error, "severity_en", None) == "ERROR":
                # The server's own no: it has not committed.
                await _roll_back(connection, raw)
                raise
            await connection.invalidate()
            self._feed.rename()
            self._tell(touched or None)
            raise unavailable(f"lost while it committed: {said(error)}", unknown=True) from None
        if status != "COMMIT":
            # The function went on after a statement had failed; PostgreSQL takes nothing more then.
            raise unavailable("a statement had failed, so the server rolled back")
        if touched:
            self._tell(touched)


def _run(tx: Tx, function: Callable[[Tx], T], raw: asyncpg.Connection) -> tuple[T, frozenset[str]]:
    """What the function gives, and what it touched."""
    take_touched(tx)
    forget_locks(tx)
    tx.info[DRIVER] = AsyncpgDriver(raw)
    return function(tx), take_touched(tx)


async def _raw(connection: AsyncConnection) -> asyncpg.Connection:
    """The driver's connection, alive as far as is known: a server that goes leaves a pool of dead ones."""
    while True:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        if not raw.is_closed():
            return raw
        await connection.invalidate()


def _check_alive(raw: asyncpg.Connection) -> None:
    """Raises `ConnectionResetError`: as long as COMMIT is not on its way, a loss is nothing but a loss."""
    if raw.is_closed():
        raise ConnectionResetError("lost before it was to commit")


async def _roll_back(connection: AsyncConnection, raw: asyncpg.Connection) -> None:
    """Leave nothing of the transaction; a connection that cannot be asked to is thrown away."""
    try:
        await raw.execute("ROLLBACK", timeout=USUAL.network_s)
    except ERRORS:
        await connection.invalidate()


def _check_encoding(raw: asyncpg.Connection) -> None:
    encoding = raw.get_settings().server_encoding
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database has the encoding {encoding}, and prompts come in every script: make one with UTF8."
        )


async def current_revision(server: Server) -> str | None:
    """The revision written in the database; None when it has no schema yet. Raises `OSError`."""
    try:
        connection = await connect(server, USUAL)
        try:
            if await connection.fetchval("SELECT to_regclass('alembic_version') IS NULL"):
                return None
            revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
            return revision
        finally:
            await connection.close()
    except ERRORS as error:
        _fail(error)


async def migrate(server: Server, upgrade: Callable[[sa.Connection], None]) -> None:
    """Run ``upgrade`` in a transaction; instances that start at once take turns. Raises `OSError`."""
    engine = make_engine(server, ENDLESS, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
            await connection.run_sync(upgrade)
    except ERRORS as error:
        _fail(error)
    finally:
        await engine.dispose()


@asynccontextmanager
async def hold_alone(server: Server, tables: Sequence[sa.Table], *, name: str) -> AsyncIterator[Tx]:
    """A database in one transaction that sees one moment and in which nobody else writes to these tables.

    It is committed at the end, unless that is an error. To be used inside `greenlet_spawn`; ``name`` is for
    people. Raises what is in `ERRORS`, and `Conflict` where another gateway is connected: it may be idle now,
    and write later.
    """
    engine = make_engine(server, ALONE, poolclass=NullPool, isolation_level="REPEATABLE READ")
    names = ", ".join(f'"{table.name}"' for table in tables)
    try:
        async with engine.begin() as connection:
            # Before anything is read: what is waited for here is then seen.
            await connection.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
            await _check_unserved(connection, name)
            tx = connection.sync_connection
            if tx is None:  # pragma: no cover - it is open
                raise RuntimeError("the connection is not open")
            yield tx
    finally:
        await engine.dispose()


async def _check_unserved(connection: AsyncConnection, name: str) -> None:
    give_up_at_s = asyncio.get_running_loop().time() + _LOOK_FOR_OTHERS_S
    while (await connection.execute(_OTHERS)).scalar_one():
        if asyncio.get_running_loop().time() > give_up_at_s:
            raise Conflict(f"The database {name} is in use: a gateway is connected to it. Stop it first.")
        await asyncio.sleep(_FIRST_PAUSE_S)
        # Or the same would be seen until the transaction ends.
        await connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")


def _fail(error: BaseException) -> NoReturn:
    raise ConnectionError(said(cause_of(error))) from None
