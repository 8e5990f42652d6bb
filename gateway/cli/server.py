"""Running the gateway in this process: the socket, the server, the worker beside it, and an orderly end."""

import asyncio
import contextlib
import errno
import importlib
import logging
import random
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path

import click
import uvicorn
from starlette.types import ASGIApp

from gateway import __version__
from gateway.accounts.admins import AdminTokens
from gateway.bootstrap.services import Services, open_services
from gateway.errors import ConfigurationError
from gateway.settings import Settings, parse_proxies
from gateway.urls import printable_url
from gateway.web.account import AccountApi
from gateway.web.addresses import ClientAddresses
from gateway.web.admin.keys import KeysApi
from gateway.web.admin.money import MoneyApi
from gateway.web.admin.routes import AdminApi
from gateway.web.admin.tasks import TasksApi
from gateway.web.admin.tenants import TenantsApi
from gateway.web.app import Apis, create_admin_app, create_app
from gateway.web.callers import Callers, CallerSource
from gateway.web.dashboard.entrance import Entrance
from gateway.web.deletion import DeletionApi
from gateway.web.events import EventApi, StreamPolicy
from gateway.web.files import FileApi
from gateway.web.front import FrontPage
from gateway.web.music import MusicApi
from gateway.web.operations import OperationsApi
from gateway.web.protocol import protocol_class
from gateway.web.tasks import TaskListApi
from gateway.web.webhooks import WebhookApi

logger = logging.getLogger("gateway")

_BACKLOG = 2048
_REQUEST_ID_BYTES = 12
_LAG_EVERY_S = 0.5
# After the worker's grace time, connections get this much longer to take their last answer.
_LAST_ANSWERS_S = 1


class GatewayServer(uvicorn.Server):
    """uvicorn's server, with our own order of ending: waiting callers and the worker hear of it first."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again once it has stopped serving, before the worker has drained.
        yield


def bind(settings: Settings) -> socket.socket:
    """The listening socket, before anything else is started. Ends the program when the port is taken."""
    return _listen(settings.host, settings.port, "PORT")


@contextlib.contextmanager
def _bind_for_admins(settings: Settings) -> Iterator[socket.socket | None]:
    """The listening socket of the admin API, where it has a port of its own."""
    if not settings.admin_port or settings.admin_api == "off":
        yield None
        return
    with _listen(settings.admin_host, settings.admin_port, "GATEWAY_ADMIN_PORT") as listener:
        yield listener


def _listen(host: str, port: int, setting: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} is in use; choose another with {setting}=…"
        else:
            message = f"cannot listen on {host}:{port}: {error.strerror}"
        click.echo(f"error: {message}", err=True)
        raise SystemExit(1) from error
    return listener


async def serve(
    settings: Settings,
    listener: socket.socket,
    announce: Callable[[Services], Awaitable[None]],
) -> None:
    """Serve until SIGTERM or SIGINT; then stop claiming, finish or give back, and close."""
    if not settings.deployments():
        raise ConfigurationError(
            "No model is configured. Set GATEWAY_PROJECT for Lyria 2 or GATEWAY_MUSICGEN_ENDPOINT, "
            "or run `gateway demo` to try it without Google."
        )
    with _bind_for_admins(settings) as admin_listener:
        async with open_services(settings) as services:
            servers = _servers(settings, services, listener, admin_listener, announce)
            drained = _end_on_signals([server for server, _ in servers], services)
            services.runner.start()
            services.pump.start()
            services.chores.start()
            lag = asyncio.create_task(_measure_lag(services))
            logger.info("gateway %s is up", __version__, extra=_facts(settings))
            if settings.emulated:
                logger.warning("the music comes from an EMULATOR, not from a Google model")
            if settings.database_path is None and settings.signing_secret is None:
                logger.warning(
                    "other instances need the secret of this one: set GATEWAY_SIGNING_SECRET on all"
                )
            try:
                await _run(servers)
            finally:
                await drained()
                await services.chores.end()
                lag.cancel()
    logger.info("gateway has stopped")


def _servers(
    settings: Settings,
    services: Services,
    listener: socket.socket,
    admin_listener: socket.socket | None,
    announce: Callable[[Services], Awaitable[None]],
) -> list[tuple[GatewayServer, socket.socket]]:
    """A server for each socket: everybody's, and the administrators' where they have one of their own."""
    new_request_id = partial(secrets.token_hex, _REQUEST_ID_BYTES)
    apis = _apis(settings, services)
    app = create_app(apis, services.metrics, new_request_id)
    config = _server_config(settings, app, new_request_id)
    servers = [(GatewayServer(config, lambda: announce(services)), listener)]
    if admin_listener is not None:
        admin = _admin_api(settings, services)
        app = create_admin_app(admin, apis.operations, services.metrics, new_request_id)
        config = _server_config(settings, app, new_request_id)
        servers.append((GatewayServer(config, _quietly), admin_listener))
    return servers


def _server_config(settings: Settings, app: ASGIApp, new_request_id: Callable[[], str]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol_class(new_request_id),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # It would take the word of anybody on this machine for where a request came from.
        proxy_headers=False,
        timeout_graceful_shutdown=round(settings.grace_s) + _LAST_ANSWERS_S,
    )


async def _run(servers: Sequence[tuple[GatewayServer, socket.socket]]) -> None:
    """Until all have ended: when one does, for whatever reason, the others are told to."""
    running = [asyncio.create_task(server.serve(sockets=[listener])) for server, listener in servers]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for server, _ in servers:
            server.should_exit = True
    await asyncio.gather(*running)


async def _quietly() -> None:
    """The second server has nobody to announce itself to."""


def _end_on_signals(servers: Sequence[uvicorn.Server], services: Services) -> Callable[[], Awaitable[None]]:
    """On the first signal drain the worker while the servers close; on the second, end at once."""
    draining: list[asyncio.Task[None]] = []

    def begin() -> None:
        if draining:
            for server in servers:
                server.force_exit = True
            return
        for server in servers:
            server.should_exit = True
        services.signals.drain()
        draining.append(asyncio.create_task(services.drain()))

    async def drained() -> None:
        if not draining:
            draining.append(asyncio.create_task(services.drain()))
        await draining[0]

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin)
    return drained


def _apis(settings: Settings, services: Services) -> Apis:
    addresses = _addresses(settings)
    callers = Callers(services.authenticator, services.guard, addresses)
    entrance = Entrance(partial(_dashboard, settings, services))
    admin = None if settings.admin_port or settings.admin_api == "off" else _admin_api(settings, services)
    return replace(_apis_for(callers, settings, services), admin=admin, dashboard=entrance)


def _apis_for(callers: CallerSource, settings: Settings, services: Services) -> Apis:
    """The handlers for one kind of caller, without what administrators use."""
    checks = {"database": services.check_database, "storage": services.storage.check}
    music = MusicApi(
        callers,
        services.tasks,
        services.canceler,
        services.queue,
        services.clock,
        public_url=settings.effective_public_url,
        wait_s=settings.wait_s,
        timeout_s=settings.task_timeout_s,
    )
    return Apis(
        music=music,
        events=EventApi(
            callers,
            services.tasks,
            services.feeds,
            music.remembered,
            services.metrics,
            services.clock,
            random.SystemRandom().random,
            StreamPolicy(settings.stream_s),
        ),
        tasks=TaskListApi(callers, services.archive, services.keyring, settings.effective_public_url),
        deletion=DeletionApi(callers, services.retention),
        account=AccountApi(callers, services.standings, services.usage),
        operations=OperationsApi(
            checks,
            services.look_at_backlog,
            services.metrics,
            read_specification(),
        ),
        webhooks=WebhookApi(callers, services.webhooks, services.clock, _addresses(settings).seen),
        front=FrontPage(public_url=settings.effective_public_url, emulated=settings.emulated),
        files=FileApi(services.files) if services.files else None,
    )


def _dashboard(settings: Settings, services: Services) -> ASGIApp:
    # Templates and what renders them are loaded when somebody opens a page, and never where nobody does.
    assembly = importlib.import_module("gateway.web.dashboard.assembly")
    app: ASGIApp = assembly.make_dashboard(
        settings,
        services,
        lambda callers: _apis_for(callers, settings, services),
        _addresses(settings).seen,
        read_specification(),
    )
    return app


def _admin_api(settings: Settings, services: Services) -> AdminApi:
    return AdminApi(
        admins=AdminTokens(settings.admin_tokens),
        source_of=_addresses(settings).seen,
        tenants=TenantsApi(services.tenants),
        keys=KeysApi(services.keyring, services.clock),
        money=MoneyApi(services.books, services.usage),
        tasks=TasksApi(services.archive, services.canceler, settings.deployments()),
    )


def _addresses(settings: Settings) -> ClientAddresses:
    return ClientAddresses(parse_proxies(settings.trusted_proxies))


def read_specification() -> bytes:
    """openapi.yaml: inside the installed package, or beside it in a checkout."""
    packaged = files("gateway.web") / "openapi.yaml"
    if packaged.is_file():
        return packaged.read_bytes()
    return (Path(__file__).parents[2] / "openapi.yaml").read_bytes()


async def _measure_lag(services: Services) -> None:
    while True:
        before_s = services.clock.monotonic_s()
        await services.clock.sleep(_LAG_EVERY_S)
        services.metrics.loop_lag.observe(max(0.0, services.clock.monotonic_s() - before_s - _LAG_EVERY_S))


def _facts(settings: Settings) -> dict[str, object]:
    return {
        "address": f"{settings.host}:{settings.port}",
        "database": printable_url(settings.effective_database_url),
        "storage": settings.storage_url or str(settings.data_dir / "audio"),
        "models": [deployment.name for deployment in settings.deployments()],
        "emulated": settings.emulated,
        "admin_api": _admin_fact(settings),
        "test_keys": settings.test_keys,
    }


def _admin_fact(settings: Settings) -> str:
    if settings.admin_api == "off":
        return "off"
    host, port = (settings.host, settings.port)
    if settings.admin_port:
        host, port = (settings.admin_host, settings.admin_port)
    return f"{host}:{port}{'' if settings.admin_tokens else ' (closed)'}"
