"""Stand-ins that break where the real thing seldom does: each wraps the real one and breaks on request."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from gateway.db.engine import Database, Tx
from gateway.errors import StorageError, Unavailable
from gateway.ports import ObjectWriter, SignedUrl, Storage

T = TypeVar("T")


class FailingStorage:
    """A storage whose next ``failures`` commits fail; all else is the real one's."""

    def __init__(self, storage: Storage, failures: int = 0) -> None:
        self._storage = storage
        self.failures = failures

    async def create(self, name: str, *, content_type: str, metadata: Mapping[str, str]) -> "FailingWriter":
        return FailingWriter(
            self, await self._storage.create(name, content_type=content_type, metadata=metadata)
        )

    async def signed_url(self, name: str) -> SignedUrl:
        return await self._storage.signed_url(name)

    async def delete(self, name: str) -> None:
        await self._storage.delete(name)

    async def check(self) -> None:
        await self._storage.check()

    async def close(self) -> None:
        await self._storage.close()


class FailingWriter:
    def __init__(self, storage: FailingStorage, writer: ObjectWriter) -> None:
        self._storage = storage
        self._writer = writer

    async def write(self, block: bytes) -> None:
        await self._writer.write(block)

    async def commit(self) -> None:
        if self._storage.failures:
            self._storage.failures -= 1
            raise StorageError("The disk for audio is full.")
        await self._writer.commit()

    async def abort(self) -> None:
        await self._writer.abort()


class FailingDatabase:
    """A database that is unavailable for the next ``failures`` writes, once ``after`` others were taken."""

    def __init__(self, database: Database, *, after: int, failures: int) -> None:
        self._database = database
        self.after = after
        self.failures = failures

    async def read(self, function: Callable[[Tx], T]) -> T:
        return await self._database.read(function)

    async def write(self, function: Callable[[Tx], T]) -> T:
        if self.after:
            self.after -= 1
        elif self.failures:
            self.failures -= 1
            raise Unavailable("not now", internal="disk I/O error")
        return await self._database.write(function)
