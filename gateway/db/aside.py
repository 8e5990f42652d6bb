"""Long reads on connections of their own: polls and admissions must not wait for somebody's search."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from gateway.db.engine import Database, Tx

T = TypeVar("T")

_AT_ONCE = 4


class Reader(Protocol):
    """Where transactions that only look are run."""

    async def read(self, function: Callable[[Tx], T]) -> T: ...


class Aside:
    """Opens the database once more for each read, a few of them at a time."""

    def __init__(
        self, database: Database, open_again: Callable[[], AbstractAsyncContextManager[Database]]
    ) -> None:
        self._database = database
        self._open_again = open_again
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def read(self, function: Callable[[Tx], T]) -> T:
        """As `Database.read`. Raises `Unavailable`."""
        async with self._turns:
            # The one that is open knows when it was closed, deleted or replaced; another would begin anew.
            await self._database.read(lambda _: None)
            async with self._open_again() as database:
                return await database.read(function)
