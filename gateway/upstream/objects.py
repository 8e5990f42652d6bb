"""Audio that was too long for an answer: read from where the model put it, and from nowhere else."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.errors import StorageError
from gateway.ports import ObjectSource
from gateway.upstream import faults

logger = logging.getLogger(__name__)


class ObjectReader:
    """Follows a ``gs://`` address of an answer. ``source`` None follows none."""

    def __init__(self, source: ObjectSource | None) -> None:
        self._source = source

    async def read(self, uri: str, *, within: str | None) -> AsyncGenerator[bytes]:
        """The object's bytes, if it lies under ``within``: an answer must not choose what we read.

        Raises `UpstreamError`.
        """
        if self._source is None or within is None or not uri.startswith(f"{within.rstrip('/')}/"):
            raise faults.misconfigured(f"the answer names {uri}, which is not under the output address")
        try:
            async with aclosing(self._source.read(uri)) as blocks:
                async for block in blocks:
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
