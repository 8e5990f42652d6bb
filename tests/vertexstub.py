"""A stand-in for Vertex AI that says exactly the bytes it is told to, and sinks that remember what they got.

For what the emulator cannot do: cuts at a chosen byte, single-byte chunks, answers that no server would give.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

import httpx

from gateway.errors import UpstreamError
from gateway.families.family import Family, ModelCall
from gateway.families.lyria2 import LYRIA2, Lyria2
from gateway.families.musicgen import MUSICGEN as MUSICGEN_KIND
from gateway.families.musicgen import MusicGen
from gateway.model import Deployment, ModelKind, MusicSpec
from gateway.ports import ModelReply
from gateway.upstream.client import VertexClient
from gateway.upstream.model import VertexModel
from gateway.upstream.network import pulling_transport
from gateway.upstream.objects import ObjectReader
from tests.clock import SetClock
from tests.stores import FixedToken

TOKEN = "ya29.secret-token"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TWO = MusicSpec("a calm piano", sample_count=2)
ONE = MusicSpec("a calm piano")

LYRIA = Deployment("lyria", LYRIA2, "acme-music-prod", "us-central1", None, 60_000, 60_000)
MUSICGEN = Deployment(
    "mg", MUSICGEN_KIND, "acme-music-prod", "us-central1",
    "projects/acme-music-prod/locations/us-central1/endpoints/4711", 20_000, 20_000,
)  # fmt: skip


def audio(number: int, size_bytes: int = 50) -> bytes:
    return bytes((number * 41 + i) % 256 for i in range(size_bytes))


def prediction(sound: bytes, field_name: str = "bytesBase64Encoded") -> dict[str, object]:
    return {field_name: base64.b64encode(sound).decode(), "mimeType": "audio/wav"}


def answer_body(*predictions: object, **more: object) -> bytes:
    return json.dumps({"predictions": list(predictions), "model": "m", **more}).encode()


def http(body: bytes, status: str = "200 OK", headers: Sequence[str] = (), length: int | None = -1) -> bytes:
    """A whole response. ``length`` None leaves the length to the connection's end."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    else:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    @property
    def json(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.body)
        return document


@dataclass
class Say:
    """One response: ``data`` in writes of ``write_bytes``, after ``delay_s``; then perhaps the end."""

    data: bytes
    write_bytes: int = 1 << 20
    delay_s: float = 0.0
    then_close: bool = False
    then_reset: bool = False
    then_hang: bool = False


@dataclass
class Stub:
    url: str = ""
    script: list[Say] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    def will_say(self, *answers: Say | bytes) -> None:
        self.script += [Say(answer) if isinstance(answer, bytes) else answer for answer in answers]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await _read_request(reader))
                self.heard.set()
                if not await self._answer(self.script.pop(0), reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.hung_up.set()
            writer.close()

    @staticmethod
    async def _answer(say: Say, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if say.delay_s:
            await asyncio.sleep(say.delay_s)
        for at in range(0, len(say.data), say.write_bytes):
            writer.write(say.data[at : at + say.write_bytes])
            await writer.drain()
            await asyncio.sleep(0)
        if say.then_hang:
            await reader.read(1)
            return False
        if say.then_reset:
            writer.transport.abort()
            return False
        return not say.then_close


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(head[0], headers, body)


@asynccontextmanager
async def start_stub() -> AsyncIterator[Stub]:
    stub = Stub()
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        await stub.serve(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stub
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@dataclass
class RecordingSink:
    index: int
    blocks: list[bytes] = field(default_factory=list)
    state: str = "open"
    aborts: int = 0
    write_error: Exception | None = None
    finish_error: Exception | None = None
    abort_error: Exception | None = None
    hold: asyncio.Event | None = None  # writes wait for it
    hold_abort: asyncio.Event | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def sound(self) -> bytes:
        return b"".join(self.blocks)

    async def write(self, block: bytes) -> None:
        assert self.state == "open"
        self.entered.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.write_error is not None:
            raise self.write_error
        self.blocks.append(block)

    async def finish(self) -> None:
        assert self.state == "open"
        if self.finish_error is not None:
            raise self.finish_error
        self.state = "finished"

    async def abort(self) -> None:
        self.aborts += 1
        self.entered.set()
        if self.hold_abort is not None:
            await self.hold_abort.wait()
        self.state = "aborted"
        if self.abort_error is not None:
            raise self.abort_error


class Sinks:
    """``new_sink`` for a call; ``prepared`` sinks are handed out in place of plain ones."""

    def __init__(self, *prepared: RecordingSink) -> None:
        self._prepared = {sink.index: sink for sink in prepared}
        self.opened: dict[int, RecordingSink] = {}

    def __call__(self, index: int) -> RecordingSink:
        assert index not in self.opened, "asked twice for one clip"
        self.opened[index] = self._prepared.get(index) or RecordingSink(index)
        return self.opened[index]

    def __iter__(self) -> Iterator[RecordingSink]:
        return iter(self.opened.values())

    @property
    def finished(self) -> dict[int, bytes]:
        return {sink.index: sink.sound for sink in self if sink.state == "finished"}

    @property
    def states(self) -> dict[int, str]:
        return {sink.index: sink.state for sink in self}


class Notes:
    """A `CallObserver` that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[ModelKind, str, float, int]] = []

    def on_call(self, kind: ModelKind, outcome: str, seconds: float, size_bytes: int) -> None:
        self.seen.append((kind, outcome, seconds, size_bytes))

    @property
    def outcomes(self) -> list[str]:
        return [outcome for _, outcome, _, _ in self.seen]


@cache
def _no_certificates() -> ssl.SSLContext:
    """Nothing here speaks TLS, and loading the machine's certificates costs more than most tests."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def a_transport(kind: str = "pulling", **options: object) -> httpx.AsyncHTTPTransport:
    if kind == "pulling":
        return pulling_transport(verify=_no_certificates(), **options)
    return httpx.AsyncHTTPTransport(verify=_no_certificates())


@asynccontextmanager
async def a_client(
    url: str, transport=None, notes=None, clock=None, token=TOKEN, **options
) -> AsyncIterator[VertexClient]:
    async with httpx.AsyncClient(transport=transport or a_transport()) as client:
        yield VertexClient(
            client, FixedToken(token), url, clock or SetClock(), observer=notes or Notes(), **options
        )


class Model(VertexModel):
    """One that tells its calls as well."""

    def __init__(self, client: VertexClient, family: Family) -> None:
        super().__init__(client, family, ObjectReader(None))
        self.family = family

    def calls(self, spec: MusicSpec, missing: Sequence[int]) -> tuple[ModelCall, ...]:
        return self.family.calls(spec, missing)


def lyria2(client: VertexClient) -> Model:
    return Model(client, Lyria2())


def musicgen(client: VertexClient) -> Model:
    return Model(client, MusicGen())


async def generate(
    stub: Stub, sinks: Sinks | None = None, spec: MusicSpec = TWO, deadline_s: float = 20.0, **options
) -> ModelReply:
    """One call of Lyria's for all clips of ``spec``."""
    async with a_client(stub.url, **options) as client:
        model = lyria2(client)
        (call,) = model.calls(spec, range(spec.sample_count))
        return await model.generate(
            LYRIA, call, sinks or Sinks(), deadline_s=deadline_s, traceparent=TRACEPARENT
        )


async def failure(stub: Stub, **options) -> UpstreamError:
    """The error of a call that delivers nothing."""
    try:
        reply = await generate(stub, **options)
    except UpstreamError as error:
        return error
    raise AssertionError(f"the call delivered {reply.delivered} clips")


def two_clips() -> bytes:
    return answer_body(prediction(audio(0)), prediction(audio(1), "audioContent"))
