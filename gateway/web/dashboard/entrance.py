"""The way in to the dashboard. What it is made of is loaded with the first page that somebody opens."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send


class Entrance:
    """``build`` imports and makes the dashboard; it is called once, beside the event loop."""

    def __init__(self, build: Callable[[], ASGIApp]) -> None:
        self._build = build
        self._building: asyncio.Future[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._building is None:
            self._building = asyncio.ensure_future(asyncio.to_thread(self._build))
        app = await asyncio.shield(self._building)
        await app(scope, receive, send)
