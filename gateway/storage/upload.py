"""One object on its way into Cloud Storage: a single request when it is small, else a resumable upload.

Document: cloud.google.com/storage/docs/performing-resumable-uploads. What it leaves to the client:

- Chunks are multiples of 256 KiB, except the last. The total is unknown (``*``) until then.
- The server may keep less of a chunk than was sent, and says so in Range (absent means nothing). What it has
  not kept stays in our buffer, so an upload survives any number of interruptions.
- When the answer to a final request is lost, the object may exist. Every object carries an upload id of ours,
  which tells our own object from somebody else's.
"""

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from gateway.errors import StorageError
from gateway.storage.api import RETRIED_STATUSES, GoogleApi, Retries, RetryPolicy, failure

CHUNK_STEP_BYTES = 256 * 1024
CHUNK_BYTES = 2 * CHUNK_STEP_BYTES

_DONE = frozenset({httpx.codes.OK, httpx.codes.CREATED})
_RESUME = 308  # "Resume Incomplete"; HTTP's own name for the number is Permanent Redirect
_SESSION_GONE = frozenset({httpx.codes.NOT_FOUND, httpx.codes.GONE})
#: The clean-up is worth a few tries, not a worker's time.
_CLEAN_UP = RetryPolicy(tries=3, deadline_s=10.0)
#: The key of our own mark in an object's metadata.
UPLOAD_ID = "upload-id"
_RANGE = re.compile(r"bytes=0-(-1|\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """Where an object is read and deleted, and where uploads of it start (never replacing another)."""

    object_url: str
    upload_url: str


class _Phase(Enum):
    OPEN = "open"
    FINISHING = "finishing"  # the object may exist from now on
    COMMITTED = "committed"
    ABORTED = "aborted"


class GcsWriter:
    """`ObjectWriter` on a bucket. Holds at most a chunk (512 KiB), twice while it is sent, and one block."""

    def __init__(
        self, api: GoogleApi, place: ObjectPlace, resource: Mapping[str, Any], upload_id: str
    ) -> None:
        self._api = api
        self._place = place
        self._resource = resource
        self._upload_id = upload_id
        self._phase = _Phase.OPEN
        self._session_url = ""  # until the first chunk
        # Begins at the first byte that the server has not confirmed, which is byte `_kept` of the object.
        self._buffer = bytearray()
        self._kept = 0
        self._sent = 0
        self._size_bytes = 0
        # Cloud Storage reports the same digest; it guards against corruption, not against attackers.
        self._md5 = hashlib.md5(usedforsecurity=False)

    async def write(self, block: bytes) -> None:
        self._md5.update(block)
        self._size_bytes += len(block)
        view = memoryview(block)
        while view:
            # One byte more than a chunk: the last chunk is never empty.
            taken = view[: CHUNK_BYTES + 1 - len(self._buffer)]
            self._buffer += taken
            view = view[len(taken) :]
            if len(self._buffer) > CHUNK_BYTES:
                await self._send_chunks(final=False)

    async def commit(self) -> None:
        if not self._session_url:
            await self._send_whole()
        else:
            await self._send_chunks(final=True)
        self._phase = _Phase.COMMITTED

    async def abort(self) -> None:
        if self._phase in {_Phase.COMMITTED, _Phase.ABORTED}:
            return
        maybe_there = self._phase is _Phase.FINISHING
        self._phase = _Phase.ABORTED
        self._buffer.clear()
        # Shielded: the clean-up of a cancelled task is often cancelled itself.
        await asyncio.shield(self._undo(maybe_there=maybe_there))

    async def _undo(self, *, maybe_there: bool) -> None:
        """Best effort: what cannot be cancelled now, Cloud Storage forgets after a week, unseen."""
        try:
            if self._session_url:
                await self._api.once("DELETE", self._session_url)
            if maybe_there:
                await self._delete_ours()
        except (httpx.RequestError, StorageError):
            return

    # --- resumable -----------------------------------------------------------------------------------------

    async def _send_chunks(self, *, final: bool) -> None:
        """Send from the buffer until it is within a chunk again, or, when final, until the object exists."""
        retries = self._api.retries()
        if not self._session_url:
            self._session_url = await self._start_session()
        while final or len(self._buffer) > CHUNK_BYTES:
            if final:
                self._phase = _Phase.FINISHING
            response, lost = await self._put_chunk(final=final)
            in_doubt = response is None or response.status_code in RETRIED_STATUSES
            if response is None or in_doubt:
                response = await self._ask_state(retries, response, lost, final=final)
            if response.status_code != _RESUME:
                await self._finish(response, final=final)
                return
            if self._confirm(response):
                retries.progressed()
            elif not in_doubt and not await retries.wait(response):
                raise failure("Cloud Storage keeps nothing of what it is sent.", response)

    async def _finish(self, response: httpx.Response, *, final: bool) -> None:
        """Digest an answer that ends the upload: return if the object exists and is ours, else raise."""
        if final and response.status_code in _DONE:
            await self._verify(response)
        elif final and await self._is_ours(response):
            return
        elif response.status_code in _SESSION_GONE:
            raise failure("Cloud Storage lost the upload half-way.", response)
        else:
            raise _refusal(response)

    async def _ask_state(
        self,
        retries: Retries,
        response: httpx.Response | None,
        lost: httpx.RequestError | None,
        *,
        final: bool,
    ) -> httpx.Response:
        """After trouble, ask how much was kept, for as long as patience lasts."""
        total = self._size_bytes if final else "*"
        while True:
            if not await retries.wait(response):
                raise failure("Cloud Storage did not take the upload.", response, lost) from lost
            response, lost = await self._attempt({"Content-Range": f"bytes */{total}"}, b"")
            if response is not None and response.status_code not in RETRIED_STATUSES:
                return response

    async def _put_chunk(self, *, final: bool) -> tuple[httpx.Response | None, httpx.RequestError | None]:
        with memoryview(self._buffer) as view:
            chunk = bytes(view if final else view[:CHUNK_BYTES])
        self._sent = self._kept + len(chunk)
        total = self._size_bytes if final else "*"
        # Nothing left to send is possible when everything was kept but the upload was not finished.
        span = f"{self._kept}-{self._sent - 1}" if chunk else "*"
        return await self._attempt({"Content-Range": f"bytes {span}/{total}"}, chunk)

    async def _attempt(
        self, headers: Mapping[str, str], content: bytes
    ) -> tuple[httpx.Response | None, httpx.RequestError | None]:
        try:
            return await self._api.once("PUT", self._session_url, headers=headers, content=content), None
        except httpx.RequestError as error:
            return None, error

    async def _start_session(self) -> str:
        response = await self._api.send(
            "POST",
            f"{self._place.upload_url}&uploadType=resumable",
            headers={
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Type": self._resource["contentType"],
            },
            content=orjson.dumps(self._resource),
        )
        if response.status_code not in _DONE or "location" not in response.headers:
            raise _refusal(response)
        # Only the path is taken: our token goes nowhere but to the configured host.
        session, base = urlsplit(response.headers["location"]), urlsplit(self._place.upload_url)
        return f"{base.scheme}://{base.netloc}{session.path}?{session.query}"

    def _confirm(self, response: httpx.Response) -> bool:
        """Drop from the buffer what the server says it has kept; True when that is more than before."""
        header = response.headers.get("range", "bytes=0--1")
        match = _RANGE.fullmatch(header)
        if match is None:
            raise failure("Cloud Storage's answer is unreadable.", response)
        kept = int(match[1]) + 1  # without the header: nothing
        if not self._kept <= kept <= self._sent:
            raise failure("Cloud Storage lost a part of the upload.", response)
        del self._buffer[: kept - self._kept]
        advanced, self._kept = kept > self._kept, kept
        return advanced

    # --- one request ---------------------------------------------------------------------------------------

    async def _send_whole(self) -> None:
        self._phase = _Phase.FINISHING
        boundary = secrets.token_hex(16)
        resource = orjson.dumps({**self._resource, "md5Hash": self._md5_base64()})
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
                resource,
                f"\r\n--{boundary}\r\nContent-Type: {self._resource['contentType']}\r\n\r\n".encode(),
                self._buffer,
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        # Repeatable: a second arrival is refused with 412, and then the object is found to be ours.
        response = await self._api.send(
            "POST",
            f"{self._place.upload_url}&uploadType=multipart",
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            content=body,
        )
        if response.status_code in _DONE:
            await self._verify(response)
        elif not await self._is_ours(response):
            raise _refusal(response)

    # --- what is there now ---------------------------------------------------------------------------------

    async def _verify(self, response: httpx.Response) -> None:
        """Hold the finished object against what was written; a wrong one is removed."""
        stored = _resource_of(response)
        wrong_size = str(stored.get("size", self._size_bytes)) != str(self._size_bytes)
        wrong_digest = stored.get("md5Hash", self._md5_base64()) != self._md5_base64()
        if wrong_size or wrong_digest:
            await self._delete(stored)
            raise failure("Cloud Storage damaged the upload.", response)

    async def _is_ours(self, refusal: httpx.Response) -> bool:
        """Whether a final request was refused only because it, or one before it, had succeeded already."""
        if refusal.status_code not in {httpx.codes.PRECONDITION_FAILED, *_SESSION_GONE}:
            return False
        response = await self._api.send("GET", self._place.object_url)
        if response.status_code != httpx.codes.OK or not self._bears_our_id(_resource_of(response)):
            return False
        await self._verify(response)
        return True

    async def _delete_ours(self) -> None:
        response = await self._api.send("GET", self._place.object_url, policy=_CLEAN_UP)
        if response.status_code == httpx.codes.OK:
            stored = _resource_of(response)
            if self._bears_our_id(stored):
                await self._delete(stored)

    async def _delete(self, stored: Mapping[str, Any]) -> None:
        generation = stored.get("generation", "")
        url = f"{self._place.object_url}?ifGenerationMatch={generation}"
        await self._api.send("DELETE", url, policy=_CLEAN_UP)

    def _bears_our_id(self, stored: Mapping[str, Any]) -> bool:
        metadata = stored.get("metadata")
        return isinstance(metadata, dict) and metadata.get(UPLOAD_ID) == self._upload_id

    def _md5_base64(self) -> str:
        return base64.b64encode(self._md5.digest()).decode("ascii")


def _resource_of(response: httpx.Response) -> dict[str, Any]:
    try:
        resource = orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise failure("Cloud Storage's answer is unreadable.", response) from error
    if not isinstance(resource, dict):
        raise failure("Cloud Storage's answer is unreadable.", response)
    return resource


def _refusal(response: httpx.Response) -> StorageError:
    reasons: dict[int, str] = {
        httpx.codes.PRECONDITION_FAILED: "An object of this name exists already.",
        httpx.codes.UNAUTHORIZED: "Cloud Storage does not accept the gateway's credentials.",
        httpx.codes.FORBIDDEN: "The gateway may not write to its bucket.",
        httpx.codes.NOT_FOUND: "The gateway's bucket does not exist.",
    }
    return failure(reasons.get(response.status_code, "Cloud Storage refused the upload."), response)
