"""Running the gateway in this process: the socket, the server, the worker beside it, and an orderly end."""

import asyncio
import contextlib
import errno
import logging
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path

import click
import uvicorn

from gateway import __version__
from gateway.bootstrap import Services, open_services
from gateway.errors import ConfigurationError
from gateway.settings import Settings, parse_proxies
from gateway.web.addresses import ClientAddresses
from gateway.web.app import Apis, create_app
from gateway.web.callers import Callers
from gateway.web.files import FileApi
from gateway.web.front import FrontPage
from gateway.web.music import MusicApi
from gateway.web.operations import OperationsApi
from gateway.web.protocol import protocol_class

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
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"port {settings.port} is in use; choose another with PORT=…"
        else:
            message = f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
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
    async with open_services(settings) as services:
        new_request_id = partial(secrets.token_hex, _REQUEST_ID_BYTES)
        app = create_app(_apis(settings, services), services.metrics, new_request_id)
        config = uvicorn.Config(
            app,
            http=protocol_class(new_request_id),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # It would believe whoever is on this machine; `ClientAddresses` is told which proxies are ours.
            proxy_headers=False,
            timeout_graceful_shutdown=round(settings.grace_s) + _LAST_ANSWERS_S,
        )
        server = GatewayServer(config, lambda: announce(services))
        drained = _end_on_signals(server, services)
        services.runner.start()
        services.chores.start()
        lag = asyncio.create_task(_measure_lag(services))
        logger.info("gateway %s is up", __version__, extra=_facts(settings))
        if settings.emulated:
            logger.warning("the music comes from an EMULATOR, not from a Google model")
        try:
            await server.serve(sockets=[listener])
        finally:
            await drained()
            await services.chores.end()
            lag.cancel()
    logger.info("gateway has stopped")


def _end_on_signals(server: uvicorn.Server, services: Services) -> Callable[[], Awaitable[None]]:
    """On the first signal drain the worker while the server closes; on the second, end at once."""
    draining: list[asyncio.Task[None]] = []

    def begin() -> None:
        if server.should_exit:
            server.force_exit = True
            return
        server.should_exit = True
        services.signals.drain()
        draining.append(asyncio.create_task(services.runner.drain()))

    async def drained() -> None:
        if not draining:
            draining.append(asyncio.create_task(services.runner.drain()))
        await draining[0]

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin)
    return drained


def _apis(settings: Settings, services: Services) -> Apis:
    addresses = ClientAddresses(parse_proxies(settings.trusted_proxies))
    callers = Callers(services.authenticator, services.guard, addresses)
    checks = {"database": services.check_database, "storage": services.storage.check}
    return Apis(
        music=MusicApi(
            callers,
            services.tasks,
            services.clock,
            public_url=settings.effective_public_url,
            wait_s=settings.wait_s,
        ),
        operations=OperationsApi(checks, services.count_waiting, services.metrics, read_specification()),
        front=FrontPage(public_url=settings.effective_public_url, emulated=settings.emulated),
        files=FileApi(services.files) if services.files else None,
    )


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
        "database": str(settings.database_path),
        "storage": settings.storage_url or str(settings.data_dir / "audio"),
        "models": [deployment.name for deployment in settings.deployments()],
        "emulated": settings.emulated,
        "test_keys": settings.test_keys,
    }
