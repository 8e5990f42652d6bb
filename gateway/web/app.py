"""The ASGI application: routes, and the edge around them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.metrics import Metrics
from gateway.web.account import AccountApi
from gateway.web.edge import Edge
from gateway.web.files import FileApi
from gateway.web.front import FrontPage
from gateway.web.music import MusicApi
from gateway.web.operations import OperationsApi


@dataclass(frozen=True, slots=True)
class Apis:
    """The handlers. ``files`` is None where audio is served by Cloud Storage itself."""

    music: MusicApi
    account: AccountApi
    operations: OperationsApi
    front: FrontPage
    files: FileApi | None


def create_app(apis: Apis, metrics: Metrics, new_request_id: Callable[[], str]) -> ASGIApp:
    """The application. It has no lifespan: what it needs is open already, and outlives it."""
    router = Router(routes=routes(apis), redirect_slashes=False)
    return Edge(router, metrics, new_request_id)


class Endpoint:
    """A handler as an ASGI application. Errors are the edge's: Starlette's own wrapper costs twice this."""

    __slots__ = ("handler",)

    def __init__(self, handler: Callable[[Request], Awaitable[Response]]) -> None:
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.handler(Request(scope, receive, send))
        await response(scope, receive, send)


def routes(apis: Apis) -> list[Route]:
    """Every route; the busiest first, since they are tried in order."""
    found = [
        Route("/api/task-status/{task_id}", Endpoint(apis.music.status), methods=["GET"]),
        Route("/api/music_generate", Endpoint(apis.music.generate), methods=["POST"]),
        Route("/api/music_generate_lyria", Endpoint(apis.music.generate_lyria), methods=["POST"]),
        Route("/api/account", Endpoint(apis.account.account), methods=["GET"]),
        Route("/api/usage", Endpoint(apis.account.usage), methods=["GET"]),
        Route("/api/models", Endpoint(apis.account.models), methods=["GET"]),
        Route("/livez", Endpoint(apis.operations.livez), methods=["GET"]),
        Route("/readyz", Endpoint(apis.operations.readyz), methods=["GET"]),
        Route("/metrics", Endpoint(apis.operations.metrics), methods=["GET"]),
        Route("/openapi.yaml", Endpoint(apis.operations.openapi), methods=["GET"]),
        Route("/", Endpoint(apis.front.show), methods=["GET"]),
    ]
    if apis.files is not None:
        found.append(Route("/files/{name:path}", Endpoint(apis.files.download), methods=["GET"]))
    return found
