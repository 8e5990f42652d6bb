"""The dashboard, put together: every page, the API for those who have signed in, and the gate before them."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Scope

from gateway import __version__
from gateway.bootstrap.services import Services
from gateway.settings import Settings
from gateway.tasks.deployment_view import DeploymentView
from gateway.web.app import Apis, caller_routes
from gateway.web.callers import CallerSource
from gateway.web.dashboard.administration import AdminPages
from gateway.web.dashboard.assets import Assets
from gateway.web.dashboard.callers import SessionCallers
from gateway.web.dashboard.cookies import Cookies
from gateway.web.dashboard.desk import Desk
from gateway.web.dashboard.docs import DocPages
from gateway.web.dashboard.gate import API, PREFIX, SIGN_IN, Gate, GatePolicy
from gateway.web.dashboard.home import HomePage
from gateway.web.dashboard.iap import IapVisitors
from gateway.web.dashboard.keys import KeyPages, MemberPages
from gateway.web.dashboard.music import MusicPages
from gateway.web.dashboard.oidc import OIDC_CALLBACK, OIDC_START, OidcPages, Provider
from gateway.web.dashboard.pages import Pages
from gateway.web.dashboard.signin import SignInPages
from gateway.web.dashboard.tokens import KeySets, fetch_json
from gateway.web.dashboard.usage import UsagePages
from gateway.web.dashboard.webhooks import WebhookPages
from gateway.web.endpoint import Endpoint, route

_STATIC = f"{PREFIX}/static"
_TENANT = f"{PREFIX}/t/{{tenant_id}}"
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
    specification: bytes,
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
    ways = ((settings.oidc_label, OIDC_START),) if settings.oidc_issuer else ()
    sign_in = SignInPages(
        desk, services.sessions, cookies, ways, settings.session_s, behind_proxy=bool(settings.iap_audience)
    )
    keys = KeySets(fetch_json, services.clock)
    callers = SessionCallers(services.sessions, services.people, services.keyring, services.authenticator)
    parts = Parts(settings, services, desk, callers, assets, sign_in)
    routes = _docs(DocPages(desk, settings.deployments(), specification), assets)
    if settings.dashboard == "on":
        routes += _oidc(settings, services, keys, sign_in, cookies)
        routes += [*_own_api(make_apis(callers)), *_pages(parts)]
    return Gate(
        Router(routes=routes, redirect_slashes=False),
        services.sessions,
        services.people,
        cookies,
        GatePolicy(frozenset({public_url.netloc}), _audio_origins(settings), settings.session_s),
        source_of,
        desk.show_error,
        _iap(settings, services, keys),
    )


def _iap(settings: Settings, services: Services, keys: KeySets) -> IapVisitors | None:
    if not settings.iap_audience:
        return None
    audience, keys_url = settings.iap_audience, settings.iap_keys_url
    return IapVisitors(keys, services.people, services.sessions, audience=audience, keys_url=keys_url)


def _oidc(
    settings: Settings, services: Services, keys: KeySets, sign_in: SignInPages, cookies: Cookies
) -> list[Route]:
    if not settings.oidc_issuer:
        return []
    provider = Provider(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret.get_secret_value(),
        settings.effective_public_url + OIDC_CALLBACK,
    )
    pages = OidcPages(provider, keys, fetch_json, services.sessions, sign_in, cookies, secrets.token_bytes)
    return [route(OIDC_START, GET=pages.start), route(OIDC_CALLBACK, GET=pages.finish)]


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
        *_music(parts),
        *_keys(parts),
        *_webhooks(parts),
        *_administration(parts),
    ]


def _docs(docs: DocPages, assets: Assets) -> list[Route]:
    """What is there for everybody, also where there is no dashboard."""
    return [
        route("/docs", GET=docs.show),
        route("/docs/{name}", GET=docs.show),
        Route(f"{_STATIC}/{{name:path}}", Endpoint(assets.show), methods=["GET"]),
    ]


def _music(parts: Parts) -> list[Route]:
    services = parts.services
    pages = MusicPages(
        parts.desk, parts.callers, services.tasks, services.archive, services.standings, services.queue,
        services.canceler, services.retention, services.keyring, parts.settings.effective_public_url,
    )  # fmt: skip
    usage = UsagePages(parts.desk, services.tenants, services.usage)
    one = f"{_TENANT}/tasks/{{task_id}}"
    return [
        route(f"{_TENANT}/try", GET=pages.show_try, POST=pages.make),
        route(f"{_TENANT}/tasks", GET=pages.list),
        route(one, GET=pages.show),
        route(f"{one}/cancel", POST=pages.cancel),
        route(f"{one}/delete", POST=pages.delete),
        route(f"{_TENANT}/usage", GET=usage.show),
    ]


def _keys(parts: Parts) -> list[Route]:
    services = parts.services
    keys = KeyPages(parts.desk, services.keyring, services.usage, services.clock)
    members = MemberPages(parts.desk, services.tenants)
    one = f"{_TENANT}/keys/{{key_id}}"
    return [
        route(f"{_TENANT}/keys", GET=keys.list, POST=keys.create),
        route(f"{_TENANT}/keys/new", GET=keys.show_new),
        route(one, GET=keys.show, POST=keys.change),
        route(f"{one}/rotate", POST=keys.rotate),
        route(f"{one}/disable", POST=keys.disable),
        route(f"{one}/enable", POST=keys.enable),
        route(f"{one}/revoke", POST=keys.revoke),
        route(f"{_TENANT}/members", GET=members.list, POST=members.put),
        route(f"{_TENANT}/members/remove", POST=members.remove),
    ]


def _webhooks(parts: Parts) -> list[Route]:
    pages = WebhookPages(parts.desk, parts.services.webhooks)
    base = f"{_TENANT}/webhooks"
    one, delivery = f"{base}/{{endpoint_id}}", f"{base}/deliveries/{{delivery_id}}"
    return [
        route(base, GET=pages.list, POST=pages.create),
        route(delivery, GET=pages.delivery),
        route(f"{delivery}/replay", POST=pages.replay),
        route(one, GET=pages.show),
        route(f"{one}/secret", POST=pages.reveal),
        route(f"{one}/rotate", POST=pages.rotate),
        route(f"{one}/switch", POST=pages.switch),
        route(f"{one}/test", POST=pages.test),
        route(f"{one}/delete", POST=pages.delete),
    ]


def _administration(parts: Parts) -> list[Route]:
    services, settings = parts.services, parts.settings
    deployments = DeploymentView(services.database, services.clock, settings.deployments())
    checks = {"database": services.check_database, "storage": services.storage.check}
    pages = AdminPages(parts.desk, services.tenants, services.books, services.archive, deployments, checks)
    base = f"{PREFIX}/admin"
    one = f"{base}/tenants/{{tenant_id}}"
    return [
        route(base, GET=pages.list, POST=pages.create),
        route(one, GET=pages.show, POST=pages.change),
        route(f"{one}/switch", POST=pages.switch),
        route(f"{one}/adjust", POST=pages.adjust),
        route(f"{base}/system", GET=pages.system),
        route(f"{base}/ledger", GET=pages.ledger),
        route(f"{base}/audit", GET=pages.audit),
    ]


def _audio_origins(settings: Settings) -> tuple[str, ...]:
    """Where links to audio lead, which a player must be allowed to follow."""
    if not settings.storage_url.startswith("gs://"):
        parts = urlsplit(settings.effective_public_url)
        return (f"{parts.scheme}://{parts.netloc}",)
    host = settings.storage_emulator_host
    return (_GOOGLE_STORAGE if not host else host if "://" in host else f"http://{host}",)
