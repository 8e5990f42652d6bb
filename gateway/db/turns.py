"""Lines of those who wait for the same thing, in this process, before they take a connection to wait with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.db.engine import unavailable


class _Line:
    __slots__ = ("lock", "people")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.people = 0


class Turns:
    """First come, first served, for each name. A line that nobody stands in is forgotten."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def take(self, name: str) -> AsyncIterator[None]:
        """Raises `Unavailable` when the turn does not come in time."""
        line = self._lines.setdefault(name, _Line())
        line.people += 1
        try:
            await self._wait(line)
            try:
                yield
            finally:
                line.lock.release()
        finally:
            line.people -= 1
            if not line.people:
                del self._lines[name]

    async def _wait(self, line: _Line) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await line.lock.acquire()
        except TimeoutError:
            raise unavailable("too many waited for the same tenant") from None
