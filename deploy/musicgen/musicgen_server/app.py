"""The routes: is the model well, and a prediction."""

import asyncio
import logging
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from musicgen_server import contract
from musicgen_server.contract import Clip, Order, Refusal
from musicgen_server.settings import Settings
from musicgen_server.worker import Abandoned, Job, Worker

MOST_BODY_BYTES = 1_000_000
_HUNG_UP = 499  # as nginx notes it; nobody reads it

log = logging.getLogger("musicgen")


class Shelf(Protocol):
    """Where clips go that no answer can hold."""

    def put(self, path: Path, prefix: str) -> str:
        """Store the file under a name of its own that begins with `prefix`, a ``gs://`` URI; returns its URI.

        Raises `Refusal`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Server:
    """What the routes work with. `draw` gives a random number below its argument."""

    settings: Settings
    worker: Worker
    shelf: Shelf
    draw: Callable[[int], int] = secrets.randbelow

    def app(self) -> Starlette:
        """The application. Every answer that is not a prediction is a JSON error, or health's."""
        return Starlette(
            routes=[
                Route(self.settings.health_route, self.health, methods=["GET"]),
                Route(self.settings.predict_route, self.predict, methods=["POST"]),
            ],
            exception_handlers={Refusal: _refused, HTTPException: _not_served, Exception: _failed},
        )

    async def health(self, _request: Request) -> Response:
        """200 only if a prediction would be made now."""
        if self.worker.is_ready:
            return _json(200, b'{"status":"OK"}')
        raise contract.unavailable("The model cannot answer yet, or not at present.")

    async def predict(self, request: Request) -> Response:
        """As `contract` says."""
        began = time.monotonic()
        try:
            order = contract.parse(await _body(request))
            answer = await self._made(order, request)
        except (Abandoned, ClientDisconnect):
            log.info("the client hung up; nothing is made for it")
            return Response(status_code=_HUNG_UP)
        log.info(
            "made %d x %d s in %.1f s: %d bytes",
            order.samples, order.piece.seconds, time.monotonic() - began, len(answer),
        )  # fmt: skip
        return _json(200, answer)

    async def _made(self, order: Order, request: Request) -> bytes:
        prefix = self._prefix(order)
        seeds = order.seeds(self.draw)
        with tempfile.TemporaryDirectory(prefix="musicgen-") as directory:
            paths = [Path(directory) / f"{number}.wav" for number in range(order.samples)]
            job = Job(order.piece, seeds, paths)
            self.worker.submit(job)
            await self._finished(job, request)
            return await asyncio.to_thread(self._answer, order, seeds, paths, prefix)

    def _prefix(self, order: Order) -> str | None:
        """Where the clips go; None when the answer holds them. Asked before anything is made."""
        size_bytes = self.worker.form.size_bytes(order.piece.seconds)
        needed = contract.inline_bytes(order, size_bytes)
        if needed <= self.settings.answer_limit_bytes:
            return None
        prefix = order.output_uri or self.settings.output_uri
        if prefix is None:
            raise contract.impossible(
                f"{order.samples} x {order.piece.seconds} s are an answer of {needed} bytes; this "
                f"endpoint gives {self.settings.answer_limit_bytes} at most. Name a place for the audio in "
                "parameters.output_gcs_uri (gs://BUCKET/PREFIX), have the container's MUSICGEN_OUTPUT_URI "
                "set, or ask for less."
            )
        return prefix

    def _answer(self, order: Order, seeds: list[int], paths: list[Path], prefix: str | None) -> bytes:
        clips = []
        for seed, path in zip(seeds, paths, strict=True):
            about = Clip(seed, order.piece.seconds, path.stat().st_size)
            if prefix is None:
                clips.append(replace(about, audio=path.read_bytes()))
            else:
                clips.append(replace(about, uri=self.shelf.put(path, prefix)))
            path.unlink()
        return contract.answer(clips)

    async def _finished(self, job: Job, request: Request) -> None:
        """Wait for it, and leave the line when the client hangs up. Raises what making it raised."""
        gone = asyncio.ensure_future(_hung_up(request))
        done = asyncio.wrap_future(job.done)
        try:
            await asyncio.wait({gone, done}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not done.done():
                self.worker.abandon(job)
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
        # The files are the thread's until it says so: never before this returns.
        await done


async def _hung_up(request: Request) -> None:
    """Return when the client is gone. The body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    found = bytearray()
    async for block in request.stream():
        found += block
        if len(found) > MOST_BODY_BYTES:
            raise Refusal(
                413, "INVALID_ARGUMENT", f"The body is too long; send at most {MOST_BODY_BYTES} bytes."
            )
    return bytes(found)


def _json(code: int, body: bytes) -> Response:
    return Response(body, code, media_type="application/json")


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return _json(error.code, error.body())


async def _not_served(_request: Request, error: Exception) -> Response:
    """There is no such route, or no such method."""
    if not isinstance(error, HTTPException):
        raise error
    status = "NOT_FOUND" if error.status_code == HTTPStatus.NOT_FOUND else "INVALID_ARGUMENT"
    return _json(error.status_code, Refusal(error.status_code, status, str(error.detail)).body())


async def _failed(_request: Request, _error: Exception) -> Response:
    """What was not foreseen. The log has it; the caller is told no more."""
    return _json(500, Refusal(500, "INTERNAL", "The prediction failed; the container's log says why.").body())
