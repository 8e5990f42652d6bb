"""Audio that was too long for an answer: read from where the model put it, and from nowhere else."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.errors import StorageError
from gateway.ports import ObjectSource
from gateway.upstream import faults

logger = logging.getLogger(__name__)


#: Five minutes of the finest audio that a model makes are a quarter of it.
OBJECT_LIMIT_BYTES = 256 << 20


class ObjectReader:
    """Follows a ``gs://`` address of an answer. ``source`` None follows none."""

    def __init__(self, source: ObjectSource | None, limit_bytes: int = OBJECT_LIMIT_BYTES) -> None:
        self._source = source
        self._limit_bytes = limit_bytes

    async def read(self, uri: str, *, within: str | None) -> AsyncGenerator[bytes]:
        """The object's bytes, if it lies under ``within``: an answer must not choose what we read.

        Raises `UpstreamError`.
        """
        if self._source is None or within is None or not uri.startswith(f"{within.rstrip('/')}/"):
            raise faults.misconfigured(f"the answer names {uri}, which is not under the output address")
        left_bytes = self._limit_bytes
        try:
            async with aclosing(self._source.read(uri)) as blocks:
                async for block in blocks:
                    left_bytes -= len(block)
                    if left_bytes < 0:
                        raise faults.bad_answer(f"{uri} is longer than {self._limit_bytes} bytes")
                    yield block
        except StorageError as error:
            raise faults.lost(f"{uri}: {error.internal or error.detail}") from error

    async def delete(self, uri: str) -> None:
        """It was read whole. What cannot be deleted is left to the bucket's lifecycle rule."""
        if self._source is None:
            return
        try:
            await self._source.delete(uri)
        except StorageError as error:
            logger.warning("%s is left behind: %s", uri, error.internal or error.detail)
