"""When keys were used last: noted in memory with each request, written in batches."""

from functools import partial

from gateway.db import accounts
from gateway.db.engine import Database
from gateway.ports import Clock

# Notes of a database that is away must not grow for ever; what is left out is noted at its next use.
_MOST = 10_000


class LastUse:
    """Remembers uses until `flush` writes them. A killed process forgets those since the last flush."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._uses: dict[str, int] = {}

    def note(self, key_id: str) -> None:
        if key_id in self._uses or len(self._uses) < _MOST:
            self._uses[key_id] = self._clock.now_ms()

    async def flush(self) -> None:
        """Write what was noted. Raises `Unavailable`; then the notes are kept for the next time."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            await self._database.write(partial(accounts.note_uses, uses=uses))
        except BaseException:  # whatever it was, the notes are not lost to it
            self._uses = uses | self._uses
            raise
