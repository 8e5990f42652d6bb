"""The ASGI application: routes, and the edge around them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.metrics import Metrics
from gateway.web.edge import Edge
from gateway.web.files import FileApi
from gateway.web.front import FrontPage
from gateway.web.music import MusicApi
from gateway.web.operations import OperationsApi
from gateway.web.webhooks import WebhookApi

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Apis:
    """The handlers. ``files`` is None where audio is served by Cloud Storage itself."""

    music: MusicApi
    webhooks: WebhookApi
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

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.handler(Request(scope, receive, send))
        await response(scope, receive, send)


class Methods:
    """A handler for each method of one address: then its 405 names all of them."""

    __slots__ = ("_endpoints",)

    def __init__(self, **handlers: Handler) -> None:
        self._endpoints = {method: Endpoint(handler) for method, handler in handlers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await self._endpoints[method](scope, receive, send)

    def route(self, path: str) -> Route:
        return Route(path, self, methods=list(self._endpoints))


class SpelledOut(Route):
    """An address that is nobody's id: with a method it does not have, no later route is asked."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), child


def webhook_routes(api: WebhookApi) -> list[Route]:
    base = "/api/webhooks"
    deliveries = f"{base}/deliveries"
    return [
        Methods(GET=api.list, POST=api.create).route(base),
        SpelledOut(f"{base}/secret", Endpoint(api.tenant_secret), methods=["GET"]),
        SpelledOut(f"{base}/rotate-secret", Endpoint(api.rotate_tenant_secret), methods=["POST"]),
        SpelledOut(deliveries, Endpoint(api.deliveries), methods=["GET"]),
        SpelledOut(f"{deliveries}/replay-failed", Endpoint(api.replay_failed), methods=["POST"]),
        SpelledOut(f"{deliveries}/{{delivery_id}}", Endpoint(api.delivery), methods=["GET"]),
        Route(f"{deliveries}/{{delivery_id}}/replay", Endpoint(api.replay), methods=["POST"]),
        Methods(GET=api.show, PATCH=api.change, DELETE=api.delete).route(f"{base}/{{endpoint_id}}"),
        Route(f"{base}/{{endpoint_id}}/secret", Endpoint(api.secret), methods=["GET"]),
        Route(f"{base}/{{endpoint_id}}/rotate-secret", Endpoint(api.rotate_secret), methods=["POST"]),
        Route(f"{base}/{{endpoint_id}}/test", Endpoint(api.test), methods=["POST"]),
    ]


def routes(apis: Apis) -> list[Route]:
    """Every route; the busiest first, since they are tried in order."""
    found = [
        Route("/api/task-status/{task_id}", Endpoint(apis.music.status), methods=["GET"]),
        Route("/api/music_generate", Endpoint(apis.music.generate), methods=["POST"]),
        Route("/api/music_generate_lyria", Endpoint(apis.music.generate_lyria), methods=["POST"]),
        Route("/livez", Endpoint(apis.operations.livez), methods=["GET"]),
        Route("/readyz", Endpoint(apis.operations.readyz), methods=["GET"]),
        Route("/metrics", Endpoint(apis.operations.metrics), methods=["GET"]),
        Route("/openapi.yaml", Endpoint(apis.operations.openapi), methods=["GET"]),
        Route("/", Endpoint(apis.front.show), methods=["GET"]),
        *webhook_routes(apis.webhooks),
    ]
    if apis.files is not None:
        found.append(Route("/files/{name:path}", Endpoint(apis.files.download), methods=["GET"]))
    return found
