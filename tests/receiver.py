"""A receiver of webhooks on loopback, on raw sockets, that behaves as badly as it is told to."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Received:
    """A request as it came: its first line, its headers by lower-case name, its body."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def verified(self, secret: str) -> dict[str, Any]:
        """The event, if this secret signed it; raises otherwise."""
        return dict(Webhook(secret).verify(self.body, self.headers))


#: What a receiver does once it has a request.
Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answering(status: int = 200, body: bytes = b"", **headers: str) -> Behaviour:
    """An answer with these headers, underscores for dashes."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"HTTP/1.1 {status} Said", *lines, f"Content-Length: {len(body)}", "", ""])
        writer.write(head.encode() + body)
        await writer.drain()

    return behave


async def hanging(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def closing(writer: asyncio.StreamWriter) -> None:
    """Without a word."""


async def breaking_off(writer: asyncio.StreamWriter) -> None:
    """In the middle of the status line."""
    writer.write(b"HTTP/1.1 20")
    await writer.drain()


async def cut_short(writer: asyncio.StreamWriter) -> None:
    """After the headers: the body that they promise does not come."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nso far")
    await writer.drain()


async def stalling(writer: asyncio.StreamWriter) -> None:
    """After the headers: the body that they promise does not come, and the connection stays."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    await asyncio.Event().wait()


async def babbling(writer: asyncio.StreamWriter) -> None:
    """A body without end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        writer.write(b"b" * 65_536)
        await writer.drain()


async def speaking_nonsense(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n")
    await writer.drain()


@dataclass
class Receiver:
    """Behaves in turn as ``behaviours`` say, the last of them for ever."""

    port: int
    scheme: str
    behaviours: list[Behaviour]
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    async def until_received(self, count: int) -> list[Received]:
        """The requests that came, once there are so many."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        # A sender that has what it wants may go at any time.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            behave = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
            async with self._changed:
                self.received.append(Received(line, headers, body))
                self._changed.notify_all()
            await behave(writer)


@asynccontextmanager
async def receiving(*behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that is listening; it answers 200 unless told otherwise."""
    running: set[asyncio.Task[Any]] = set()
    receiver = Receiver(0, "https" if tls else "http", list(behaviours) or [answering()])

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await receiver.handle(reader, writer)
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
