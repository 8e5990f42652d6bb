"""One object into storage, signed, read by its link, and out again: all that storage is needed for."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from gateway.errors import GatewayError, StorageError
from gateway.ports import Storage

CONTENT = b"Written by gateway check, which deletes it again.\n"
_TIDY_TIMEOUT_S = 2.0


async def probe_storage(storage: Storage, name: str, read: Callable[[str], Awaitable[bytes]]) -> None:
    """``read`` gets what is behind a link. Raises `StorageError` that begins with the step that failed.

    Whatever happens, also when this is cancelled, the object is deleted as far as storage lets it.
    """
    writer = await storage.create(name, content_type="text/plain", metadata={})
    try:
        with _step("Writing"):
            await writer.write(CONTENT)
            await writer.commit()
        with _step("Signing"):
            link = await storage.signed_url(name)
        with _step("Reading by a signed link"):
            _check_same(await read(link.url))
        with _step(f"Deleting (delete {name} by hand)"):
            await storage.delete(name)
    # Also when time is over: nothing of it may stay.
    except BaseException:
        for undo in (writer.abort, partial(storage.delete, name)):
            with suppress(GatewayError, OSError):
                await asyncio.wait_for(undo(), _TIDY_TIMEOUT_S)
        raise


def _check_same(content: bytes) -> None:
    if content != CONTENT:
        raise StorageError("It gave something else than was written.")


@contextmanager
def _step(what: str) -> Iterator[None]:
    try:
        yield
    except GatewayError as error:
        raise StorageError(f"{what} failed. {error.detail}", internal=error.internal) from error
    except OSError as error:
        raise StorageError(f"{what} failed.", internal=f"{type(error).__name__}: {error}") from error


@contextmanager
def leaving_no_folders(folder: Path) -> Iterator[None]:
    """Folders on the way to this one that were not there are gone again afterwards, unless they are used."""
    missing = [each for each in (folder, *folder.absolute().parents) if not each.exists()]
    try:
        yield
    finally:
        for each in missing:
            with suppress(OSError):
                each.rmdir()
