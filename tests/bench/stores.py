"""The kinds of database that is measured by itself: each new, migrated, and thrown away."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from gateway.db.engine import Database
from gateway.db.migrate import migrate

#: Opens a database of its own below a directory.
Store = Callable[[Path], AbstractAsyncContextManager[Database]]


@asynccontextmanager
async def _sqlite(directory: Path) -> AsyncIterator[Database]:
    place = Path(tempfile.mkdtemp(prefix="sqlite-", dir=directory))
    path = place / "gateway.db"
    await asyncio.to_thread(migrate, path)
    database = await Database.open(path)
    try:
        yield database
    finally:
        await database.close()
        shutil.rmtree(place)


STORES: dict[str, Store] = {"SQLite": _sqlite}
