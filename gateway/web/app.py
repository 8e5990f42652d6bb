"""The ASGI application: routes, and the edge around them."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Scope

from gateway.metrics import Metrics
from gateway.web.account import AccountApi
from gateway.web.admin.routes import AdminApi, gated_routes
from gateway.web.deletion import DeletionApi
from gateway.web.edge import Edge
from gateway.web.endpoint import Endpoint, route
from gateway.web.events import EventApi
from gateway.web.files import FileApi
from gateway.web.front import FrontPage
from gateway.web.music import MusicApi
from gateway.web.operations import OperationsApi
from gateway.web.tasks import TaskListApi
from gateway.web.webhooks import WebhookApi

#: What the dashboard answers: its pages and the documentation.
DASHBOARD_PATHS = ("/dashboard", "/dashboard/{rest:path}", "/docs", "/docs/{rest:path}")


@dataclass(frozen=True, slots=True)
class Apis:
    """The handlers. ``files`` is None where audio is served by Cloud Storage itself.

    ``admin`` is None where it is switched off, or served on a port of its own (`create_admin_app`), and
    ``dashboard``, which is an application of its own behind its gate, where it is not wanted.
    """

    music: MusicApi
    tasks: TaskListApi
    deletion: DeletionApi
    events: EventApi
    account: AccountApi
    webhooks: WebhookApi
    operations: OperationsApi
    front: FrontPage
    files: FileApi | None
    admin: AdminApi | None = None
    dashboard: ASGIApp | None = None


def create_app(apis: Apis, metrics: Metrics, new_request_id: Callable[[], str]) -> ASGIApp:
    """The application. It has no lifespan: what it needs is open already, and outlives it."""
    router = Router(routes=routes(apis), redirect_slashes=False)
    return Edge(router, metrics, new_request_id)


def create_admin_app(
    admin: AdminApi, operations: OperationsApi, metrics: Metrics, new_request_id: Callable[[], str]
) -> ASGIApp:
    """The application on the admin API's own port: that API, and what monitors ask."""
    router = Router(routes=[*_operations(operations), *gated_routes(admin)], redirect_slashes=False)
    return Edge(router, metrics, new_request_id)


class SpelledOut(Route):
    """An address that is nobody's id: with a method it does not have, no later route is asked."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), child


def webhook_routes(api: WebhookApi) -> list[Route]:
    base = "/api/webhooks"
    deliveries = f"{base}/deliveries"
    return [
        route(base, GET=api.list, POST=api.create),
        SpelledOut(f"{base}/secret", Endpoint(api.tenant_secret), methods=["GET"]),
        SpelledOut(f"{base}/rotate-secret", Endpoint(api.rotate_tenant_secret), methods=["POST"]),
        SpelledOut(deliveries, Endpoint(api.deliveries), methods=["GET"]),
        SpelledOut(f"{deliveries}/replay-failed", Endpoint(api.replay_failed), methods=["POST"]),
        SpelledOut(f"{deliveries}/{{delivery_id}}", Endpoint(api.delivery), methods=["GET"]),
        Route(f"{deliveries}/{{delivery_id}}/replay", Endpoint(api.replay), methods=["POST"]),
        route(f"{base}/{{endpoint_id}}", GET=api.show, PATCH=api.change, DELETE=api.delete),
        Route(f"{base}/{{endpoint_id}}/secret", Endpoint(api.secret), methods=["GET"]),
        Route(f"{base}/{{endpoint_id}}/rotate-secret", Endpoint(api.rotate_secret), methods=["POST"]),
        Route(f"{base}/{{endpoint_id}}/test", Endpoint(api.test), methods=["POST"]),
    ]


def caller_routes(apis: Apis) -> list[Route]:
    """Everything under ``/api``, called with a key; the busiest first, since they are tried in order."""
    return [
        Route("/api/task-status/{task_id}", Endpoint(apis.music.status), methods=["GET"]),
        Route("/api/task-status/{task_id}/events", Endpoint(apis.events.events), methods=["GET"]),
        Route("/api/music_generate", Endpoint(apis.music.generate), methods=["POST"]),
        Route("/api/music_generate_lyria", Endpoint(apis.music.generate_lyria), methods=["POST"]),
        Route("/api/tasks", Endpoint(apis.tasks.list), methods=["GET"]),
        Route("/api/tasks/{task_id}", Endpoint(apis.deletion.delete), methods=["DELETE"]),
        Route("/api/tasks/{task_id}/cancel", Endpoint(apis.music.cancel), methods=["POST"]),
        Route("/api/account", Endpoint(apis.account.account), methods=["GET"]),
        Route("/api/usage", Endpoint(apis.account.usage), methods=["GET"]),
        Route("/api/models", Endpoint(apis.account.models), methods=["GET"]),
        *webhook_routes(apis.webhooks),
    ]


def routes(apis: Apis) -> list[Route]:
    """Every route."""
    found = [
        *caller_routes(apis),
        *_operations(apis.operations),
        Route("/", Endpoint(apis.front.show), methods=["GET"]),
    ]
    if apis.files is not None:
        found.append(Route("/files/{name:path}", Endpoint(apis.files.download), methods=["GET"]))
    if apis.admin is not None:
        found += gated_routes(apis.admin)
    if apis.dashboard is not None:
        found += [Route(path, apis.dashboard) for path in DASHBOARD_PATHS]
    return found


def _operations(api: OperationsApi) -> list[Route]:
    return [
        Route("/livez", Endpoint(api.livez), methods=["GET"]),
        Route("/readyz", Endpoint(api.readyz), methods=["GET"]),
        Route("/metrics", Endpoint(api.metrics), methods=["GET"]),
        Route("/openapi.yaml", Endpoint(api.openapi), methods=["GET"]),
    ]
