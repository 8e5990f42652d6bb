"""Decoded audio put aside until storage has it, in files without names. Best effort: nothing depends on it.

A file without a name goes with its process, also with one that is killed, so nothing is ever left to sweep.
"""

import asyncio
import contextlib
import io
import logging
import os
import tempfile
import threading
from pathlib import Path

from gateway.errors import StorageError

#: What is read back at once, like the blocks in which audio comes.
BLOCK_BYTES = 256 << 10

logger = logging.getLogger(__name__)


class Spools:
    """Makes spools in ``directory``. Together they hold at most ``limit_bytes``; with 0 they hold nothing."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._told = False

    def new(self) -> "Spool":
        return Spool(self, _NamelessFile(self._directory))

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def reserve(self, size_bytes: int) -> bool:
        if self._used_bytes + size_bytes > self._limit_bytes:
            return False
        self._used_bytes += size_bytes
        return True

    def release(self, size_bytes: int, *, whole: bool) -> None:
        self._used_bytes -= size_bytes
        if whole and size_bytes:
            self._told = False

    def tell(self, why: str) -> None:
        """Log it, but not again before a clip was put aside whole. Nothing is odd where nothing is wanted."""
        if self._limit_bytes and not self._told:
            self._told = True
            logger.warning("audio cannot be put aside, so storage has one chance to take it: %s", why)


class Spool:
    """The audio of one clip. ``whole`` while everything that was appended can be read again."""

    def __init__(self, spools: Spools, file: "_NamelessFile") -> None:
        self._spools = spools
        self._file = file
        self._closed = False
        self.size_bytes = 0
        self.whole = True

    async def append(self, block: bytes) -> None:
        """Raises nothing: where there is no room, the spool is given up and takes none."""
        if not self.whole:
            return
        if not self._spools.reserve(len(block)):
            await self._give_up("as much is put aside as may be")
            return
        at, self.size_bytes = self.size_bytes, self.size_bytes + len(block)
        try:
            await asyncio.to_thread(self._file.write, at, block)
        except OSError as error:
            await self._give_up(f"{type(error).__name__}: {error}")

    async def read(self, at: int) -> bytes:
        """A block from byte ``at`` on, which is not behind the last. Raises `StorageError`."""
        try:
            block = await asyncio.to_thread(self._file.read, at, min(BLOCK_BYTES, self.size_bytes - at))
        except OSError as error:
            await self._give_up(f"{type(error).__name__}: {error}")
            raise StorageError("The audio put aside cannot be read.", internal=str(error)) from error
        if not block:
            await self._give_up("a file is shorter than what was written to it")
            raise StorageError("The audio put aside cannot be read.")
        return block

    async def close(self) -> None:
        """Forget it. Safe to repeat, and while the thread of a caller that was cancelled still writes."""
        if self._closed:
            return
        self._closed = True
        size_bytes, self.size_bytes = self.size_bytes, 0
        whole, self.whole = self.whole, False
        self._spools.release(size_bytes, whole=whole)
        if size_bytes:
            # Shielded: the clean-up of a cancelled task is often cancelled itself.
            await asyncio.shield(asyncio.to_thread(self._file.close))

    async def _give_up(self, why: str) -> None:
        self._spools.tell(why)
        self.whole = False
        await self.close()


class _NamelessFile:
    """The blocking half. The lock is for callers that were cancelled: their threads may be writing still."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: io.FileIO | None = None
        self._closed = False
        self._lock = threading.Lock()

    def write(self, at: int, block: bytes) -> None:
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                self._directory.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - `close`
            view = memoryview(block)
            while view:
                # A disk that is nearly full takes a part.
                written = os.pwrite(self._file.fileno(), view, at)
                at, view = at + written, view[written:]

    def read(self, at: int, size_bytes: int) -> bytes:
        with self._lock:
            return b"" if self._file is None else os.pread(self._file.fileno(), size_bytes, at)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            file, self._file = self._file, None
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
