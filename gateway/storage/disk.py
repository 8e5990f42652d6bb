"""The blocking half of local storage: what happens on the disk, and in which order.

An object is a folder that is filled out of sight and renamed into place. The rename is the one moment at
which content and description appear together, and it fails where another object stands already.
"""

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from gateway.errors import StorageError

CONTENT = "content"
ABOUT = "about.json"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})
_PUBLISH_TRIES = 100

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking disk work off the event loop; what the system says becomes `StorageError`."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as error:
        detail = (
            "The disk for audio is full." if error.errno in _FULL else "The audio directory cannot be used."
        )
        raise StorageError(detail, internal=f"{type(error).__name__}: {error}") from error


class IncomingObject:
    """An object being written to ``folder``, to become ``target``.

    The lock matters when a caller was cancelled: its thread may still be writing when the clean-up starts.
    """

    def __init__(self, folder: Path, target: Path, about: bytes) -> None:
        self._folder = folder
        self._target = target
        self._about = about
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._published = False
        self._discarded = False

    def write(self, blocks: Sequence[bytes]) -> None:
        with self._lock:
            file = self._opened()
            for block in blocks:
                file.write(block)

    def publish(self, blocks: Sequence[bytes]) -> None:
        """Write the last blocks and make the object visible, durably. Raises OSError or `StorageError`."""
        with self._lock:
            file = self._opened()
            for block in blocks:
                file.write(block)
            _sync_and_close(file)
            with (self._folder / ABOUT).open("xb") as about:
                about.write(self._about)
                _sync_and_close(about)
            _sync_folder(self._folder)
            _rename_into_place(self._folder, self._target)
            self._published = True
            _sync_folder(self._target.parent)

    def discard(self) -> None:
        """Leave nothing, neither the unfinished object nor a published one that nobody was told about."""
        with self._lock:
            self._discarded = True
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
            if self._published:
                remove(self._target, self._folder)
                self._published = False
            shutil.rmtree(self._folder, ignore_errors=True)

    def _opened(self) -> BinaryIO:
        if self._discarded:
            raise StorageError("The object was given up before it was written.")
        if self._file is None:
            self._folder.mkdir(parents=True)
            self._file = (self._folder / CONTENT).open("xb")
        return self._file


def remove(target: Path, trash: Path) -> None:
    """Remove the object ``target`` in one step (by way of ``trash``); not being there is fine."""
    try:
        trash.parent.mkdir(parents=True, exist_ok=True)
        target.rename(trash)
    except FileNotFoundError:
        return
    shutil.rmtree(trash, ignore_errors=True)
    # The folders of the task and the tenant go with their last object; the trash keeps the topmost one.
    for parent in list(target.parents)[:-1]:
        try:
            parent.rmdir()
        except OSError:
            break


def sweep(incoming: Path, *, older_than_s: float) -> None:
    """Make the folder, and remove what was last touched before ``older_than_s`` (seconds since the epoch)."""
    incoming.mkdir(parents=True, exist_ok=True)
    for folder in incoming.iterdir():
        with suppress(FileNotFoundError):
            touched_s = max(path.stat().st_mtime for path in (folder, *folder.glob("*")))
            if touched_s < older_than_s:
                shutil.rmtree(folder, ignore_errors=True)


def probe(incoming: Path, *, least_free_bytes: int) -> None:
    """Write and remove a byte. Raises OSError, or `StorageError` when little room is left."""
    incoming.mkdir(parents=True, exist_ok=True)
    file = incoming / f"probe-{os.getpid()}-{threading.get_ident()}"
    try:
        file.write_bytes(b"1")
    finally:
        file.unlink(missing_ok=True)
    free_bytes = shutil.disk_usage(incoming).free
    if free_bytes < least_free_bytes:
        raise StorageError("The disk for audio is full.", internal=f"{free_bytes} bytes are free")


def _rename_into_place(folder: Path, target: Path) -> None:
    for _ in range(_PUBLISH_TRIES):
        new = [parent for parent in target.parents if not parent.is_dir()]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError):
            continue  # made and removed by others in between
        try:
            folder.rename(target)
        except FileNotFoundError:
            continue  # the deletion of the last object beside us took the parent away
        except OSError as error:
            if error.errno in _TAKEN:
                raise StorageError("An object of this name exists already.", internal=str(target)) from error
            raise
        # Not before: every moment between making a folder and filling it is one in which it can be removed.
        for made in new:
            with suppress(FileNotFoundError):
                _sync_folder(made.parent)
        return
    raise StorageError("The audio directory cannot be used.", internal=f"{target.parent} keeps vanishing")


def _sync_and_close(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
