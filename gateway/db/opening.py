"""Which kind of database a URL names. Nothing of PostgreSQL's is loaded unless it is that kind."""

import asyncio
import importlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import ModuleType

import sqlalchemy as sa

from gateway.db.engine import Database, Tx
from gateway.db.revision import current_revision, may_run_on
from gateway.db.sqlite import SqliteDatabase, hold_file
from gateway.errors import ConfigurationError
from gateway.urls import printable_url, sqlite_path


async def open_database(url: str, *, pool_size: int, jitter: Callable[[], float]) -> Database:
    """An existing, migrated database.

    ``pool_size`` and ``jitter``, numbers from 0 to 1, are PostgreSQL's. Raises `Unavailable` when it cannot
    be opened, `ConfigurationError` when it will not do.
    """
    path = sqlite_path(url)
    if path is not None:
        return await SqliteDatabase.open(path)
    server = await _connecting().find_server(url)
    opened: Database = await _postgres().PostgresDatabase.open(server, pool_size=pool_size, jitter=jitter)
    return opened


async def migrate(url: str) -> bool:
    """Bring a database to this version's schema; True when there was something to do.

    What the next version has made of it is left as it is. Raises `ConfigurationError` when it is newer than
    that, or cannot be made or read.
    """
    if may_run_on(await read_revision(url)):
        return False
    path = sqlite_path(url)
    try:
        # Alembic takes a fifth of a second to import and most starts have nothing to migrate.
        migrations = importlib.import_module("gateway.db.migrate")
        if path is not None:
            await asyncio.to_thread(migrations.migrate, path)
        else:
            upgrade = partial(migrations.upgrade, name=printable_url(url))
            async with _connecting().server_of(url) as server:
                await _postgres().migrate(server, upgrade)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"The database {printable_url(url)} cannot be used: {error}.") from error
    return True


async def read_revision(url: str) -> str | None:
    """The revision of a database's schema; None where there is no database, or nothing of ours in it.

    Raises `ConfigurationError` when it cannot be read.
    """
    path = sqlite_path(url)
    try:
        if path is not None:
            return await asyncio.to_thread(current_revision, path)
        async with _connecting().server_of(url) as server:
            revision: str | None = await _postgres().current_revision(server)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"The database {printable_url(url)} cannot be used: {error}.") from error
    return revision


@asynccontextmanager
async def hold_alone(url: str, tables: Sequence[sa.Table]) -> AsyncIterator[Tx]:
    """An existing, migrated database alone, in one transaction; see `hold_file` and PostgreSQL's own."""
    path = sqlite_path(url)
    if path is not None:
        with hold_file(path) as tx:
            yield tx
        return
    async with (
        _connecting().server_of(url) as server,
        _postgres().hold_alone(server, tables, name=printable_url(url)) as tx,
    ):
        yield tx


def _postgres() -> ModuleType:
    return importlib.import_module("gateway.db.postgres")


def _connecting() -> ModuleType:
    return importlib.import_module("gateway.db.connecting")
