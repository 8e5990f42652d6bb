"""Stand-ins that break where the real thing seldom does: each wraps the real one and breaks on request."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TypeVar

from gateway.db.engine import Database, Tx
from gateway.errors import StorageError, Unavailable
from gateway.ports import Listing, ObjectWriter, SignedUrl, Storage

T = TypeVar("T")


class FailingStorage:
    """A storage that fails at one point, the next ``failures`` times, once ``after`` others passed.

    ``at`` is ``create``, ``write``, ``commit``, ``read``, or ``answer``: the commit is done, and yet it
    fails. ``only`` is a part of the names that it is about. So do its next ``listings``, and deleting what
    is ``held``. All else is the real one's.
    """

    def __init__(
        self,
        storage: Storage,
        failures: int = 0,
        *,
        at: str = "commit",
        after: int = 0,
        only: str = "",
        held: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._storage = storage
        self.failures = failures
        self._at = at
        self._after = after
        self._only = only
        self.created: list[str] = []
        self.held = held
        self.listings = 0
        self.tidied = 0

    async def create(self, name: str, *, content_type: str, metadata: Mapping[str, str]) -> "FailingWriter":
        self.created.append(name)
        self.pass_or_fail("create", name)
        writer = await self._storage.create(name, content_type=content_type, metadata=metadata)
        return FailingWriter(self, writer, name)

    async def signed_url(self, name: str) -> SignedUrl:
        return await self._storage.signed_url(name)

    def read(self, name: str) -> AsyncGenerator[bytes]:
        return self._read(name)

    async def _read(self, name: str) -> AsyncGenerator[bytes]:
        self.pass_or_fail("read", name)
        async for block in self._storage.read(name):
            yield block

    async def delete(self, name: str) -> None:
        if self.held(name):
            raise StorageError("The audio could not be deleted.", internal="it is held")
        await self._storage.delete(name)

    async def list(self, cursor: str, *, limit: int) -> Listing:
        if self.listings:
            self.listings -= 1
            raise StorageError("The audio could not be listed.")
        return await self._storage.list(cursor, limit=limit)

    async def tidy(self) -> None:
        self.tidied += 1
        await self._storage.tidy()

    async def check(self) -> None:
        await self._storage.check()

    async def close(self) -> None:
        await self._storage.close()

    def pass_or_fail(self, point: str, name: str) -> None:
        if point != self._at or self._only not in name:
            return
        if self._after:
            self._after -= 1
        elif self.failures:
            self.failures -= 1
            raise StorageError("The disk for audio is full.")


class FailingWriter:
    def __init__(self, storage: FailingStorage, writer: ObjectWriter, name: str) -> None:
        self._storage = storage
        self._writer = writer
        self._name = name
        self._unseen = False  # the object is there, and who wrote it was told that it is not

    async def write(self, block: bytes) -> None:
        self._storage.pass_or_fail("write", self._name)
        await self._writer.write(block)

    async def commit(self) -> None:
        self._storage.pass_or_fail("commit", self._name)
        await self._writer.commit()
        self._unseen = True
        self._storage.pass_or_fail("answer", self._name)
        self._unseen = False

    async def abort(self) -> None:
        await self._writer.abort()
        if self._unseen:
            await self._storage.delete(self._name)


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
