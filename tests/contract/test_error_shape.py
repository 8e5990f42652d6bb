"""Every error there is comes in one shape, from whatever path raises it (RFC 9457)."""

import io
import json
import logging
import shutil
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.bootstrap.services import Services, open_services
from gateway.errors import ErrorCode, GatewayError
from gateway.model import BudgetWindow, KeyMode, Scope
from gateway.settings import Settings
from gateway.tasks.catalog import Catalog
from gateway.telemetry import JsonFormatter
from gateway.web.app import Apis
from gateway.web.problems import STATUSES
from tests.api import (
    ADMIN,
    BASE_URL,
    Caller,
    checked_client,
    make_apis,
    make_app,
    make_caller,
    send_raw,
    serving,
)
from tests.factories import ACT, NOW_MS, a_caller
from tests.running import free_port
from tests.specification import Specification

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Scene:
    """What a test of errors may break."""

    settings: Settings
    services: Services
    apis: Apis
    caller: Caller

    @property
    def client(self) -> httpx.AsyncClient:
        return self.caller.client


@pytest.fixture
async def scene(settings: Settings, services: Services, caller: Caller) -> Scene:
    return Scene(settings, services, make_apis(settings, services), caller)


class Broken:
    """A handler that raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def show(self, request: Request) -> Response:
        raise self._error


async def raised(scene: Scene, error: Exception, *, undocumented: bool = False) -> httpx.Response:
    """The answer of an application whose front page raises this.

    ``undocumented``: a status that no handler of ours gives, and so one that openapi.yaml does not name.
    """
    app = make_app(replace(scene.apis, front=Broken(error)), scene.services)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    if undocumented:
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
            return await client.get("/")
    async with checked_client(Specification.load(), transport=transport, base_url=BASE_URL) as client:
        return await client.get("/")


async def link_of(scene: Scene) -> str:
    scene.services.runner.start()
    task = await scene.caller.ended((await scene.caller.ask())["task_id"])
    parts = urlsplit(task["audio_url"])
    return f"{parts.path}?{parts.query}"


async def on_the_wire(scene: Scene, *blocks: bytes) -> httpx.Response:
    """What came back for bytes that no HTTP client would send."""
    async with serving(make_app(scene.apis, scene.services)) as url:
        answer = await send_raw(url, *blocks)
    request = httpx.Request("GET", f"{BASE_URL}/")
    response = httpx.Response(answer.status, headers=answer.headers, content=answer.body, request=request)
    Specification.load().check(response)
    return response


# One way to each code


async def malformed_request(scene: Scene) -> httpx.Response:
    return await on_the_wire(scene, b"nonsense\r\n\r\n")


async def invalid_request(scene: Scene) -> httpx.Response:
    return await scene.caller.post(json={"prompt": ""})


async def malformed_body(scene: Scene) -> httpx.Response:
    return await scene.caller.post(content=b"{", headers=JSON)


async def unauthorized(scene: Scene) -> httpx.Response:
    return await scene.client.get("/api/task-status/x")


async def key_revoked(scene: Scene) -> httpx.Response:
    await scene.services.keyring.revoke(ACT, scene.caller.key_id)
    return await scene.caller.status("x")


async def key_expired(scene: Scene) -> httpx.Response:
    _, text = await a_caller(scene.services.database, expires_at_ms=NOW_MS - 10**12)
    return await replace(scene.caller, key=text).status("x")


async def key_disabled(scene: Scene) -> httpx.Response:
    await scene.services.keyring.disable(ACT, scene.caller.key_id)
    return await scene.caller.status("x")


async def tenant_suspended(scene: Scene) -> httpx.Response:
    await scene.services.tenants.suspend(ACT, scene.caller.tenant_id)
    return await scene.caller.post(json={"prompt": "x"})


async def not_allowed(scene: Scene) -> httpx.Response:
    scopes = frozenset({Scope.READ})
    _, text = await scene.services.keyring.create(ACT, scene.caller.tenant_id, name="r", scopes=scopes)
    return await replace(scene.caller, key=text).post(json={"prompt": "x"})


async def admin_closed(scene: Scene) -> httpx.Response:
    apis = make_apis(scene.settings.model_copy(update={"admin_token": None}), scene.services)
    transport = httpx.ASGITransport(make_app(apis, scene.services))
    async with checked_client(Specification.load(), transport=transport, base_url=BASE_URL) as client:
        return await client.get("/admin/api/tenants", headers=ADMIN)


async def not_found(scene: Scene) -> httpx.Response:
    return await scene.client.get("/admin/api/tenants/ten_x", headers=ADMIN)


async def conflict(scene: Scene) -> httpx.Response:
    await scene.services.tenants.create(ACT, name="taken")
    return await scene.client.post("/admin/api/tenants", json={"name": "taken"}, headers=ADMIN)


async def idempotency_key_reused(scene: Scene) -> httpx.Response:
    for prompt in ("x", "y"):
        headers = {"Idempotency-Key": "mine", "Prefer": "respond-async"}
        response = await scene.caller.post(json={"prompt": prompt}, headers=headers)
    return response


async def keys_for_tests_off(scene: Scene) -> httpx.Response:
    scene.services.tasks._policy = replace(scene.services.tasks._policy, test_keys=False)
    _, key = await a_caller(scene.services.database, mode=KeyMode.TEST)
    return await replace(scene.caller, key=key).post(json={"prompt": "x"})


async def link_invalid(scene: Scene) -> httpx.Response:
    return await scene.client.get("/files/a.wav?expires=1&signature=x")


async def route_not_found(scene: Scene) -> httpx.Response:
    return await scene.client.get("/nowhere")


async def task_not_found(scene: Scene) -> httpx.Response:
    return await scene.caller.status("x")


async def file_not_found(scene: Scene) -> httpx.Response:
    link = await link_of(scene)
    shutil.rmtree(scene.settings.data_dir / "audio")
    return await scene.client.get(link)


async def method_not_allowed(scene: Scene) -> httpx.Response:
    return await scene.client.delete("/livez")


async def body_too_large(scene: Scene) -> httpx.Response:
    return await scene.caller.post(content=b" " * 65_537, headers=JSON)


async def unsupported_media_type(scene: Scene) -> httpx.Response:
    return await scene.caller.post(content=b"x", headers={"Content-Type": "text/plain"})


async def range_not_satisfiable(scene: Scene) -> httpx.Response:
    return await scene.client.get(await link_of(scene), headers={"Range": "bytes=99999999-"})


async def rate_limited(scene: Scene) -> httpx.Response:
    caller = await make_caller(scene.client, scene.services, "small", key_rpm=1)
    await caller.ask()
    return await caller.post(json={"prompt": "x"})


async def budget_spent(scene: Scene) -> httpx.Response:
    await scene.services.tenants.set_budgets(ACT, scene.caller.tenant_id, {BudgetWindow.TOTAL: 0})
    return await scene.caller.post("/api/music_generate_lyria", json={"prompt": "x"})


async def queue_full(scene: Scene) -> httpx.Response:
    caller = await make_caller(scene.client, scene.services, "small", max_queued=1)
    await caller.ask()
    return await caller.post(json={"prompt": "x"})


async def slow_down(scene: Scene) -> httpx.Response:
    for _ in range(scene.settings.bad_keys_per_minute):
        await scene.client.get("/api/task-status/x")
    return await scene.client.get("/api/task-status/x")


async def limits_unavailable(scene: Scene) -> httpx.Response:
    nobody = SecretStr(f"redis://127.0.0.1:{free_port()}")
    settings = scene.settings.model_copy(update={"limits_url": nobody, "limits_on_error": "refuse"})
    async with open_services(settings) as services:
        transport = httpx.ASGITransport(make_app(make_apis(settings, services), services))
        async with checked_client(Specification.load(), transport=transport, base_url=BASE_URL) as client:
            return await client.get("/api/task-status/x")


async def headers_too_large(scene: Scene) -> httpx.Response:
    return await on_the_wire(scene, b"GET / HTTP/1.1\r\nX-Long: ", *[b"a" * 65_536] * 8)


async def internal_error(scene: Scene) -> httpx.Response:
    return await raised(scene, ZeroDivisionError("a secret of ours"))


async def database_unavailable(scene: Scene) -> httpx.Response:
    await scene.services.database.close()
    return await scene.caller.status("x")


async def storage_unavailable(scene: Scene) -> httpx.Response:
    link = await link_of(scene)
    for about in (scene.settings.data_dir / "audio").rglob("about.json"):
        about.write_text("{")
    return await scene.client.get(link)


async def model_unavailable(scene: Scene) -> httpx.Response:
    scene.services.tasks._catalog = Catalog(())
    return await scene.caller.post(json={"prompt": "x"})


WAYS = {
    ErrorCode(way.__name__): way
    for way in (
        *(malformed_request, invalid_request, malformed_body, unauthorized, link_invalid, route_not_found),
        *(task_not_found, file_not_found, method_not_allowed, body_too_large, unsupported_media_type),
        *(range_not_satisfiable, budget_spent, rate_limited, queue_full, slow_down, headers_too_large),
        *(internal_error, database_unavailable, limits_unavailable, storage_unavailable),
        *(model_unavailable, key_revoked, key_expired),
        *(key_disabled, tenant_suspended, not_allowed, admin_closed, not_found, conflict),
        idempotency_key_reused,
    )
} | {
    # A function of that name would be taken for a test.
    ErrorCode.TEST_KEYS_OFF: keys_for_tests_off
}


#: Told on pages of the dashboard: `tests/browser/test_providers.py` has the ways to them.
OF_PAGES = {ErrorCode.SIGN_IN_REFUSED, ErrorCode.SIGN_IN_UNAVAILABLE}


def test_there_is_a_way_to_every_code() -> None:
    assert set(WAYS) == set(STATUSES) - OF_PAGES


@pytest.mark.parametrize("code", list(WAYS))
async def test_every_code_is_really_answered_in_one_shape(scene: Scene, code: ErrorCode) -> None:
    status, title = STATUSES[code]
    assert_shape(await WAYS[code](scene), status, code, title)


# Other roads to the same shape


async def test_a_method_that_is_not_there_says_which_are(scene: Scene) -> None:
    for method, path, allow in (
        ("GET", "/api/music_generate", "POST"),
        ("OPTIONS", "/api/music_generate_lyria", "POST"),
        ("POST", "/api/task-status/x", "GET, HEAD"),
        ("PATCH", "/", "GET, HEAD"),
        ("TRACE", "/metrics", "GET, HEAD"),
        ("BREW", "/files/a", "GET, HEAD"),
    ):
        response = await scene.client.request(method, path)
        assert_shape(response, 405, ErrorCode.METHOD_NOT_ALLOWED)
        assert response.headers["allow"] == allow
        assert method in response.json()["detail"]


async def test_head_of_nothing_is_a_404(scene: Scene) -> None:
    assert (await scene.client.head("/nowhere")).status_code == 404


async def test_odd_addresses_are_refused_like_all_others(scene: Scene) -> None:
    for path in ("/%ff", "/%00", "/%zz", "/%", "/%E0%A4%A", "/\u202e", "/" + "a" * 10_000, "/a//b", "/;x"):
        assert_shape(await scene.client.get(path), 404, ErrorCode.ROUTE_NOT_FOUND)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ErrorCode.MALFORMED_REQUEST),
        (404, ErrorCode.ROUTE_NOT_FOUND),
        (418, ErrorCode.MALFORMED_REQUEST),
        (500, ErrorCode.INTERNAL_ERROR),
        (503, ErrorCode.INTERNAL_ERROR),
    ],
)
async def test_what_the_framework_raises_itself_has_the_shape(
    scene: Scene, status: int, code: ErrorCode
) -> None:
    response = await raised(scene, HTTPException(status, "said by the framework"), undocumented=True)
    assert_shape(response, STATUSES[code][0], code)


async def test_an_error_of_ours_raised_anywhere_has_the_shape(scene: Scene) -> None:
    response = await raised(scene, GatewayError("of ours", internal="for the log"))
    assert_shape(response, 500, ErrorCode.INTERNAL_ERROR)
    assert response.json()["detail"] == "of ours"


async def test_a_mistake_of_ours_tells_no_internals(scene: Scene) -> None:
    response = await raised(scene, ZeroDivisionError("a secret of ours"))
    assert_shape(response, 500, ErrorCode.INTERNAL_ERROR)
    assert "secret" not in response.text
    assert "ZeroDivisionError" not in response.text
    assert "Traceback" not in response.text


async def test_a_mistake_of_ours_is_logged_whole_with_the_requests_id(scene: Scene) -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonFormatter("test-project"))
    edge = logging.getLogger("gateway.access")
    edge.addHandler(handler)
    try:
        response = await raised(scene, ZeroDivisionError("a secret of ours"))
    finally:
        edge.removeHandler(handler)
    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    (line,) = [line for line in logged if "exception" in line]
    assert line["severity"] == "ERROR"
    assert line["request_id"] == response.json()["request_id"]
    assert line["exception"].rstrip().endswith("ZeroDivisionError: a secret of ours")


async def test_the_database_gone_is_told_at_every_endpoint(scene: Scene) -> None:
    await scene.services.database.close()
    for response in (
        await scene.caller.post(json={"prompt": "x"}),
        await scene.caller.post("/api/music_generate_lyria", json={"prompt": "x"}),
        await scene.caller.status("x"),
        await scene.client.get("/readyz"),
    ):
        assert_shape(response, 503, ErrorCode.DATABASE_UNAVAILABLE)
        assert int(response.headers["retry-after"]) >= 1


async def test_an_answer_that_breaks_off_after_its_beginning_is_not_mended(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The status is out: another answer inside the first would be worse than none."""

    class Halfway(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise ZeroDivisionError

    class Front:
        async def show(self, request: Request) -> Response:
            return Halfway()

    app = make_app(replace(scene.apis, front=Front()), scene.services)  # type: ignore[arg-type]
    with pytest.raises(GatewayError):
        await broken_off(app)
    assert "failed after the answer began" in caplog.text


async def broken_off(app: ASGIApp) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as client:
        await client.get("/")


# Help


def assert_shape(response: httpx.Response, status: int, code: ErrorCode, title: str | None = None) -> None:
    document = json.loads(response.content)
    assert response.status_code == document["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert document["code"] == code.value
    assert document["type"] == f"urn:gateway:problem:{code.value}"
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["detail"].strip()
    assert document["title"] == (title or STATUSES[code][1])
    assert response.headers["cache-control"] == "no-store"
