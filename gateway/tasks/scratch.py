"""Audio on the disk while it is received, worked on and stored, in files without names.

A file without a name goes with its process, also with one that is killed, so nothing is ever left to sweep.
"""

import asyncio
import contextlib
import errno
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from gateway.errors import StorageError

T = TypeVar("T")

#: What is read at once, like the blocks in which audio comes.
BLOCK_BYTES = 256 << 10
#: What one call may bring: four takes, and what is made of them.
LEAST_FREE_BYTES = 64 << 20


class Scratch:
    """Makes files in ``directory``. What is received into them is at most ``limit_bytes`` together."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._used_bytes = 0

    def new(self) -> "ScratchFile":
        return ScratchFile(self, _NamelessFile(self._directory))

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def trouble(self) -> StorageError | None:
        """Why nothing more should be received now: it would be paid for, and lost."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            disk = os.statvfs(self._directory)
        except OSError as error:
            return StorageError("The disk cannot be used.", internal=f"{type(error).__name__}: {error}")
        if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
            return StorageError("The disk is nearly full.")
        if self._used_bytes + LEAST_FREE_BYTES > self._limit_bytes:
            return StorageError("As much audio lies on the disk as may.")
        return None

    def reserve(self, size_bytes: int) -> None:
        """Raises `StorageError`."""
        if self._used_bytes + size_bytes > self._limit_bytes:
            raise StorageError("As much audio lies on the disk as may.")
        self._used_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        self._used_bytes -= size_bytes


class ScratchFile:
    """One piece of audio. Everything but `close` raises `StorageError` when the disk will not do."""

    def __init__(self, scratch: Scratch, file: "_NamelessFile") -> None:
        self._scratch = scratch
        self._file = file
        self._closed = False
        self._reserved_bytes = 0
        self.size_bytes = 0

    async def append(self, block: bytes) -> None:
        self._scratch.reserve(len(block))
        self._reserved_bytes += len(block)
        at, self.size_bytes = self.size_bytes, self.size_bytes + len(block)
        await _in_thread(lambda: self._file.write(at, block))

    async def read(self, at: int) -> bytes:
        """A block from byte ``at`` on; nothing behind the last."""
        return await _in_thread(lambda: self._file.read(at))

    async def duplicate(self) -> int:
        """A descriptor of its own for whoever works on the file; it stays good when this one is closed."""
        return await _in_thread(self._file.duplicate)

    async def measure(self) -> None:
        """Somebody else has written it: see how long it is."""
        self.size_bytes = await _in_thread(self._file.size)

    async def close(self) -> None:
        """Forget it. Safe to repeat, and while the thread of a caller that was cancelled still writes."""
        if self._closed:
            return
        self._closed = True
        self._scratch.release(self._reserved_bytes)
        # Shielded: the clean-up of a cancelled task is often cancelled itself.
        await asyncio.shield(asyncio.to_thread(self._file.close))


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        detail = "The disk is full." if full else "The disk cannot be used."
        raise StorageError(detail, internal=f"{type(error).__name__}: {error}") from error


class _NamelessFile:
    """The blocking half. The lock is for callers that were cancelled: their threads may be writing still."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def write(self, at: int, block: bytes) -> None:
        with self._lock:
            if self._closed:
                return
            view = memoryview(block)
            while view:
                # A disk that is nearly full takes a part.
                written = os.pwrite(self._opened(), view, at)
                at, view = at + written, view[written:]

    def read(self, at: int) -> bytes:
        with self._lock:
            return b"" if self._file is None else os.pread(self._file.fileno(), BLOCK_BYTES, at)

    def duplicate(self) -> int:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "it is closed")
            return os.dup(self._opened())

    def size(self) -> int:
        with self._lock:
            return 0 if self._file is None else os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        with self._lock:
            self._closed = True
            file, self._file = self._file, None
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()

    def _opened(self) -> int:
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - `close`
        return self._file.fileno()
