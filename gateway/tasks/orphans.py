"""Finds audio that was stored and never recorded: its worker died, or had lost the task, in between."""

import logging
from functools import partial

from gateway.db import discards
from gateway.db.engine import Database, Tx
from gateway.errors import StorageError
from gateway.metrics import RetentionMetrics
from gateway.ports import Clock, Listing, Storage
from gateway.tasks.naming import owner_of

logger = logging.getLogger(__name__)

#: What is younger is not looked at: long past the end of any call.
ORPHAN_AGE_MS = 24 * 3_600_000
#: From the end of one walk through all that is stored to the next.
WALK_EVERY_S = 24 * 3600.0
_PAGE = 500


class OrphanSearch:
    """Walks through all that is stored, page by page. What it finds is discarded, as what is deleted is.

    Of a name that is not ours, or of a task that is not in this database, nothing is known: it is left alone.
    """

    def __init__(self, database: Database, storage: Storage, metrics: RetentionMetrics, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._metrics = metrics
        self._clock = clock
        self._cursor = ""
        self._next_at_s = clock.monotonic_s()

    async def look(self) -> None:
        """A walk, if one is due; one that the database broke off goes on where it was.

        Raises `StorageError` or `Unavailable`.
        """
        if self._clock.monotonic_s() < self._next_at_s:
            return
        if not self._cursor:
            await self._storage.tidy()
        while True:
            page = await self._list()
            await self._look_at(page)
            self._cursor = page.next_cursor or ""
            if page.next_cursor is None:
                break
        self._next_at_s = self._clock.monotonic_s() + WALK_EVERY_S

    async def _list(self) -> Listing:
        try:
            return await self._storage.list(self._cursor, limit=_PAGE)
        except StorageError:
            # It may be the cursor that storage does not take.
            self._cursor = ""
            raise

    async def _look_at(self, page: Listing) -> None:
        now_ms = self._clock.now_ms()
        old = [each.name for each in page.objects if each.made_at_ms < now_ms - ORPHAN_AGE_MS]
        owners = {name: owner for name in old if (owner := owner_of(name)) is not None}
        if not owners:
            return
        orphans = await self._database.read(partial(discards.find_orphans, owners=owners))
        if not orphans:
            return
        found = await self._database.write(
            partial(_discard, {name: owners[name] for name in orphans}, now_ms)
        )
        self._metrics.orphans.inc(found)
        logger.warning("%d orphaned objects were found in storage and are deleted", found)


def _discard(owners: dict[str, tuple[str, str]], now_ms: int, tx: Tx) -> int:
    """Looked at again, in the transaction that discards them."""
    return discards.discard(tx, discards.find_orphans(tx, owners), now_ms=now_ms)
