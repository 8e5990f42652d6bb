"""Storage on a directory: atomic writes, and links signed with HMAC-SHA256.

DIRECTORY/
  .incoming/<id>/            objects being written or deleted; readers never look here
  tenant/task/0.wav.object/  one finished object: appears, and goes, by one rename
    content                  the bytes
    about.json               content type, metadata, etag
"""

import asyncio
import base64
import hmac
import secrets
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from urllib.parse import quote

import orjson

from gateway.errors import ErrorCode, GatewayError, NotFound, StorageError
from gateway.ports import Clock, Listing, SignedUrl, StoredFile
from gateway.storage import disk, walk
from gateway.storage.names import OBJECT_SUFFIX, checked_name
from gateway.storage.urls import UrlCache

_INCOMING = ".incoming"
#: Nothing is written for this long without having been left behind by a process that died.
_LEFTOVER_AGE_S = 6 * 3600
_LEAST_FREE_BYTES = 64 * 1024 * 1024
#: Blocks are gathered up to this size before a thread is troubled.
_BUFFER_BYTES = 512 * 1024
_READ_BYTES = 256 * 1024


class LocalStorage:
    """`Storage` and `FileSource` on a directory that one or several processes of a machine share.

    ``secret`` signs links; ``public_url`` is where callers reach ``/files/…``; ``url_ttl_s`` is a link's life
    in seconds.
    """

    def __init__(
        self, directory: Path, secret: bytes, public_url: str, clock: Clock, *, url_ttl_s: int = 43_200
    ) -> None:
        self._directory = directory
        # A key of its own: what else is signed with this secret can never pass for a link.
        self._key = hmac.digest(secret, b"gateway file links v1", "sha256")
        self._public_url = public_url.rstrip("/")
        self._clock = clock
        self._url_ttl_s = url_ttl_s
        self._urls = UrlCache(self._sign, clock)

    async def open(self) -> None:
        """Make the directory and clear what dead processes left behind. Raises `StorageError`."""
        await self.tidy()

    async def create(self, name: str, *, content_type: str, metadata: Mapping[str, str]) -> "LocalWriter":
        target = self._object_folder(name)
        identity = secrets.token_hex(16)
        about = orjson.dumps(
            {"name": name, "content_type": content_type, "metadata": dict(metadata), "etag": f'"{identity}"'}
        )
        folder = self._directory / _INCOMING / identity
        return LocalWriter(disk.IncomingObject(folder, target, about))

    async def signed_url(self, name: str) -> SignedUrl:
        return await self._urls.get(checked_name(name))

    async def read(self, name: str) -> AsyncGenerator[bytes]:
        path = self._object_folder(name) / disk.CONTENT
        at = 0
        while block := await disk.in_thread(_read_block, path, at):
            at += len(block)
            yield block

    async def delete(self, name: str) -> None:
        target = self._object_folder(name)
        self._urls.forget(name)
        await disk.in_thread(disk.remove, target, self._directory / _INCOMING / secrets.token_hex(16))

    async def list(self, cursor: str, *, limit: int) -> Listing:
        objects = await disk.in_thread(walk.list_objects, self._directory, after=cursor, limit=limit)
        return Listing(objects, objects[-1].name if len(objects) == limit else None)

    async def tidy(self) -> None:
        older_than_s = self._clock.now_ms() / 1000 - _LEFTOVER_AGE_S
        await disk.in_thread(disk.sweep, self._directory / _INCOMING, older_than_s=older_than_s)

    async def check(self) -> None:
        await disk.in_thread(disk.probe, self._directory / _INCOMING, least_free_bytes=_LEAST_FREE_BYTES)

    async def close(self) -> None:
        await self._urls.close()

    async def resolve(self, name: str, expires: str, signature: str) -> StoredFile:
        """See `FileSource`."""
        # Compared before anything is looked at: only links of ours are told that they have expired.
        if not hmac.compare_digest(self._signature(name, expires), signature.encode(errors="replace")):
            raise GatewayError(
                "This link is not valid. It must be used exactly as it was given.",
                code=ErrorCode.LINK_INVALID,
            )
        if int(expires) * 1000 <= self._clock.now_ms():
            raise GatewayError(
                "This link has expired. Ask for the task's status again to get a fresh one.",
                code=ErrorCode.LINK_INVALID,
            )
        return await disk.in_thread(_stat, self._object_folder(name))

    async def _sign(self, name: str) -> SignedUrl:
        expires_s = self._clock.now_ms() // 1000 + self._url_ttl_s
        signature = self._signature(name, str(expires_s)).decode("ascii")
        url = f"{self._public_url}/files/{quote(name, safe='/~')}?expires={expires_s}&signature={signature}"
        return SignedUrl(url, expires_s * 1000)

    def _signature(self, name: str, expires: str) -> bytes:
        # A tab is in neither part (names are printable), so no two links share a message.
        message = f"{expires}\t{name}".encode(errors="replace")
        return base64.urlsafe_b64encode(hmac.digest(self._key, message, "sha256")).rstrip(b"=")

    def _object_folder(self, name: str) -> Path:
        return self._directory / f"{checked_name(name)}{OBJECT_SUFFIX}"


class LocalWriter:
    """`ObjectWriter` on a file."""

    def __init__(self, incoming: disk.IncomingObject) -> None:
        self._incoming = incoming
        self._blocks: list[bytes] = []
        self._buffered_bytes = 0
        self._committed = False

    async def write(self, block: bytes) -> None:
        self._blocks.append(block)
        self._buffered_bytes += len(block)
        if self._buffered_bytes >= _BUFFER_BYTES:
            await disk.in_thread(self._incoming.write, self._taken())

    async def commit(self) -> None:
        await disk.in_thread(self._incoming.publish, self._taken())
        self._committed = True

    async def abort(self) -> None:
        if not self._committed:
            self._taken()
            # Shielded: the clean-up of a cancelled task is often cancelled itself.
            await asyncio.shield(disk.in_thread(self._incoming.discard))

    def _taken(self) -> list[bytes]:
        blocks, self._blocks, self._buffered_bytes = self._blocks, [], 0
        return blocks


def _read_block(path: Path, at: int) -> bytes:
    with path.open("rb") as content:
        content.seek(at)
        return content.read(_READ_BYTES)


def _stat(folder: Path) -> StoredFile:
    try:
        about = orjson.loads((folder / disk.ABOUT).read_bytes())
        stat = (folder / disk.CONTENT).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound("The audio is no longer stored.", code=ErrorCode.FILE_NOT_FOUND) from error
    except orjson.JSONDecodeError as error:
        raise StorageError("The stored audio is damaged.", internal=f"{folder}: {error}") from error
    return StoredFile(
        path=folder / disk.CONTENT,
        size_bytes=stat.st_size,
        content_type=about["content_type"],
        etag=about["etag"],
        modified_ms=stat.st_mtime_ns // 1_000_000,
    )
