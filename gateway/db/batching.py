"""Read many rows in one transaction: look-ups that arrive while one is under way share the next.

A poll that finds the reader busy costs a share of a query, not a query. Nothing is cached: every answer
was read after it was asked for.
"""

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Generic, Protocol, TypeVar

from gateway.db.engine import Database, Tx

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

_BATCH_LIMIT = 256


class Fetch(Protocol[V_co]):
    """One query for many ids."""

    def __call__(self, tx: Tx, ids: Iterable[str]) -> Mapping[str, V_co]: ...


class BatchReader(Generic[V]):
    """Look-ups by id through one ``fetch(tx, ids)``; ids it does not return are None."""

    def __init__(self, database: Database, fetch: Fetch[V]) -> None:
        self._database = database
        self._fetch = fetch
        self._waiting: dict[str, asyncio.Future[V | None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def get(self, key: str) -> V | None:
        """The row as it is now. Raises `Unavailable` like `Database.read`."""
        future = self._waiting.get(key)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._waiting[key] = future
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read_batches())
        return await asyncio.shield(future)

    async def _read_batches(self) -> None:
        while self._waiting:
            batch = dict(list(self._waiting.items())[:_BATCH_LIMIT])
            for key in batch:
                del self._waiting[key]
            try:
                found = await self._database.read(partial(self._fetch, ids=list(batch)))
            except BaseException as error:  # noqa: BLE001 - whatever it was, every waiter must hear of it
                for future in batch.values():
                    if not future.done():
                        future.set_exception(error)
                        future.exception()
            else:
                for key, future in batch.items():
                    if not future.done():
                        future.set_result(found.get(key))
