"""The kinds of database that are measured by themselves: each new, migrated, filled, and thrown away."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from pathlib import Path

from gateway.db.engine import Database
from gateway.db.opening import migrate, open_database
from tests.postgres import start_postgres

#: Opens a database of its own below a directory, once these statements have been run in it.
Store = Callable[[Path, Sequence[str]], AbstractAsyncContextManager[Database]]

_POOL = 5


@asynccontextmanager
async def _sqlite(directory: Path, statements: Sequence[str]) -> AsyncIterator[Database]:
    place = Path(tempfile.mkdtemp(prefix="sqlite-", dir=directory))
    path = place / "gateway.db"

    def fill() -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executescript(";".join(statements))

    async with _opened(f"sqlite+aiosqlite:///{path}", fill) as database:
        yield database
    shutil.rmtree(place)


@asynccontextmanager
async def _postgres(_directory: Path, statements: Sequence[str]) -> AsyncIterator[Database]:
    with start_postgres(lasting=True) as server:
        server.execute("CREATE DATABASE gateway")
        fill = partial(server.execute, *statements, database="gateway")
        async with _opened(server.url("gateway"), fill) as database:
            yield database


@asynccontextmanager
async def _opened(url: str, fill: Callable[[], None]) -> AsyncIterator[Database]:
    await migrate(url)
    await asyncio.to_thread(fill)
    database = await open_database(url, pool_size=_POOL, jitter=lambda: 0.5)
    try:
        yield database
    finally:
        await database.close()


STORES: dict[str, Store] = {"SQLite": _sqlite, "PostgreSQL": _postgres}
