"""The HTTP API for tests: an application on a set of services, and a client whose every answer is checked.

Whatever such a client receives is held to openapi.yaml; an answer that is not documented fails the test.
"""

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

from gateway.bootstrap.services import Services
from gateway.cli.server import _apis
from gateway.settings import Settings
from gateway.web.app import Apis, create_app
from gateway.web.protocol import protocol_class
from tests.factories import ACT
from tests.secrecy import issue
from tests.specification import Specification

BASE_URL = "http://gateway"
#: Opens the admin API of a gateway under test, and turns up nowhere else.
ADMIN_TOKEN = issue("administers-the-gateways-under-test")
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
WAIT_S = 30.0


def make_apis(settings: Settings, services: Services) -> Apis:
    return _apis(settings, services)


def make_app(apis: Apis, services: Services) -> ASGIApp:
    numbers = itertools.count(1)
    return create_app(apis, services.metrics, lambda: f"request-{next(numbers):04}")


def checked_client(specification: Specification, **options: Any) -> httpx.AsyncClient:
    """A client that fails the test for an answer that openapi.yaml does not promise."""

    async def check(response: httpx.Response) -> None:
        await response.aread()
        specification.check(response)

    return httpx.AsyncClient(event_hooks={"response": [check]}, timeout=WAIT_S, trust_env=False, **options)


@dataclass(frozen=True)
class Caller:
    """A tenant's key, and a client that sends it."""

    client: httpx.AsyncClient
    services: Services
    tenant_id: str
    key: str

    @property
    def key_id(self) -> str:
        return self.key.split("_")[2]

    async def post(self, path: str = "/api/music_generate", **request: Any) -> httpx.Response:
        headers = {"X-Api-Key": self.key, **request.pop("headers", {})}
        return await self.client.post(path, headers=headers, **request)

    async def ask(self, **fields: Any) -> dict[str, Any]:
        """The task made of these fields, at once."""
        body = {"prompt": "slow piano", "durationSeconds": 1, **fields}
        response = await self.post(json=body, headers={"Prefer": "respond-async"})
        assert response.status_code == 202, response.text
        return dict(response.json())

    async def ask_lyria(self, **fields: Any) -> dict[str, Any]:
        response = await self.post(
            "/api/music_generate_lyria",
            json={"prompt": "slow piano", **fields},
            headers={"Prefer": "respond-async"},
        )
        assert response.status_code == 202, response.text
        return dict(response.json())

    async def status(self, task_id: str, **headers: str) -> httpx.Response:
        return await self.client.get(
            f"/api/task-status/{task_id}", headers={"X-Api-Key": self.key, **headers}
        )

    async def ended(self, task_id: str) -> dict[str, Any]:
        """The task once it has ended; the worker must be running."""
        response = await self.status(task_id, Prefer=f"wait={int(WAIT_S)}")
        assert response.status_code == 200, response.text
        assert response.json()["finished_at"] is not None, response.text
        return dict(response.json())


@dataclass(frozen=True)
class Administrator:
    """A client of the admin API that sends a token."""

    client: httpx.AsyncClient
    services: Services

    async def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        headers = {**ADMIN, **request.pop("headers", {})}
        return await self.client.request(method, f"/admin/api{path}", headers=headers, **request)

    async def told(self, method: str, path: str, status: int = 200, **request: Any) -> dict[str, Any]:
        """The answer's document."""
        response = await self.ask(method, path, **request)
        assert response.status_code == status, response.text
        return dict(response.json())

    async def faults(self, method: str, path: str, **request: Any) -> dict[str, str]:
        """What is said of each field of a request that is refused: its code, by name."""
        document = await self.told(method, path, 400, **request)
        return {fault["field"]: fault["code"] for fault in document["errors"]}

    async def pages(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Everything on a list, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.told("GET", path, params=query)
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            assert len(page["data"]) == query["limit"]
            query["cursor"] = page["next_cursor"]

    async def make_tenant(self, name: str = "acme", **terms: Any) -> str:
        return str((await self.told("POST", "/tenants", 201, json={"name": name, **terms}))["id"])

    async def make_key(self, tenant_id: str, **terms: Any) -> dict[str, Any]:
        body = {"tenant_id": tenant_id, "name": "key", **terms}
        return await self.told("POST", "/keys", 201, json=body)

    async def acts(self) -> list[tuple[str, str]]:
        """What the audit log has, oldest first: actions and targets."""
        entries = await self.services.books.audit_log(None, limit=1000)
        return [(entry.action, entry.target) for entry in reversed(entries)]


async def make_caller(client: httpx.AsyncClient, services: Services, name: str, **limits: int) -> Caller:
    rpm = limits.pop("key_rpm", None)
    tenant = await services.tenants.create(ACT, name=name, **limits)
    _, key = await services.keyring.create(ACT, tenant.id, name="test", rpm=rpm)
    return Caller(client, services, tenant.id, key)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The application on a real loopback socket, as `gateway serve` runs it; its URL."""
    numbers = itertools.count(1)
    config = uvicorn.Config(
        app,
        http=protocol_class(lambda: f"protocol-{next(numbers):04}"),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server._serve([listener]))
        await server.up.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what another process or thread will bring about; fails after `WAIT_S`."""
    async with asyncio.timeout(WAIT_S):
        while not await condition():  # noqa: ASYNC110 - it happens where no event of ours can be set
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


async def send_raw(url: str, *blocks: bytes) -> RawAnswer:
    """Send bytes that no HTTP client would, block by block, and read the first answer to its end."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        # A server that has refused already may close while we still send.
        with contextlib.suppress(ConnectionError):
            for block in blocks:
                writer.write(block)
                await writer.drain()
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return RawAnswer(int(first.split()[1]), headers, body)
