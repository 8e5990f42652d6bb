"""Handlers as ASGI applications. Errors are the edge's: Starlette's own wrapper costs twice this."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

Handler = Callable[[Request], Awaitable[Response]]


class Endpoint:
    """One handler."""

    __slots__ = ("handler",)

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.handler(Request(scope, receive, send))
        await response(scope, receive, send)


class Methods:
    """The handlers of an address, by method. One route for all of them knows what to say of the others."""

    __slots__ = ("handlers",)

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self.handlers = {**handlers, **({"HEAD": handlers["GET"]} if "GET" in handlers else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.handlers[scope["method"]](Request(scope, receive, send))
        await response(scope, receive, send)


def route(path: str, **handlers: Handler) -> Route:
    """The route of an address, with a handler for each method."""
    return Route(path, Methods(handlers), methods=list(handlers))
