"""Who may do what: every operation of openapi.yaml, tried by every kind of caller, against a table of rules.

The rule of an operation follows from what the document says of it: its tag, how it is secured and, for keys,
the scope that it needs. An operation without a rule fails here, and so does one that takes an id which this
test cannot fill in.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from gateway.bootstrap.services import Services
from gateway.model import KeyMode, Role, Scope
from gateway.settings import Settings
from tests.api import (
    ADMIN,
    ADMIN_TOKEN,
    Caller,
    make_apis,
    make_app,
    make_caller,
    send_raw,
    serving,
)
from tests.factories import ACT, a_caller
from tests.secrecy import issue
from tests.specification import METHODS, Specification

WRONG_TOKEN = issue("administers-nothing-that-is-under-test")
DOCUMENT = Specification.load().document
EMAIL = "ada@example.com"


class Outcome(Enum):
    """What a caller is told, as far as it is about who they are."""

    DONE = "2xx"
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"

    @classmethod
    def of(cls, response: httpx.Response) -> "Outcome | str":
        found = "2xx" if response.is_success else str(response.status_code)
        return cls(found) if found in {each.value for each in cls} else f"{found} {response.text}"


DONE, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = Outcome

# Rules: by (tag, how it is secured, scope), what each kind of caller is told; `...` is everybody else.

KEYS = ("ApiKey", "Bearer")
RULES: dict[tuple[str, tuple[str, ...], str | None], dict[Any, Outcome]] = {
    ("music", KEYS, "generate"): {
        "key": DONE,
        "key as bearer": DONE,
        "key to generate": DONE,
        "key to read": FORBIDDEN,
        "key for another model": FORBIDDEN,
        "test key": DONE,
        "key of a suspended tenant": FORBIDDEN,
        # What another tenant asks for is its own.
        "key of another tenant": DONE,
        ...: UNAUTHORIZED,
    },
    ("music", KEYS, "read"): {
        "key": DONE,
        "key as bearer": DONE,
        "key to generate": FORBIDDEN,
        "key to read": DONE,
        "key for another model": DONE,
        "test key": DONE,
        "key of a suspended tenant": DONE,
        "key of another tenant": DONE,
        ...: UNAUTHORIZED,
    },
    ("tasks", KEYS, "read"): {
        "key": DONE,
        "key as bearer": DONE,
        "key to generate": FORBIDDEN,
        "key to read": DONE,
        "key for another model": DONE,
        "test key": DONE,
        "key of a suspended tenant": DONE,
        # A list of its own tasks.
        "key of another tenant": DONE,
        ...: UNAUTHORIZED,
    },
    # A tenant that is suspended may still take back what it asked for, and have deleted what it made.
    ("tasks", KEYS, "generate"): {
        "key": DONE,
        "key as bearer": DONE,
        "key to generate": DONE,
        "key to read": FORBIDDEN,
        "key for another model": DONE,
        "test key": DONE,
        "key of a suspended tenant": DONE,
        "key of another tenant": DONE,
        ...: UNAUTHORIZED,
    },
    # A tenant that is suspended still hears of what runs, so it may say where.
    **{
        ("webhooks", KEYS, scope): {
            "key": DONE,
            "key as bearer": DONE,
            "key to generate": DONE if scope == "generate" else FORBIDDEN,
            "key to read": DONE if scope == "read" else FORBIDDEN,
            "key for another model": DONE,
            "test key": DONE,
            "key of a suspended tenant": DONE,
            "key of another tenant": DONE,
            ...: UNAUTHORIZED,
        }
        for scope in ("generate", "read")
    },
    ("account", KEYS, "read"): {
        "key": DONE,
        "key as bearer": DONE,
        "key to generate": FORBIDDEN,
        "key to read": DONE,
        "key for another model": DONE,
        "test key": DONE,
        "key of a suspended tenant": DONE,
        # It sees its own.
        "key of another tenant": DONE,
        ...: UNAUTHORIZED,
    },
    ("admin", ("AdminToken",), None): {
        "admin token": DONE,
        "garbage beside an admin token": DONE,
        ...: UNAUTHORIZED,
    },
    # The link is the permission.
    ("audio", (), None): {...: DONE},
    ("operations", (), None): {...: DONE},
}

# Done to a task that was canceled before: whatever worker is about, it finds the same each time.
OF_CANCELED_TASKS = {"cancelTask", "cancelAnyTask"}

# What the document's examples lack to be done.
BODIES: dict[str, dict[str, Any]] = {
    "musicGenerate": {"model": "lyria-002"},
    "adjustLedger": {"spent_micros": 5},
}


@dataclass(frozen=True)
class Operation:
    path: str
    method: str
    described: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.described["operationId"])

    @property
    def key(self) -> tuple[str, tuple[str, ...], str | None]:
        """What its rule depends on."""
        secured = self.described.get("security", DOCUMENT["security"])
        schemes = tuple(sorted(name for way in secured for name in way))
        (tag,) = self.described["tags"]
        return tag, schemes, self.described.get("x-required-scope")

    def parameters(self) -> list[dict[str, Any]]:
        shared = DOCUMENT["paths"][self.path].get("parameters", [])
        return [resolved(each) for each in [*shared, *self.described.get("parameters", [])]]


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    return Specification(DOCUMENT).resolve(value, "")[0]


def operations() -> Iterator[Operation]:
    for path, item in DOCUMENT["paths"].items():
        yield from (Operation(path, method, item[method]) for method in METHODS if method in item)


ALL = list(operations())


def test_every_operation_has_a_rule_and_every_rule_an_operation() -> None:
    assert {operation.key for operation in ALL} == set(RULES)


def test_an_operation_that_says_nothing_of_its_scope_has_no_rule() -> None:
    silent = {"operationId": "new", "tags": ["music"]}
    assert Operation("/api/music_generate", "post", silent).key not in RULES
    assert Operation("/api/music_generate", "post", {**silent, "security": []}).key not in RULES


# Scenes


@dataclass(frozen=True)
class Target:
    """What operations are tried on: one thing of each kind, all of one tenant."""

    ids: dict[str, str]
    query: dict[str, str] = field(default_factory=dict)

    def fill(self, operation: Operation) -> dict[str, Any]:
        """The request. KeyError when it takes an id that is not known here."""
        path, query, headers = operation.path, {}, {}
        for parameter in operation.parameters():
            name = parameter["name"]
            if parameter["in"] == "path":
                of_canceled = name == "task_id" and operation.name in OF_CANCELED_TASKS
                value = self.ids["canceled_id" if of_canceled else name]
                path = path.replace(f"{{{name}}}", quote(value))
            elif parameter["in"] == "query" and parameter.get("required"):
                query[name] = self.query[name]
            elif name == "Prefer":
                headers["Prefer"] = "respond-async"
        request: dict[str, Any] = {"method": operation.method.upper(), "url": path, "params": query}
        return {**request, "headers": headers, **self._body(operation)}

    def _body(self, operation: Operation) -> dict[str, Any]:
        if "requestBody" not in operation.described:
            return {}
        media = operation.described["requestBody"]["content"]["application/json"]
        example = next(iter(media["examples"].values()))["value"]
        known = {name: value for name, value in self.ids.items() if name in example}
        return {"json": {**example, **known, **BODIES.get(operation.name, {})}}


@dataclass
class World:
    """A gateway, a tenant with a finished task, and another one."""

    services: Services
    client: httpx.AsyncClient
    own: Caller
    other: Caller
    target: Target
    spare_task_id: str

    async def key(self, **terms: Any) -> str:
        _, text = await self.services.keyring.create(ACT, self.own.tenant_id, name="key", **terms)
        return text

    async def new_target(self) -> Target:
        """As the own tenant's, of another tenant: what an administrator changes for good."""
        number = self.services.new_id("x")
        caller = await make_caller(self.client, self.services, number)
        await self.services.tenants.put_member(ACT, caller.tenant_id, EMAIL, Role.VIEWER)
        task = await caller.ask()
        target = target_of(caller, task["task_id"])
        target.ids["canceled_id"] = self.target.ids["canceled_id"]
        return target

    def with_a_task_to_spare(self) -> Target:
        """The own tenant's things, with a finished task that nothing else is tried on."""
        return replace(self.target, ids={**self.target.ids, "task_id": self.spare_task_id})

    async def with_a_webhook(self) -> Target:
        """The own tenant's things, with an endpoint and a delivery that nobody has touched yet."""
        webhooks, tenant_id = self.services.webhooks, self.own.tenant_id
        endpoint = await webhooks.create(
            ACT, tenant_id, f"https://hooks.example.com/{self.services.new_id('x')}"
        )
        delivery = await webhooks.test(tenant_id, endpoint.id)
        ids = {**self.target.ids, "endpoint_id": endpoint.id, "delivery_id": delivery.id}
        return replace(self.target, ids=ids)


def target_of(caller: Caller, task_id: str) -> Target:
    return Target(
        {"tenant_id": caller.tenant_id, "key_id": caller.key_id, "task_id": task_id, "email": EMAIL}
    )


@pytest.fixture
async def world(services: Services, client: httpx.AsyncClient, caller: Caller, stranger: Caller) -> World:
    unwanted = await caller.ask()
    canceled = await caller.post(f"/api/tasks/{unwanted['task_id']}/cancel")
    assert canceled.status_code == 200
    services.runner.start()
    task = await caller.ended((await caller.ask_lyria())["task_id"])
    spare = await caller.ended((await caller.ask_lyria())["task_id"])
    link = urlsplit(task["audio_url"])
    target = target_of(caller, task["task_id"])
    target.ids["name"] = link.path.removeprefix("/files/")
    target.ids["canceled_id"] = unwanted["task_id"]
    target = replace(target, query=dict(parse_qsl(link.query)))
    world = World(services, client, caller, stranger, target, spare["task_id"])
    world.target = await world.with_a_webhook()
    return world


async def suspended(world: World) -> dict[str, str]:
    await world.services.tenants.suspend(ACT, world.own.tenant_id)
    return {"X-Api-Key": world.own.key}


async def stopped(world: World, how: str) -> dict[str, str]:
    text = await world.key()
    key_id = text.split("_")[2]
    await getattr(world.services.keyring, how)(ACT, key_id)
    return {"X-Api-Key": text}


async def expired(world: World) -> dict[str, str]:
    tenant = await world.services.tenants.get(world.own.tenant_id)
    _, text = await a_caller(world.services.database, tenant, expires_at_ms=1)
    return {"X-Api-Key": text}


async def keyed(world: World, **terms: Any) -> dict[str, str]:
    return {"X-Api-Key": await world.key(**terms)}


def sending(**headers: str) -> Callable[[World], Any]:
    async def send(_: World) -> dict[str, str]:
        return {name.replace("_", "-"): value for name, value in headers.items()}

    return send


async def own(world: World) -> dict[str, str]:
    return {"X-Api-Key": world.own.key}


async def own_as_bearer(world: World) -> dict[str, str]:
    return {"Authorization": f"Bearer {world.own.key}"}


async def anothers(world: World) -> dict[str, str]:
    return {"X-Api-Key": world.other.key}


#: Every kind of caller, by name: what it sends.
CALLERS: dict[str, Callable[[World], Any]] = {
    "nobody": sending(),
    "garbage": sending(X_Api_Key="mg_live_garbage"),
    "garbage as bearer": sending(Authorization="Bearer mg_live_garbage"),
    "key": own,
    "key as bearer": own_as_bearer,
    "key to generate": lambda world: keyed(world, scopes=frozenset({Scope.GENERATE})),
    "key to read": lambda world: keyed(world, scopes=frozenset({Scope.READ})),
    "key for another model": lambda world: keyed(world, allowed_models=("musicgen",)),
    "test key": lambda world: keyed(world, mode=KeyMode.TEST),
    "key of another tenant": anothers,
    "key of a suspended tenant": suspended,
    "expired key": expired,
    "disabled key": lambda world: stopped(world, "disable"),
    "revoked key": lambda world: stopped(world, "revoke"),
    "admin token": sending(**ADMIN),
    "wrong admin token": sending(Authorization=f"Bearer {WRONG_TOKEN}"),
    "admin token as a key": sending(X_Api_Key=ADMIN_TOKEN),
    # On either side the one that counts there counts, whatever stands beside it.
    "garbage beside an admin token": sending(X_Api_Key="mg_live_garbage", **ADMIN),
}


def takes_an_id(operation: Operation) -> bool:
    return "{" in operation.path and operation.key[1] == KEYS


def expected(operation: Operation, caller: str) -> Outcome:
    """What its rule says; but by the id of something that is another tenant's, nobody finds anything."""
    if caller == "key of another tenant" and takes_an_id(operation):
        return NOT_FOUND
    rule = RULES[operation.key]
    return rule.get(caller, rule[...])


def test_rules_name_callers_that_are_tried() -> None:
    assert {caller for rule in RULES.values() for caller in rule} - {...} <= set(CALLERS)


@pytest.mark.parametrize("who", CALLERS)
async def test_every_operation_tells_every_caller_what_its_rule_says(world: World, who: str) -> None:
    headers = await CALLERS[who](world)
    seen = {}
    for operation in ALL:
        rule = expected(operation, who)
        target = world.target
        if rule is DONE and operation.key[0] == "admin":
            target = await world.new_target()
        elif rule is DONE and operation.key[0] == "webhooks":
            target = await world.with_a_webhook()
        elif rule is DONE and operation.key[0] == "tasks":
            target = world.with_a_task_to_spare()
        request = target.fill(operation)
        request["headers"] |= headers
        seen[operation.name] = Outcome.of(await world.client.request(**request))
    assert seen == {operation.name: expected(operation, who) for operation in ALL}


@pytest.mark.parametrize("operation", [each for each in ALL if takes_an_id(each)], ids=lambda each: each.name)
async def test_another_tenants_id_is_told_as_nobodys(world: World, operation: Operation) -> None:
    """Letter for letter what is told of an id that never was: not even that there is such a thing."""
    nobodys = {name: value[:-4] + "0000" for name, value in world.target.ids.items()}
    told = []
    for target in (world.target, Target(nobodys)):
        request = target.fill(operation)
        request["headers"]["X-Api-Key"] = world.other.key
        response = await world.client.request(**request)
        told.append({**response.json(), "request_id": None})
    assert told[0]["status"] == 404
    assert told[0] == told[1]


# Roads around the gate (CVE-2026-48710: a crafted Host header led path-based checks astray)


class Tripwire:
    """Stands where an admin API's handlers do and notes when one is reached."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    def __getattr__(self, name: str) -> Callable[[Request], Any]:
        async def handler(_: Request) -> Response:
            self.reached.append(name)
            return Response(b"{}", media_type="application/json")

        return handler


@asynccontextmanager
async def wired(settings: Settings, services: Services) -> AsyncIterator[tuple[str, Tripwire]]:
    wire: Any = Tripwire()
    apis = make_apis(settings, services)
    assert apis.admin is not None
    admin = replace(apis.admin, tenants=wire, keys=wire, money=wire, tasks=wire)
    async with serving(make_app(replace(apis, admin=admin), services)) as url:
        yield url, wire


TARGETS = [
    "/admin/api/tenants",
    "//admin/api/tenants",
    "///admin//api//tenants",
    "/admin/api/../api/tenants",
    "/livez/../admin/api/tenants",
    "/api/../admin/api/tenants",
    "/files/../admin/api/tenants",
    "/admin/./api/tenants",
    "/admin/api/%2e%2e/api/tenants",
    "/%2e/admin/api/tenants",
    "/admin%2fapi%2ftenants",
    "/admin/api%2ftenants",
    "/%61dmin/%61pi/tenants",
    "/ADMIN/API/tenants",
    "/admin/api/TENANTS",
    "/admin/api;/tenants",
    "/admin/api/tenants;x=/livez",
    "/admin/api/tenants/",
    "/admin/api/tenants?/livez",
    "/livez?/admin/api/tenants",
    "/livez#/admin/api/tenants",
    "/livez%23/../admin/api/tenants",
    "/admin/api/tenants%00",
    "/admin\\api\\tenants",
    "http://gateway/admin/api/tenants",
    "http://gateway/livez/admin/api/tenants",
]
HOSTS = [
    "gateway",
    "gateway/livez?",
    "gateway/livez#",
    "gateway/admin/api/tenants?",
    "x@gateway",
    "gateway:80/../livez",
    "[::1",
    "127.0.0.1\\livez",
    "",
]
HEADERS = [
    b"X-Original-URL: /admin/api/tenants",
    b"X-Rewrite-URL: /admin/api/tenants",
    b"X-Forwarded-Prefix: /admin/api",
    b"X-Forwarded-Host: gateway/livez?",
    b"X-HTTP-Method-Override: POST",
    b"Forwarded: for=127.0.0.1;host=localhost",
    b"Authorization: Bearer",
]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_no_road_leads_around_the_gate(settings: Settings, services: Services, method: str) -> None:
    async with wired(settings, services) as (url, wire):
        roads = [(target, host, b"") for target in TARGETS for host in ("gateway", "gateway/livez?")]
        roads += [("/admin/api/tenants", host, b"") for host in HOSTS]
        roads += [(target, "gateway", header) for target in ("/", "/admin/api/keys") for header in HEADERS]
        for target, host, header in roads:
            lines = [f"{method} {target} HTTP/1.1".encode(), f"Host: {host}".encode(), header]
            head = b"\r\n".join(line for line in [*lines, b"Content-Length: 0", b"Connection: close"] if line)
            answer = await send_raw(url, head + b"\r\n\r\n")
            harmless = target.startswith(("/livez?", "/livez#")) or target == "/"
            refused = {400, 401, 403, 404, 405}
            assert answer.status in (refused | {200} if harmless else refused), (target, host, header)
        assert wire.reached == []


async def test_with_a_token_the_road_is_open(settings: Settings, services: Services) -> None:
    """The tripwire of the test above would be touched."""
    async with wired(settings, services) as (url, wire), httpx.AsyncClient(trust_env=False) as client:
        for path in ("/admin/api/tenants", "/admin/api/keys", "/admin/api/audit", "/admin/api/tasks"):
            assert (await client.get(url + path, headers=ADMIN)).status_code == 200
        assert wire.reached == ["list", "list", "acts", "list"]
