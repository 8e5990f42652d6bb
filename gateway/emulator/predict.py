"""One predict call, from its Authorization header to the last byte of its answer."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.emulator import vertex
from gateway.emulator.answers import Clip, build_answer
from gateway.emulator.calls import Call, Outcome
from gateway.emulator.desk import Desk, digest_of
from gateway.emulator.faults import NO_FAULT, Fault
from gateway.emulator.music.composer import Order
from gateway.emulator.stream import Wire, send_answer
from gateway.emulator.studio import Studio
from gateway.emulator.vertex import PredictRequest, Surface, VertexError

_LYRIA_RATE_HZ = 48_000
_MUSICGEN_RATE_HZ = 32_000


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a resource, and the surface it belongs to (None: there is no such model)."""

    resource: str
    surface: Surface | None


class PredictSurface:
    """An ASGI endpoint. Every call ends in the log exactly once, however it ends on the wire."""

    def __init__(self, desk: Desk, studio: Studio) -> None:
        self._desk = desk
        self._studio = studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        target = target_of(request.path_params)
        call = self._desk.calls.begin(
            target.surface or target.resource.rsplit("/", 1)[-1],
            request.url.path,
            authorized="authorization" in request.headers,
        )
        outcome = Outcome.ABANDONED
        try:
            outcome = await self._serve(Wire(scope, receive, send), request, target, call)
        except ClientDisconnect:
            pass
        finally:
            self._desk.calls.end(call, outcome)

    async def _serve(self, wire: Wire, request: Request, target: Target, call: Call) -> Outcome:
        try:
            asked = await self._accept(request, target, call)
        except VertexError as error:
            await _refuse(wire, call, error, NO_FAULT)
            return Outcome.BLOCKED if error.blocked else Outcome.INVALID
        fault = self._desk.faults.take(asked, request.url.path)
        scripted = fault.error(asked)
        if scripted is None and self._desk.recites(asked.prompt, asked.seed):
            scripted = vertex.recitation()
        if scripted is not None:
            await asyncio.sleep(self._desk.settings.latency_s + fault.delay_s)
            await _refuse(wire, call, scripted, fault)
            return Outcome.BLOCKED if scripted.blocked else Outcome.FAILED
        return await self._perform(wire, asked, fault, call)

    async def _accept(self, request: Request, target: Target, call: Call) -> PredictRequest:
        if self._desk.require_token and not call.authorized:
            raise vertex.unauthenticated()
        if target.surface is None:
            raise vertex.model_not_found(target.resource)
        asked = vertex.read_request(target.surface, target.resource, await _body(request))
        call.prompt_sha256 = digest_of(asked.prompt)
        call.negative_prompt_sha256 = digest_of(asked.negative_prompt) if asked.negative_prompt else None
        call.seed = asked.seed
        call.sample_count = asked.sample_count
        call.duration_s = asked.duration_s
        return asked

    async def _perform(self, wire: Wire, asked: PredictRequest, fault: Fault, call: Call) -> Outcome:
        wanted = entries_wanted(asked, fault)
        self._desk.calls.pay(call, sum(wanted))
        if fault.hang:
            await wire.until_gone()
            return Outcome.ABANDONED
        entries, _ = await asyncio.gather(
            self._compose(asked, wanted), asyncio.sleep(self._desk.settings.latency_s + fault.delay_s)
        )
        if fault.drop:
            await wire.close(reset=fault.reset)
            return Outcome.CUT
        if wire.transport.is_closing():
            return Outcome.ABANDONED
        call.http_status = 200
        return await send_answer(wire, build_answer(asked, entries, fault), fault)

    async def _compose(self, asked: PredictRequest, wanted: Sequence[bool]) -> Sequence[Clip | None]:
        """Clip i of a seeded batch has seed + i. What would be an error entry is None, and not composed."""
        return await asyncio.gather(
            *(self._clip(asked, index) if want else _nothing() for index, want in enumerate(wanted))
        )

    async def _clip(self, asked: PredictRequest, index: int) -> Clip:
        seed = self._seed(asked, index)
        return Clip(await self._studio.clip(self._order(asked, seed)), seed)

    def _seed(self, asked: PredictRequest, index: int) -> int:
        first = self._desk.settings.default_seed if asked.seed is None else asked.seed
        return secrets.randbelow(vertex.MAX_SEED + 1) if first is None else first + index

    def _order(self, asked: PredictRequest, seed: int) -> Order:
        lyria = asked.surface is Surface.LYRIA
        rate_hz = _LYRIA_RATE_HZ if lyria else _MUSICGEN_RATE_HZ
        seconds = self._desk.settings.lyria_seconds if lyria else asked.duration_s or 0
        return Order(
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt,
            seed=seed,
            frames=max(1, round(seconds * rate_hz)),
            sample_rate_hz=rate_hz,
            channels=2 if lyria else 1,
        )


def target_of(names: Mapping[str, str]) -> Target:
    """The resource that the names in a path make up."""
    parent = f"projects/{names['project']}/locations/{names['location']}"
    if "endpoint" in names:
        return Target(f"{parent}/endpoints/{names['endpoint']}", Surface.MUSICGEN)
    known = names["publisher"] == "google" and names["model"] == vertex.LYRIA_MODEL
    resource = f"{parent}/publishers/{names['publisher']}/models/{names['model']}"
    return Target(resource, Surface.LYRIA if known else None)


def entries_wanted(asked: PredictRequest, fault: Fault) -> list[bool]:
    """One item for each entry of ``predictions``: True for a clip, False for an error object."""
    if fault.empty_predictions or fault.no_predictions:
        return []
    count = asked.sample_count if fault.fewer_clips is None else min(fault.fewer_clips, asked.sample_count)
    return [index not in fault.error_entries for index in range(count)]


async def _nothing() -> None:
    return None


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > vertex.MAX_REQUEST_BYTES:
            raise vertex.payload_too_large()
    return bytes(body)


async def _refuse(wire: Wire, call: Call, error: VertexError, fault: Fault) -> None:
    call.http_status = error.http_status
    body, media_type = fault.error_body(error)
    response = Response(body, error.http_status, media_type=media_type)
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/"'
    await wire.respond(response)
