"""A dumb TCP balancer: each new connection goes to the next port that takes it. It knows nothing of HTTP.

async with open_balancer([8081, 8082, 8083]) as balancer:
    ... balancer.url: when a process dies its connections break, and new ones go to the others
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

_PIECE_BYTES = 65_536


class Balancer:
    """Takes turns among ports; those that refuse are passed over."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = tuple(ports)
        self._next = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what either says until either has nothing more to say."""
        try:
            behind = await self._connect()
        except asyncio.CancelledError:
            writer.close()
            raise
        if behind is None:
            writer.close()
            return
        ways = [
            asyncio.create_task(_pass_on(reader, behind[1])),
            asyncio.create_task(_pass_on(behind[0], writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First of all: this may be broken off while it waits, and nobody else would close them.
            for each in (writer, behind[1]):
                each.close()
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            for each in (writer, behind[1]):
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._ports:
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def open_balancer(ports: Sequence[int]) -> AsyncIterator[Balancer]:
    balancer = Balancer(ports)
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        task.add_done_callback(served.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await balancer.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    balancer.port = server.sockets[0].getsockname()[1]
    try:
        yield balancer
    finally:
        server.close()
        # Whoever was let in just now is being served by then, and so let go again.
        await asyncio.sleep(0.05)
        left = set(served)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
