"""One object on its way into storage, which can be tried again as often as it needs."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from gateway.errors import StorageError
from gateway.ports import ObjectWriter, Storage
from gateway.tasks.scratch import ScratchFile

logger = logging.getLogger(__name__)


class Deposit:
    """Gives a file to storage.

    Storage's trouble is kept in ``trouble`` instead of being raised; ``object_name`` is set once the object
    is visible. ``name_of`` names each try, counted from 1: names are never reused, and a try may have
    succeeded although it seemed to fail.
    """

    def __init__(
        self,
        storage: Storage,
        file: ScratchFile,
        name_of: Callable[[int], str],
        content_type: str,
        metadata: Mapping[str, str],
    ) -> None:
        self._storage = storage
        self._file = file
        self._name_of = name_of
        self._content_type = content_type
        self._metadata = metadata
        self._tries = 0
        self._writer: ObjectWriter | None = None
        # Names under which the object may have become visible unseen.
        self._doubtful: list[str] = []
        self.trouble: StorageError | None = None
        self.object_name: str | None = None

    async def store(self) -> None:
        """Try once, under a new name."""
        await self.withdraw()
        self._tries += 1
        self.trouble = await _trouble_of(self._send)
        if self.trouble is not None:
            logger.warning("storage did not take a clip: %s", self.trouble.internal or self.trouble.detail)
        else:
            await self._remove_doubtful()

    async def withdraw(self) -> None:
        """Leave nothing in storage of what is not visible. Safe to repeat."""
        writer, self._writer = self._writer, None
        if writer is not None and (trouble := await _trouble_of(writer.abort)) is not None:
            logger.warning("a clip could not be withdrawn: %s", trouble.internal or trouble.detail)

    async def _send(self) -> None:
        name = self._name_of(self._tries)
        self._writer = writer = await self._storage.create(
            name, content_type=self._content_type, metadata=self._metadata
        )
        at = 0
        while block := await self._file.read(at):
            await writer.write(block)
            at += len(block)
        self._doubtful.append(name)
        await writer.commit()
        self.object_name = self._doubtful.pop()
        self._writer = None

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
