"""An answer that goes on: server-sent events (WHATWG HTML, "Server-sent events"), until there are no more."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

#: A comment: it shows proxies and clients that the connection lives, and tells nobody of anything.
HEARTBEAT = b":\n\n"

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def make_event(name: str, data: bytes, number: int | None = None) -> bytes:
    """An event as it is sent; ``data`` is one line. Without a number the client's last stays what it was."""
    lines = b"event: %s\ndata: %s\n\n" % (name.encode(), data)
    return lines if number is None else b"id: %d\n%s" % (number, lines)


def make_retry(seconds: float) -> bytes:
    """How long a client is to wait before it comes back."""
    return b"retry: %d\n\n" % round(seconds * 1000)


class Outlet:
    """The client's end of a stream. ``wake`` is called once the client has left."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._leaving: asyncio.Task[None] | None = None
        self.gone = False

    def notice(self, wake: Callable[[], None]) -> None:
        """Call this when the client leaves."""
        self._leaving = asyncio.create_task(self._until_gone(wake))

    async def write(self, block: bytes) -> None:
        """Waits for a connection that takes no more: nothing piles up for a client that does not read."""
        await self._send({"type": "http.response.body", "body": block, "more_body": True})

    def close(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()

    async def _until_gone(self, wake: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        wake()


class EventStream(Response):
    """Sends what ``tell`` writes, and ends when it returns. HEAD is answered without it."""

    media_type = "text/event-stream"

    def __init__(self, tell: Callable[[Outlet], Awaitable[None]]) -> None:
        self.status_code = 200
        self.background = None
        self._tell = tell
        self.init_headers(_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # How long it lasts says nothing of how quick the gateway is.
        scope["lasting"] = True
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            outlet = Outlet(receive, send)
            try:
                await self._tell(outlet)
            finally:
                outlet.close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
