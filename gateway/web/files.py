"""Audio kept in a local directory, served through links that the storage signed."""

import asyncio
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import ErrorCode, GatewayError, NotFound
from gateway.ports import FileSource, StoredFile
from gateway.web.problems import problem
from gateway.web.ranges import Selection, http_date, select

_BLOCK_BYTES = 256 * 1024


class FileApi:
    """``/files``: GET and HEAD, with ranges so that players can seek."""

    def __init__(self, files: FileSource) -> None:
        self._files = files

    async def download(self, request: Request) -> Response:
        name = request.path_params["name"]
        query = request.query_params
        found = await self._files.resolve(name, query.get("expires", ""), query.get("signature", ""))
        part = select(
            size_bytes=found.size_bytes,
            etag=found.etag,
            modified_ms=found.modified_ms,
            range_header=request.headers.get("range"),
            if_range=request.headers.get("if-range"),
        )
        if not part.length and part.size_bytes:
            response = problem(_beyond(part), request.scope["request_id"])
            response.headers["Content-Range"] = str(part.content_range)
        else:
            response = _FilePart(found, part, name)
        # A player on another page may fetch it: the link itself is the permission.
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response


class _FilePart(Response):
    """A part of a file, or all of it, read in a thread block by block."""

    def __init__(self, found: StoredFile, part: Selection, name: str) -> None:
        super().__init__(status_code=part.status, headers=_headers(found, part, name))
        self._path = found.path
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body"})
            return
        position, stop = self._part.start, self._part.stop
        # The first block comes before the status: a file deleted just now is still a 404.
        block = await self._read(position, stop)
        await send(start)
        while position + len(block) < stop:
            await send({"type": "http.response.body", "body": block, "more_body": True})
            position += len(block)
            block = await self._read(position, stop)
        await send({"type": "http.response.body", "body": block})

    async def _read(self, start: int, stop: int) -> bytes:
        try:
            block = await asyncio.to_thread(_read_block, self._path, start, min(stop - start, _BLOCK_BYTES))
        except FileNotFoundError:
            raise NotFound("The audio is no longer stored.", code=ErrorCode.FILE_NOT_FOUND) from None
        if not block and start < stop:
            # Shorter than when it was looked up: waiting for the rest would be for ever.
            raise NotFound("The audio is no longer whole.", code=ErrorCode.FILE_NOT_FOUND)
        return block


def _read_block(path: Path, start: int, size_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size_bytes)


def _headers(found: StoredFile, part: Selection, name: str) -> dict[str, str]:
    headers = {
        "Content-Type": found.content_type,
        "Content-Length": str(part.length),
        "Accept-Ranges": "bytes",
        "ETag": found.etag,
        "Last-Modified": http_date(found.modified_ms),
        "Cache-Control": "private, max-age=3600, immutable",
        "Content-Disposition": f'inline; filename="{quote(name.rpartition("/")[2])}"',
        "X-Content-Type-Options": "nosniff",
    }
    if part.content_range is not None:
        headers["Content-Range"] = part.content_range
    return headers


def _beyond(part: Selection) -> GatewayError:
    return GatewayError(
        f"The file has {part.size_bytes} bytes; ask for a range within them.",
        code=ErrorCode.RANGE_NOT_SATISFIABLE,
    )
