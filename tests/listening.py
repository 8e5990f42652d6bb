"""A listener to a task's events, on a raw socket: what an EventSource would hear. No word of gateway's code.

async with listen(url, task_id, key) as stream:
    event = await stream.next()         # name, data, number; None once the stream has ended
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Event:
    """``number`` is its id, if it has one."""

    name: str
    data: dict[str, Any]
    number: int | None


class Stream:
    """An answer that goes on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._text = ""
        self._parts: deque[str] = deque()
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.retry_ms: int | None = None

    async def begin(self) -> None:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        self.status = int(first.split()[1])
        fields = (line.partition(":") for line in lines)
        self.headers = {name.lower(): value.strip() for name, _, value in fields}

    async def next(self) -> Event | None:
        """The next event; None when the answer is at its end."""
        async with asyncio.timeout(PATIENCE_S):
            while (part := await self._part()) is not None:
                if (event := self._event(part)) is not None:
                    return event
        return None

    async def heartbeat(self) -> None:
        """Until a comment comes; nothing else may come before it."""
        async with asyncio.timeout(PATIENCE_S):
            while (part := await self._part()) != ":":
                assert part is not None
                assert self._event(part) is None, part

    async def rest(self) -> list[Event]:
        """Everything until the end."""
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found

    async def names(self) -> list[str]:
        return [event.name for event in await self.rest()]

    async def _part(self) -> str | None:
        """What stands before the next empty line."""
        while not self._parts:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = (await self._reader.readexactly(size + 2))[:-2]
            if not chunk:
                assert not self._text, "it ends in the middle of an event"
                return None
            *whole, self._text = (self._text + chunk.decode()).split("\n\n")
            self._parts.extend(whole)
        return self._parts.popleft()

    def _event(self, part: str) -> Event | None:
        fields = dict(line.split(": ", 1) for line in part.split("\n") if not line.startswith(":"))
        if "retry" in fields:
            self.retry_ms = int(fields.pop("retry"))
        number = fields.pop("id", None)
        if not fields:
            return None
        assert set(fields) == {"event", "data"}, part
        return Event(fields["event"], json.loads(fields["data"]), None if number is None else int(number))


@asynccontextmanager
async def listen(url: str, task_id: str, key: str, seen: object = None) -> AsyncIterator[Stream]:
    """Ask for the events after ``seen``; gone at the end, whatever has come by then."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"GET /api/task-status/{task_id}/events HTTP/1.1", "Host: gateway", f"X-Api-Key: {key}"]
    lines += [] if seen is None else [f"Last-Event-ID: {seen}"]
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        stream = Stream(reader, writer)
        async with asyncio.timeout(PATIENCE_S):
            await stream.begin()
        yield stream
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
