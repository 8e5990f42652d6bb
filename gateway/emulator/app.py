"""The emulator as an ASGI application: Google's surfaces for music, and ``/control`` beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.emulator.control import REFUSALS, control_routes, refused
from gateway.emulator.desk import Desk, Settings
from gateway.emulator.predict import PredictSurface, describe_endpoint
from gateway.emulator.shelf import Shelf
from gateway.emulator.studio import Studio

_ANNOUNCEMENT = """\
This is the gateway's emulator. It is not a Google service.

It answers like Vertex AI's music models (Lyria 2, Lyria 3, and MusicGen on an endpoint), costs nothing, and
composes its audio itself from prompt and seed. What it plays says nothing about how Google's models sound.

Faults, settings and the log of calls: /control/faults, /control/settings, /control/calls.
"""

_GOOGLE_404 = (
    "<!DOCTYPE html>\n<html lang=en>\n  <title>Error 404 (Not Found)!!1</title>\n"
    "  <p><b>404.</b> <ins>That\u2019s an error.</ins>\n  <p>The requested URL was not found "
    "on this server.\n"
)

_LYRIA_PATH = "/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}:predict"
_INTERACTIONS_PATH = "/projects/{project}/locations/{location}/interactions"
_ENDPOINT_PATH = "/projects/{project}/locations/{location}/endpoints/{endpoint}:predict"


def create_app(
    *,
    settings: Settings | None = None,
    require_token: bool = False,
    studio: Studio | None = None,
    storage_url: str | None = None,
) -> Starlette:
    """The application. ``require_token`` refuses calls without an Authorization header, as Google does.

    ``storage_url`` is the Cloud Storage emulator that an endpoint puts long audio into.
    """
    desk = Desk(settings or Settings(), require_token=require_token)
    own_studio = studio or Studio()
    predict = PredictSurface(desk, own_studio, Shelf(storage_url))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        own_studio.close()

    async def describe(request: Request) -> Response:
        return describe_endpoint(desk, request)

    routes = [Route("/", _announce, methods=["GET"]), *control_routes(desk)]
    for version in ("v1", "v1beta1"):
        routes.append(Route(f"/{version}{_LYRIA_PATH}", predict, methods=["POST"]))
        routes.append(Route(f"/{version}{_ENDPOINT_PATH}", predict, methods=["POST"]))
        routes.append(Route(f"/{version}{_ENDPOINT_PATH.partition(':')[0]}", describe, methods=["GET"]))
    routes.append(Route(f"/v1beta1{_INTERACTIONS_PATH}", predict, methods=["POST"]))
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            404: _no_such_page,
            405: _no_such_page,
            **dict.fromkeys(REFUSALS, refused),
        },
    )
    app.add_middleware(EmulatorHeader)
    return app


class EmulatorHeader:
    """Marks every answer, so that nobody mistakes this for Google."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-emulator", b"gateway-emulator")]
            await send(message)

        await self._app(scope, receive, send_marked)


async def _announce(_: Request) -> Response:
    return PlainTextResponse(_ANNOUNCEMENT)


async def _no_such_page(_request: Request, _fault: Exception) -> Response:
    """Google's front end answers unknown paths and methods with a page, not with JSON."""
    return Response(_GOOGLE_404, 404, media_type="text/html; charset=UTF-8")
