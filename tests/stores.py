"""Both kinds of storage, ready for the same tests: what is written, what a reader finds, what HTTP gives."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import httpx
import orjson

from gateway.errors import GatewayError, NotFound
from gateway.ports import Storage, StoredFile
from gateway.storage.api import GoogleApi
from gateway.storage.gcs import GcsStorage
from gateway.storage.local import LocalStorage
from gateway.storage.signers import KeyFileSigner
from gateway.storage.signing import Signer
from gateway.web.ranges import select
from tests.clock import SetClock
from tests.gcs import BUCKET, TOKEN, Gcs, key_file_credentials
from tests.httpstub import Answer, Call, start_stub

LIFE_S = 3600


class FixedToken:
    def __init__(self, token: str | None = TOKEN) -> None:
        self.text = token

    async def token(self) -> str | None:
        return self.text


@dataclass
class Store:
    storage: Storage
    clock: SetClock
    http: httpx.AsyncClient
    names: Callable[[], list[str]]
    about: Callable[[str], Awaitable[tuple[str, dict[str, str]]]]

    async def put(self, name: str, *blocks: bytes, content_type: str = "audio/wav", **metadata: str) -> None:
        writer = await self.storage.create(name, content_type=content_type, metadata=metadata)
        for block in blocks:
            await writer.write(block)
        await writer.commit()

    async def get(self, name: str, **headers: str) -> httpx.Response:
        return await self.http.get((await self.storage.signed_url(name)).url, headers=headers)


@asynccontextmanager
async def open_gcs_store(
    gcs: Gcs, *, prefix: str = "clips/ü +", signer: Signer | None = None, tokens: FixedToken | None = None
) -> AsyncIterator[Store]:
    gcs.reset()
    clock = SetClock()
    gcs.now_ms = clock.now_ms
    async with httpx.AsyncClient(verify=False) as http:
        api = GoogleApi(http, tokens or FixedToken(), clock, random.Random(1))
        storage = GcsStorage(
            api,
            BUCKET,
            prefix,
            signer or KeyFileSigner(key_file_credentials()),
            clock,
            base_url=gcs.url,
            url_ttl_s=LIFE_S,
        )

        async def about(name: str) -> tuple[str, dict[str, str]]:
            stored = gcs.stored(f"{prefix}/{name}")
            return stored["contentType"], stored["metadata"]

        yield Store(storage, clock, http, gcs.names, about)
        await storage.close()


@asynccontextmanager
async def open_local_store(directory: Path) -> AsyncIterator[Store]:
    clock = SetClock()
    storage: LocalStorage | None = None

    def serve(call: Call) -> Answer:
        name = unquote(call.path.removeprefix("/files/"))
        try:
            file = asyncio.run(storage.resolve(name, call.query["expires"], call.query["signature"]))
        except NotFound:
            return Answer(404)
        except GatewayError as error:
            return Answer(403, error.detail.encode())
        return _answer_with(file, call)

    with start_stub(serve) as url:
        storage = LocalStorage(directory, b"s" * 32, url, clock, url_ttl_s=LIFE_S)
        await storage.open()

        def names() -> list[str]:
            objects = directory.rglob("*.object")
            return sorted(str(each.relative_to(directory)).removesuffix(".object") for each in objects)

        async def about(name: str) -> tuple[str, dict[str, str]]:
            facts = orjson.loads((directory / f"{name}.object" / "about.json").read_bytes())
            return facts["content_type"], facts["metadata"]

        async with httpx.AsyncClient(verify=False) as http:
            yield Store(storage, clock, http, names, about)
        await storage.close()


def _answer_with(file: StoredFile, call: Call) -> Answer:
    part = select(
        size_bytes=file.size_bytes,
        etag=file.etag,
        modified_ms=file.modified_ms,
        range_header=call.headers.get("range"),
        if_range=call.headers.get("if-range"),
    )
    headers = {"Content-Type": file.content_type, "ETag": file.etag, "Content-Length": str(part.length)}
    if part.content_range is not None:
        headers["Content-Range"] = part.content_range
    return Answer(part.status, file.path.read_bytes()[part.start : part.stop], headers)
