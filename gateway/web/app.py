"""The ASGI application: routes, and the edge around them."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.routing import Route, Router
from starlette.types import ASGIApp

from gateway.metrics import Metrics
from gateway.web.edge import Edge
from gateway.web.files import FileApi
from gateway.web.front import FrontPage
from gateway.web.music import MusicApi
from gateway.web.operations import OperationsApi


@dataclass(frozen=True, slots=True)
class Apis:
    """The handlers. ``files`` is None where audio is served by Cloud Storage itself."""

    music: MusicApi
    operations: OperationsApi
    front: FrontPage
    files: FileApi | None


def create_app(apis: Apis, metrics: Metrics, new_request_id: Callable[[], str]) -> ASGIApp:
    """The application. It has no lifespan: what it needs is open already, and outlives it."""
    router = Router(routes=routes(apis), redirect_slashes=False)
    return Edge(router, metrics, new_request_id)


def routes(apis: Apis) -> list[Route]:
    """Every route; the busiest first, since they are tried in order."""
    found = [
        Route("/api/task-status/{task_id}", apis.music.status, methods=["GET"]),
        Route("/api/music_generate", apis.music.generate, methods=["POST"]),
        Route("/api/music_generate_lyria", apis.music.generate_lyria, methods=["POST"]),
        Route("/livez", apis.operations.livez, methods=["GET"]),
        Route("/readyz", apis.operations.readyz, methods=["GET"]),
        Route("/metrics", apis.operations.metrics, methods=["GET"]),
        Route("/openapi.yaml", apis.operations.openapi, methods=["GET"]),
        Route("/", apis.front.show, methods=["GET"]),
    ]
    if apis.files is not None:
        found.append(Route("/files/{name:path}", apis.files.download, methods=["GET"]))
    return found
