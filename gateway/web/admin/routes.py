"""Where everything of the admin API is, behind its gate."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.routing import Route, Router
from starlette.types import Scope

from gateway.accounts.admins import AdminTokens
from gateway.web.admin.gate import AdminGate
from gateway.web.admin.keys import KeysApi
from gateway.web.admin.money import MoneyApi
from gateway.web.admin.tasks import TasksApi
from gateway.web.admin.tenants import TenantsApi
from gateway.web.endpoint import Handler, route

PREFIX = "/admin/api"


@dataclass(frozen=True, slots=True)
class AdminApi:
    """The handlers, who may reach them, and the address that they note as where it came from."""

    admins: AdminTokens
    source_of: Callable[[Scope], str]
    tenants: TenantsApi
    keys: KeysApi
    money: MoneyApi
    tasks: TasksApi


def gated_routes(api: AdminApi) -> list[Route]:
    """All addresses under the prefix, also those that are nowhere: only administrators learn which."""
    gate = AdminGate(api.admins, api.source_of, Router(routes=admin_routes(api), redirect_slashes=False))
    return [Route(PREFIX, gate), Route(PREFIX + "/{rest:path}", gate)]


def admin_routes(api: AdminApi) -> list[Route]:
    """Every route behind the gate."""
    return [*_tenants(api.tenants), *_keys(api.keys), *_money(api.money), *_tasks(api.tasks)]


def _tenants(api: TenantsApi) -> list[Route]:
    one = "/tenants/{tenant_id}"
    return [
        _route("/tenants", GET=api.list, POST=api.create),
        _route(one, GET=api.get, PATCH=api.update),
        _route(f"{one}/suspend", POST=api.suspend),
        _route(f"{one}/activate", POST=api.activate),
        _route(f"{one}/budgets", PUT=api.set_budgets),
        _route(f"{one}/members", GET=api.list_members),
        # There may be a slash before an address's @.
        _route(f"{one}/members/{{email:path}}", PUT=api.put_member, DELETE=api.remove_member),
    ]


def _keys(api: KeysApi) -> list[Route]:
    one = "/keys/{key_id}"
    return [
        _route("/keys", GET=api.list, POST=api.create),
        _route(one, GET=api.get, PATCH=api.update),
        _route(f"{one}/disable", POST=api.disable),
        _route(f"{one}/enable", POST=api.enable),
        _route(f"{one}/rotate", POST=api.rotate),
        _route(f"{one}/revoke", POST=api.revoke),
    ]


def _money(api: MoneyApi) -> list[Route]:
    return [
        _route("/ledger", GET=api.entries),
        _route("/ledger/adjust", POST=api.adjust),
        _route("/usage", GET=api.usage),
        _route("/reconcile", GET=api.reconcile),
        _route("/audit", GET=api.acts),
    ]


def _tasks(api: TasksApi) -> list[Route]:
    return [
        _route("/tasks", GET=api.list),
        _route("/tasks/{task_id}", GET=api.get),
        _route("/tasks/{task_id}/cancel", POST=api.cancel),
        _route("/queue", GET=api.queue),
        _route("/deployments", GET=api.deployments),
    ]


def _route(path: str, **handlers: Handler) -> Route:
    return route(PREFIX + path, **handlers)
