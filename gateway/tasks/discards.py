"""Has storage let go of what nothing refers to any more. Safe to run in several processes at once."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from itertools import compress

from gateway.db import discards
from gateway.db.engine import Database
from gateway.errors import StorageError
from gateway.metrics import RetentionMetrics
from gateway.ports import Storage

logger = logging.getLogger(__name__)

#: Objects of one step; of these so many are deleted side by side.
AT_ONCE = 100
_SIDE_BY_SIDE = 8


class Discards:
    """Objects that transactions have discarded: see `gateway.db.discards`."""

    def __init__(self, database: Database, storage: Storage, metrics: RetentionMetrics) -> None:
        self._database = database
        self._storage = storage
        self._metrics = metrics
        self._after = ""

    async def remove_all(self) -> None:
        """Try each once, from where the pass before broke off.

        Raises `StorageError` when storage lets go of none of a whole step: it is left alone then, and the
        next pass begins with other objects, so that those it will never let go of hold up nothing.
        """
        while names := await self._database.read(
            partial(discards.list_discarded, after=self._after, at_most=AT_ONCE)
        ):
            self._after = names[-1]
            if not await self.remove(names):
                raise StorageError(f"None of {len(names)} discarded objects could be deleted.")
        self._after = ""

    async def remove(self, names: Sequence[str]) -> int:
        """Delete discarded objects; how many are gone. The others stay discarded, to be tried again."""
        outcomes: list[StorageError | None] = []
        for first in range(0, len(names), _SIDE_BY_SIDE):
            some = names[first : first + _SIDE_BY_SIDE]
            outcomes += await asyncio.gather(*map(self._delete, some))
        failures = [error for error in outcomes if error is not None]
        gone = tuple(compress(names, (error is None for error in outcomes)))
        self._metrics.objects_deleted(deleted=len(gone), failed=len(failures))
        if failures:
            said = failures[-1].internal or failures[-1].detail
            logger.warning(
                "%d of %d discarded objects could not be deleted yet: %s", len(failures), len(names), said
            )
        if gone:
            await self._database.write(partial(discards.forget, names=gone))
        return len(gone)

    async def _delete(self, name: str) -> StorageError | None:
        try:
            await self._storage.delete(name)
        except StorageError as error:
            return error
        return None
