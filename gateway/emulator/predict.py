"""One predict call, from its Authorization header to the last byte of its answer."""

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gateway.emulator import vertex
from gateway.emulator.answers import Clip
from gateway.emulator.calls import Call, Outcome
from gateway.emulator.desk import ENDPOINT_CAPS, Desk, digest_of
from gateway.emulator.faults import NO_FAULT, Fault
from gateway.emulator.pages.page import Page
from gateway.emulator.pages.registry import ENDPOINT, INTERACTIVE, PUBLISHED
from gateway.emulator.shelf import Shelf
from gateway.emulator.stream import Wire, send_answer
from gateway.emulator.studio import Studio
from gateway.emulator.vertex import PredictRequest, VertexError


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a resource, and the page it belongs to (None: there is no such model)."""

    resource: str
    page: Page | None


class PredictSurface:
    """An ASGI endpoint. Every call ends in the log exactly once, however it ends on the wire."""

    def __init__(self, desk: Desk, studio: Studio, shelf: Shelf) -> None:
        self._desk = desk
        self._studio = studio
        self._shelf = shelf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        names = request.path_params
        if "endpoint" in names or "model" in names:
            target = target_of(names)
            await self._play(Wire(scope, receive, send), request, target, None)
            return
        try:
            body = await _body(request)
        except (ClientDisconnect, VertexError):
            body = b""
        await self._play(Wire(scope, receive, send), request, interaction_of(names, body), body)

    async def _play(self, wire: Wire, request: Request, target: Target, body: bytes | None) -> None:
        call = self._desk.calls.begin(
            target.page.name if target.page else target.resource.rsplit("/", 1)[-1],
            request.url.path,
            authorized="authorization" in request.headers,
        )
        call.api_revision = request.headers.get("api-revision")
        outcome = Outcome.ABANDONED
        try:
            outcome = await self._serve(wire, request, target, call, body)
        except ClientDisconnect:
            pass
        finally:
            self._desk.calls.end(call, outcome)

    async def _serve(
        self, wire: Wire, request: Request, target: Target, call: Call, body: bytes | None
    ) -> Outcome:
        try:
            page, asked = await self._accept(request, target, call, body)
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
        try:
            return await self._perform(wire, page, asked, fault, call)
        except VertexError as error:
            await _refuse(wire, call, error, NO_FAULT)
            return Outcome.FAILED

    async def _accept(
        self, request: Request, target: Target, call: Call, body: bytes | None
    ) -> tuple[Page, PredictRequest]:
        if self._desk.require_token and not call.authorized:
            raise vertex.unauthenticated()
        if target.page is None:
            raise vertex.model_not_found(target.resource)
        asked = target.page.read(target.resource, await _body(request) if body is None else body)
        call.store = asked.about.get("store")
        call.prompt_sha256 = digest_of(asked.prompt)
        call.negative_prompt_sha256 = digest_of(asked.negative_prompt) if asked.negative_prompt else None
        call.seed = asked.seed
        call.sample_count = asked.sample_count
        call.duration_s = asked.duration_s
        return target.page, asked

    async def _perform(
        self, wire: Wire, page: Page, asked: PredictRequest, fault: Fault, call: Call
    ) -> Outcome:
        wanted = entries_wanted(asked, fault)
        self._desk.calls.pay(call, sum(wanted))
        if fault.hang:
            await wire.until_gone()
            return Outcome.ABANDONED
        entries, _ = await asyncio.gather(
            self._compose(page, asked, wanted), asyncio.sleep(self._desk.settings.latency_s + fault.delay_s)
        )
        if fault.drop:
            await wire.close(reset=fault.reset)
            return Outcome.CUT
        if wire.transport.is_closing():
            return Outcome.ABANDONED
        if page is ENDPOINT:
            entries = await self._within_cap(asked, entries, call)
        call.http_status = 200
        body = page.answer(asked, entries, fault, self._desk.settings, call.number)
        return await send_answer(wire, body, fault)

    async def _within_cap(
        self, asked: PredictRequest, entries: Sequence[Clip | None], call: Call
    ) -> Sequence[Clip | None]:
        """What is more than an endpoint may answer is put aside, or refused."""
        cap_bytes = ENDPOINT_CAPS[self._desk.settings.endpoint_kind]
        size_bytes = sum(len(clip.audio) * 4 // 3 for clip in entries if clip is not None)
        if cap_bytes is None or size_bytes <= cap_bytes:
            return entries
        if asked.output_uri is None:
            raise vertex.response_too_large(size_bytes)
        found: list[Clip | None] = []
        for clip in entries:
            uri = None if clip is None else await self._shelf.put(asked.output_uri, clip.audio)
            found.append(None if clip is None else replace(clip, uri=uri))
            call.put_aside += clip is not None
        return found

    async def _compose(
        self, page: Page, asked: PredictRequest, wanted: Sequence[bool]
    ) -> Sequence[Clip | None]:
        """Clip i of a seeded batch has seed + i. What would be an error entry is None, and not composed."""
        return await asyncio.gather(
            *(self._clip(page, asked, index) if want else _nothing() for index, want in enumerate(wanted))
        )

    async def _clip(self, page: Page, asked: PredictRequest, index: int) -> Clip:
        seed = self._seed(asked, index)
        order = page.order(asked, seed, self._desk.settings)
        return Clip(await self._studio.clip(order, page.encoding), seed)

    def _seed(self, asked: PredictRequest, index: int) -> int:
        first = self._desk.settings.default_seed if asked.seed is None else asked.seed
        return secrets.randbelow(vertex.MAX_SEED + 1) if first is None else first + index


def describe_endpoint(desk: Desk, request: Request) -> Response:
    """An endpoint as a resource, with a model on it: free at Google's, and no call of a model."""
    if desk.require_token and "authorization" not in request.headers:
        error = vertex.unauthenticated()
        return JSONResponse(error.body(), error.http_status)
    about = {
        "name": target_of(request.path_params).resource,
        "displayName": ENDPOINT.name,
        "deployedModels": [{"id": "1", "displayName": ENDPOINT.name}],
        "trafficSplit": {"1": 100},
    }
    return JSONResponse(about)


def target_of(names: Mapping[str, str]) -> Target:
    """The resource that the names in a path make up."""
    parent = f"projects/{names['project']}/locations/{names['location']}"
    if "endpoint" in names:
        return Target(f"{parent}/endpoints/{names['endpoint']}", ENDPOINT)
    resource = f"{parent}/publishers/{names['publisher']}/models/{names['model']}"
    return Target(resource, PUBLISHED.get(names["model"]) if names["publisher"] == "google" else None)


def interaction_of(names: Mapping[str, str], body: bytes) -> Target:
    """The model that an interaction names in its body; they are served in one location."""
    try:
        document = json.loads(body)
        model = str(document["model"])
    except (ValueError, KeyError, TypeError):
        model = ""
    resource = f"projects/{names['project']}/locations/{names['location']}/interactions/{model}"
    return Target(resource, INTERACTIVE.get(model) if names["location"] == "global" else None)


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
