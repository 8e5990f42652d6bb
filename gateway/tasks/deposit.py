"""One object on its way into storage, which can be tried again from what was put aside."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from gateway.errors import StorageError
from gateway.ports import ObjectWriter, Storage
from gateway.tasks.spool import Spool

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Patience:
    """How long storage may go on holding up the answer of one call, which has a deadline and was paid for."""

    left_s: float


class Deposit:
    """Takes an object once, and gives it to storage as often as it needs.

    Storage's trouble is kept in ``trouble`` instead of being raised, so that whoever fills the deposit goes
    on; ``object_name`` is set once the object is visible. ``name_of`` names each try, counted from 1: names
    are never reused, and a try may have succeeded although it seemed to fail.
    """

    def __init__(
        self,
        storage: Storage,
        spool: Spool,
        patience: Patience,
        name_of: Callable[[int], str],
        content_type: str,
        metadata: Mapping[str, str],
    ) -> None:
        self._storage = storage
        self._spool = spool
        self._patience = patience
        self._name_of = name_of
        self._content_type = content_type
        self._metadata = metadata
        self._tries = 1
        self._writer: ObjectWriter | None = None
        # Names under which the object may have become visible unseen.
        self._doubtful: list[str] = []
        self.trouble: StorageError | None = None
        self.object_name: str | None = None

    @property
    def can_retry(self) -> bool:
        return self.object_name is None and self._spool.whole

    async def write(self, block: bytes) -> None:
        await self._spool.append(block)
        await self._while_patient(partial(self._send, block))

    async def finish(self) -> None:
        """All of it was written."""
        await self._while_patient(self._commit)
        if self.object_name is not None:
            await self._spool.close()

    async def retry(self) -> None:
        """Give storage what was put aside, under a new name."""
        await self._withdraw()
        self._tries += 1
        self._note(await _trouble_of(self._send_all))
        if self.object_name is not None:
            await self._spool.close()
            await self._remove_doubtful()

    async def abort(self) -> None:
        """Forget it, and leave nothing of it in storage unless it is visible already. Safe to repeat."""
        try:
            await self._withdraw()
        finally:
            await self._spool.close()

    async def _while_patient(self, step: Callable[[], Awaitable[None]]) -> None:
        """Unless there was trouble before. While the spool has everything, to be slow is trouble too."""
        if self.trouble is None:
            # What storage has of it is withdrawn when there is time: that may be as slow again.
            self._note(await self._trouble_of(step))

    def _note(self, trouble: StorageError | None) -> None:
        self.trouble = trouble
        if trouble is not None:
            logger.warning("storage did not take a clip: %s", trouble.internal or trouble.detail)

    async def _trouble_of(self, step: Callable[[], Awaitable[None]]) -> StorageError | None:
        if not self._spool.whole:
            return await _trouble_of(step)
        if self._patience.left_s <= 0:
            return StorageError("Storage takes too long.")
        scope = asyncio.timeout(self._patience.left_s)
        ends_at_s = asyncio.get_running_loop().time() + self._patience.left_s
        try:
            async with scope:
                return await _trouble_of(step)
        except TimeoutError:
            if not scope.expired():
                raise
            return StorageError("Storage takes too long.")
        finally:
            self._patience.left_s = ends_at_s - asyncio.get_running_loop().time()

    async def _send_all(self) -> None:
        at = 0
        while at < self._spool.size_bytes:
            block = await self._spool.read(at)
            await self._send(block)
            at += len(block)
        await self._commit()

    async def _send(self, block: bytes) -> None:
        if self._writer is None:
            self._writer = await self._storage.create(
                self._name_of(self._tries), content_type=self._content_type, metadata=self._metadata
            )
        await self._writer.write(block)

    async def _commit(self) -> None:
        if self._writer is None:
            raise StorageError("There is nothing to store.")
        self._doubtful.append(self._name_of(self._tries))
        await self._writer.commit()
        self.object_name = self._doubtful.pop()
        self._writer = None

    async def _withdraw(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and (trouble := await _trouble_of(writer.abort)) is not None:
            logger.warning("a clip could not be withdrawn: %s", trouble.internal or trouble.detail)

    async def _remove_doubtful(self) -> None:
        """Withdrawing was best effort, and storage was in trouble then."""
        while self._doubtful:
            name = self._doubtful.pop()
            if (trouble := await _trouble_of(partial(self._storage.delete, name))) is not None:
                logger.warning("%s may be stored unused: %s", name, trouble.internal or trouble.detail)


async def _trouble_of(step: Callable[[], Awaitable[None]]) -> StorageError | None:
    try:
        await step()
    except StorageError as error:
        return error
    return None
