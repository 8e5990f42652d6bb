"""An object of Cloud Storage on its way here: in blocks, and on from where the connection broke.

Document: cloud.google.com/storage/docs/json_api/v1/objects/get (``alt=media``, ``Range``).
"""

from collections.abc import AsyncGenerator
from urllib.parse import quote

import httpx

from gateway.errors import StorageError
from gateway.storage.api import RETRIED_STATUSES, GoogleApi, failure

BLOCK_BYTES = 256 << 10


async def download(api: GoogleApi, object_url: str) -> AsyncGenerator[bytes]:
    """The bytes of an object. Raises `StorageError`."""
    url, at, retries = f"{object_url}?alt=media", 0, api.retries()
    while True:
        response, lost = None, None
        try:
            async with api.stream("GET", url, headers={"Range": f"bytes={at}-"} if at else {}) as response:
                if response.status_code not in RETRIED_STATUSES:
                    _check(response, at)
                    async for block in response.aiter_bytes(BLOCK_BYTES):
                        at += len(block)
                        retries.progressed()
                        yield block
                    return
                await response.aread()
        except httpx.RequestError as error:
            response, lost = None, error
        if not await retries.wait(response):
            raise failure("The audio could not be read.", response, lost) from lost


def _check(response: httpx.Response, at: int) -> None:
    wanted = httpx.codes.PARTIAL_CONTENT if at else httpx.codes.OK
    if response.status_code != wanted:
        raise StorageError("The audio could not be read.", internal=f"HTTP {response.status_code}")


class ForeignObjects:
    """`gateway.ports.ObjectSource` on any bucket that our account may read."""

    def __init__(self, api: GoogleApi, base_url: str) -> None:
        self._api = api
        self._base_url = base_url.rstrip("/")

    def read(self, uri: str) -> AsyncGenerator[bytes]:
        return download(self._api, self._object_url(uri))

    async def delete(self, uri: str) -> None:
        response = await self._api.send("DELETE", self._object_url(uri))
        if response.status_code not in {httpx.codes.OK, httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND}:
            raise failure("The audio could not be deleted.", response)

    def _object_url(self, uri: str) -> str:
        # Names of objects may have anything in them, also what ends the path of other addresses.
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        return f"{self._base_url}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
