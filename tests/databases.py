"""Both kinds of database, ready for the same tests, and what another program sees in them."""

import asyncio
import itertools
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg
from sqlalchemy.util.concurrency import await_

from gateway.db import tenants
from gateway.db.engine import Database, Tx, has_one_writer
from gateway.db.migrate import migrate as migrate_file
from gateway.db.opening import migrate, open_database
from gateway.errors import ErrorCode, GatewayError
from tests.factories import a_tenant
from tests.postgres import Server, run_in_thread

BACKENDS = ("sqlite", "postgres")
#: How often a burst is repeated. Where it takes longer, `tests.system.test_bursts` goes on.
BURSTS = {"sqlite": 20, "postgres": 3}

TEMPLATE = "migrated"
_POOL = 5
_names = (f"test_{number}" for number in itertools.count(1))


class Store(Protocol):
    """An empty, migrated database."""

    url: str

    async def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """As another program, what is committed."""

    def fetch_now(self, query: str) -> list[tuple[Any, ...]]:
        """As `fetch`, where nothing can be awaited."""

    async def execute(self, script: str) -> None:
        """As another program, at once."""

    async def corrupt(self, script: str) -> None:
        """As no transaction of ours could: no trigger, check or reference is in the way."""

    async def contents(self) -> list[bytes]:
        """All that is kept."""


class SqliteStore:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite+aiosqlite:///{path}"

    async def fetch(self, query: str) -> list[tuple[Any, ...]]:
        return self.fetch_now(query)

    def fetch_now(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as other:
            return other.execute(query).fetchall()

    async def execute(self, script: str) -> None:
        with closing(sqlite3.connect(self.path)) as other, other:
            other.executescript(script)

    async def corrupt(self, script: str) -> None:
        triggers = await self.fetch("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        dropped = "".join(f"DROP TRIGGER {name};" for (name,) in triggers)
        await self.execute(f"PRAGMA ignore_check_constraints = ON;{dropped}{script}")

    async def contents(self) -> list[bytes]:
        return [path.read_bytes() for path in self.path.parent.glob(f"{self.path.name}*")]


class PostgresStore:
    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.url = server.url(name)
        self.dsn = self.url.replace("+asyncpg", "")

    async def fetch(self, query: str) -> list[tuple[Any, ...]]:
        other = await asyncpg.connect(self.dsn)
        try:
            return [tuple(row) for row in await other.fetch(query)]
        finally:
            await other.close()

    def fetch_now(self, query: str) -> list[tuple[Any, ...]]:
        return run_in_thread(self.fetch(query))

    async def execute(self, script: str) -> None:
        other = await asyncpg.connect(self.dsn)
        try:
            await other.execute(script)
        finally:
            await other.close()

    async def corrupt(self, script: str) -> None:
        checks = await self.fetch(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint "
            "WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
        )
        dropped = "".join(f"ALTER TABLE {table} DROP CONSTRAINT {name};" for table, name in checks)
        await self.execute(f"SET session_replication_role = replica;{dropped}{script}")

    async def contents(self) -> list[bytes]:
        tables = await self.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        queries = [f"SELECT t::text FROM {table} t" for (table,) in tables]
        return [row.encode() for query in queries for (row,) in await self.fetch(query)]


async def open_store(store: Store, *, pool_size: int = _POOL) -> Database:
    return await open_database(store.url, pool_size=pool_size, jitter=lambda: 0.5)


class Pause:
    """Where a function waits inside its transaction, on either kind of database, until this ends."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._go = asyncio.Event()
        self._go_in_thread = threading.Event()
        self.entered = asyncio.Event()

    def wait(self, tx: Tx) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        if has_one_writer(tx):
            self._go_in_thread.wait()
        else:
            await_(self._go.wait())

    def end(self) -> None:
        self._go.set()
        self._go_in_thread.set()


# Small things to write, and to look for


def names(tx: Tx) -> set[str]:
    return {tenant.name for tenant in tenants.list_tenants(tx)}


def keep(name: str) -> Callable[[Tx], str]:
    def write(tx: Tx) -> str:
        tenants.insert_tenant(tx, a_tenant(name=name))
        return name

    return write


def keep_then_refuse(name: str) -> Callable[[Tx], str]:
    def write(tx: Tx) -> str:
        keep(name)(tx)
        raise GatewayError(f"no {name}", code=ErrorCode.INVALID_REQUEST)

    return write


async def together(database: Database, *functions: Callable[[Tx], str]) -> list[str | BaseException]:
    """Outcomes of writes that come while another is under way. SQLite commits them as one group."""
    pause = Pause()
    gate = asyncio.create_task(database.write(pause.wait))
    await pause.entered.wait()
    writes = [asyncio.create_task(database.write(function)) for function in functions]
    await asyncio.sleep(0)
    pause.end()
    await gate
    return await asyncio.gather(*writes, return_exceptions=True)


# Making them


def make_migrated_file(path: Path) -> Path:
    migrate_file(path)
    return path


def make_template(server: Server) -> None:
    """A migrated database, to be copied: migrating takes longer than most tests."""
    server.execute(f"CREATE DATABASE {TEMPLATE}")
    asyncio.run(migrate(server.url(TEMPLATE)))


def copy_of_file(migrated: Path, directory: Path) -> SqliteStore:
    return SqliteStore(Path(shutil.copy(migrated, directory / "gateway.db")))


@contextmanager
def copy_of_template(server: Server) -> Iterator[PostgresStore]:
    name = next(_names)
    server.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    try:
        yield PostgresStore(server, name)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
