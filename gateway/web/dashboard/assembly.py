"""The dashboard, put together: every page, the API for those who have signed in, and the gate before them."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Scope

from gateway import __version__
from gateway.bootstrap.services import Services
from gateway.settings import Settings
from gateway.web.app import Apis, caller_routes
from gateway.web.callers import CallerSource
from gateway.web.dashboard.assets import Assets
from gateway.web.dashboard.callers import SessionCallers
from gateway.web.dashboard.cookies import Cookies
from gateway.web.dashboard.desk import Desk
from gateway.web.dashboard.gate import API, PREFIX, SIGN_IN, Gate, GatePolicy
from gateway.web.dashboard.home import HomePage
from gateway.web.dashboard.pages import Pages
from gateway.web.dashboard.signin import SignInPages
from gateway.web.endpoint import Endpoint, route

_STATIC = f"{PREFIX}/static"
_GOOGLE_STORAGE = "https://storage.googleapis.com"


@dataclass(frozen=True, slots=True)
class Parts:
    """What pages are made with; each module of pages takes what it needs of it."""

    settings: Settings
    services: Services
    desk: Desk
    callers: SessionCallers
    assets: Assets
    sign_in: SignInPages


def make_dashboard(
    settings: Settings,
    services: Services,
    make_apis: Callable[[CallerSource], Apis],
    source_of: Callable[[Scope], str],
) -> ASGIApp:
    """``make_apis`` makes the gateway's own handlers for a kind of caller; ``source_of`` tells addresses."""
    public_url = urlsplit(settings.effective_public_url)
    cookies = Cookies(secure=public_url.scheme == "https")
    assets = Assets(_STATIC)
    pages = Pages(
        assets.url,
        {
            "version": __version__,
            "emulated": settings.emulated,
            "public_url": settings.effective_public_url,
            "prefix": PREFIX,
        },
    )
    desk = Desk(services.people, pages)
    sign_in = SignInPages(desk, services.sessions, cookies, (), settings.session_s)
    callers = SessionCallers(services.people, services.keyring, services.authenticator)
    parts = Parts(settings, services, desk, callers, assets, sign_in)
    routes = [*_own_api(make_apis(callers)), *_pages(parts)]
    return Gate(
        Router(routes=routes, redirect_slashes=False),
        services.sessions,
        services.people,
        cookies,
        GatePolicy(frozenset({public_url.netloc}), _audio_origins(settings), settings.session_s),
        source_of,
        desk.show_error,
    )


def _own_api(apis: Apis) -> list[Route]:
    """The gateway's API for whoever is signed in: ``/api/x`` is ``/dashboard/api/{tenant_id}/{mode}/x``."""
    prefix = f"{API}{{tenant_id}}/{{mode}}"
    return [
        Route(prefix + each.path.removeprefix("/api"), each.endpoint, methods=each.methods)
        for each in caller_routes(apis)
    ]


def _pages(parts: Parts) -> list[Route]:
    sign_in = parts.sign_in
    home = HomePage(parts.desk, lambda most: parts.services.tenants.list(limit=most))
    return [
        route(PREFIX, GET=home.show),
        route(SIGN_IN, GET=sign_in.show),
        route(f"{SIGN_IN}/link", GET=sign_in.show_link, POST=sign_in.use_link),
        route(f"{PREFIX}/sign-out", POST=sign_in.sign_out),
        Route(f"{_STATIC}/{{name:path}}", Endpoint(parts.assets.show), methods=["GET"]),
    ]


def _audio_origins(settings: Settings) -> tuple[str, ...]:
    """Where links to audio lead, which a player must be allowed to follow."""
    if not settings.storage_url.startswith("gs://"):
        parts = urlsplit(settings.effective_public_url)
        return (f"{parts.scheme}://{parts.netloc}",)
    host = settings.storage_emulator_host
    return (_GOOGLE_STORAGE if not host else host if "://" in host else f"http://{host}",)
