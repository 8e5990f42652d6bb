"""A network between a program and its PostgreSQL that fails at the moment the test chooses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto


class Cut(Enum):
    """When the connection is cut that the words are said on."""

    BEFORE = auto()  # the server never hears them
    AFTER = auto()  # the server has answered them, and the answer is lost
    MEANWHILE = auto()  # they are on their way, and arrive when the test says so


class Proxy:
    """Passes everything on until told otherwise."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._words = b""
        self._cut = Cut.BEFORE
        self._open = asyncio.Event()
        self._open.set()
        self._arrive = asyncio.Event()
        self._closed = asyncio.Event()
        self.port = 0

    def cut_at(self, words: bytes, cut: Cut) -> None:
        """Once, on the connection on which these words are said next."""
        self._words, self._cut = words, cut

    def fall_silent(self) -> None:
        """Nothing arrives any more, and nobody is told."""
        self._open.clear()

    def speak(self) -> None:
        self._open.set()

    def let_arrive(self) -> None:
        self._arrive.set()

    def close(self) -> None:
        """Every connection breaks, and none is made until `open`."""
        self._closed.set()

    def open(self) -> None:
        self._closed.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed.is_set():
            writer.close()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except BaseException:
            writer.close()
            raise
        muted = asyncio.Event()
        forth = asyncio.create_task(self._forth(reader, writer, server_writer, muted))
        back = asyncio.create_task(self._back(server_reader, writer, muted))
        ways = [forth, back, asyncio.create_task(self._closed.wait())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First of all: this may be broken off while it waits, and nobody else would close them.
            for each in (writer, server_writer):
                each.close()
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            for each in (writer, server_writer):
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _forth(
        self,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
        muted: asyncio.Event,
    ) -> None:
        while data := await reader.read(65_536):
            await self._open.wait()
            if self._words and self._words in data:
                self._words = b""
                if self._cut is Cut.BEFORE:
                    return
                muted.set()
                if self._cut is Cut.MEANWHILE:
                    client.close()
                    await self._arrive.wait()
            server.write(data)
            await server.drain()
        if muted.is_set():
            # The client is gone; the server's answer is still waited for.
            await asyncio.Event().wait()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, muted: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            await self._open.wait()
            if muted.is_set():
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def open_proxy(server_port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(server_port)
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await proxy.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        # Whoever was let in just now is being served by then, and so let go again.
        await asyncio.sleep(0.05)
        for task in served:
            task.cancel()
        if served:
            await asyncio.wait(served)
