"""The gate before the admin API: who gets through, and what everybody else learns, which is nothing."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gateway.bootstrap.services import Services
from gateway.settings import Settings
from gateway.web.app import create_admin_app
from tests.api import ADMIN, ADMIN_TOKEN, BASE_URL, Administrator, Caller, make_apis, make_app
from tests.secrecy import issue

SECOND_TOKEN = issue("administers-as-well-while-they-are-exchanged")
#: Addresses and methods that are there, and some that are not: nobody outside can tell them apart.
ANYWHERE = [
    ("GET", "/admin/api/tenants"),
    ("POST", "/admin/api/tenants"),
    ("DELETE", "/admin/api/tenants"),
    ("GET", "/admin/api/tenants/ten_x"),
    ("PATCH", "/admin/api/keys/x"),
    ("OPTIONS", "/admin/api/keys"),
    ("BREW", "/admin/api/audit"),
    ("GET", "/admin/api"),
    ("GET", "/admin/api/"),
    ("GET", "/admin/api/nowhere"),
    ("GET", "/admin/api/tenants/"),
    ("POST", "/admin/api/%2e%2e/%2e%2e/etc"),
]


@asynccontextmanager
async def a_gateway(
    settings: Settings, services: Services, **changes: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway with other settings, whose answers need not be documented."""
    apis = make_apis(settings.model_copy(update=changes), services)
    transport = httpx.ASGITransport(make_app(apis, services))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        yield client


def tokens(*those: str) -> SecretStr:
    return SecretStr(",".join(those))


# Closed


@pytest.mark.parametrize("token", [None, SecretStr(""), SecretStr(" , ")])
async def test_without_a_token_it_is_closed_to_everybody_and_says_how_to_open_it(
    settings: Settings, services: Services, token: SecretStr | None
) -> None:
    async with a_gateway(settings, services, admin_token=token) as client:
        for method, path in ANYWHERE:
            for headers in ({}, ADMIN, {"Authorization": "Bearer "}, {"X-Api-Key": ADMIN_TOKEN}):
                response = await client.request(method, path, headers=headers)
                assert (response.status_code, response.json()["code"]) == (403, "admin_closed"), path
                assert "GATEWAY_ADMIN_TOKEN" in response.json()["detail"]


async def test_beside_it_there_is_nothing(settings: Settings, services: Services) -> None:
    async with a_gateway(settings, services, admin_token=None) as client:
        for path in ("/admin", "/admin/", "/admin/apis", "/Admin/api/tenants", "//admin/api/tenants"):
            assert (await client.get(path)).json()["code"] == "route_not_found"


# Open


@pytest.mark.parametrize(("method", "path"), ANYWHERE)
async def test_a_stranger_learns_nothing_of_any_address(
    settings: Settings, services: Services, method: str, path: str
) -> None:
    async with a_gateway(settings, services) as client:
        response = await client.request(method, path, json={"name": "x"})
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        document = response.json()
        assert (document["code"], document["detail"]) == (
            "unauthorized",
            "Send an admin token as Authorization: Bearer. An API key is none.",
        )


async def test_an_administrator_learns_what_is_there_and_what_is_not(admin: Administrator) -> None:
    assert (await admin.told("GET", "/nowhere", 404))["code"] == "route_not_found"
    assert (await admin.told("GET", "", 404))["code"] == "route_not_found"
    for method, path, allow in (
        ("DELETE", "/tenants", "GET, HEAD, POST"),
        ("PUT", "/tenants/x", "GET, HEAD, PATCH"),
        ("GET", "/keys/x/rotate", "POST"),
    ):
        response = await admin.ask(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allow)


async def test_head_is_answered_wherever_get_is(admin: Administrator) -> None:
    assert (await admin.ask("HEAD", "/tenants")).status_code == 200
    assert (await admin.ask("HEAD", "/tenants/ten_x")).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ADMIN_TOKEN},
        {"Authorization": f"Basic {ADMIN_TOKEN}"},
        {"Authorization": f"Bearer {ADMIN_TOKEN}x"},
        {"Authorization": f"Bearer {ADMIN_TOKEN} {ADMIN_TOKEN}"},
        {"Authorization": f"Bearer {ADMIN_TOKEN[:-1]}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"X-Api-Key": ADMIN_TOKEN},
        {"Cookie": f"token={ADMIN_TOKEN}"},
    ],
    ids=range(9),
)
async def test_a_token_comes_as_a_bearer_or_not_at_all(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await client.get("/admin/api/tenants", headers=headers)).status_code == 401


async def test_of_two_tokens_at_once_none_counts(client: httpx.AsyncClient) -> None:
    """What a proxy in front checked may have been the other one."""
    headers = [("Authorization", "Bearer x"), *ADMIN.items()]
    for order in (headers, headers[::-1]):
        assert (await client.get("/admin/api/tenants", headers=order)).status_code == 401


async def test_the_scheme_may_be_in_any_case(client: httpx.AsyncClient) -> None:
    headers = {"Authorization": f"bearer  {ADMIN_TOKEN} "}
    assert (await client.get("/admin/api/tenants", headers=headers)).status_code == 200


async def test_an_api_key_is_no_admin_token_and_the_reverse(
    client: httpx.AsyncClient, caller: Caller
) -> None:
    """K7."""
    for headers in ({"Authorization": f"Bearer {caller.key}"}, {"X-Api-Key": caller.key}):
        assert (await client.get("/admin/api/tenants", headers=headers)).status_code == 401
    for headers in (ADMIN, {"X-Api-Key": ADMIN_TOKEN}):
        assert (await client.get("/api/task-status/task_x", headers=headers)).status_code == 401


async def test_two_tokens_open_it_while_one_replaces_the_other(
    settings: Settings, services: Services
) -> None:
    both = tokens(ADMIN_TOKEN, SECOND_TOKEN)
    async with a_gateway(settings, services, admin_token=both) as client:
        for name, token in (("a", ADMIN_TOKEN), ("b", SECOND_TOKEN)):
            headers = {"Authorization": f"Bearer {token}"}
            made = await client.post("/admin/api/tenants", json={"name": name}, headers=headers)
            assert made.status_code == 201
    actors = [entry.act.actor for entry in await services.books.audit_log(None)]
    assert len(set(actors)) == 2
    assert all(len(actor) == len("admin:") + 8 for actor in actors)
    async with a_gateway(settings, services, admin_token=tokens(SECOND_TOKEN)) as client:
        assert (await client.get("/admin/api/tenants", headers=ADMIN)).status_code == 401


async def test_a_stranger_never_reaches_the_database(client: httpx.AsyncClient, services: Services) -> None:
    await services.database.close()
    response = await client.get("/admin/api/tenants", headers={"Authorization": "Bearer x"})
    assert response.status_code == 401
    assert (await client.get("/admin/api/tenants", headers=ADMIN)).status_code == 503


async def test_a_strangers_body_is_not_even_read(app: Any) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    path = "/admin/api/tenants"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": []}
    await app({**scope, "query_string": b"", "root_path": ""}, receive, send)
    assert sent[0]["status"] == 401


async def test_what_is_logged_of_an_act_has_the_actor_and_no_token(
    admin: Administrator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "gateway.access"):
        await admin.make_tenant()
        await admin.client.post("/admin/api/tenants", headers={"Authorization": "Bearer x"})
    done, refused = [record for record in caplog.records if "/admin/api" in record.getMessage()]
    assert done.actor.startswith("admin:")
    assert (done.status, refused.status) == (201, 401)
    assert not hasattr(refused, "actor")


async def test_metrics_name_no_address_that_a_stranger_made_up(client: httpx.AsyncClient) -> None:
    transport = client._transport
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as anybody:
        await anybody.get("/admin/api/made-up")
    await client.get("/admin/api/tenants/ten_x", headers=ADMIN)
    text = (await client.get("/metrics")).text
    assert "made-up" not in text
    assert 'route="/admin/api/{rest:path}",status="401"' in text
    assert 'route="/admin/api/tenants/{tenant_id}",status="404"' in text


# Elsewhere


async def test_switched_off_there_is_nothing(settings: Settings, services: Services) -> None:
    async with a_gateway(settings, services, admin_api="off") as client:
        for method, path in ANYWHERE:
            response = await client.request(method, path, headers=ADMIN)
            assert (response.status_code, response.json()["code"]) == (404, "route_not_found")


async def test_on_a_port_of_its_own_it_is_only_there(settings: Settings, services: Services) -> None:
    async with a_gateway(settings, services, admin_port=8081) as client:
        for method, path in ANYWHERE:
            response = await client.request(method, path, headers=ADMIN)
            assert (response.status_code, response.json()["code"]) == (404, "route_not_found")


async def test_on_its_own_port_there_is_what_monitors_ask_and_nothing_of_callers(
    settings: Settings, services: Services
) -> None:
    apis = make_apis(settings, services)
    app = create_admin_app(apis.admin, apis.operations, services.metrics, lambda: "request-0001")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        for path in ("/livez", "/readyz", "/metrics", "/openapi.yaml"):
            assert (await client.get(path)).status_code == 200
        for path in ("/", "/api/task-status/x", "/files/x"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/admin/api/tenants")).status_code == 401
        assert (await client.get("/admin/api/tenants", headers=ADMIN)).status_code == 200
