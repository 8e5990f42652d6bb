"""``gateway serve``."""

import asyncio

import click
import uvloop

from gateway.bootstrap.services import Services
from gateway.cli.environment import fail, read_settings
from gateway.cli.server import bind, serve
from gateway.errors import GatewayError
from gateway.telemetry import configure_logging


@click.command("serve")
def command() -> None:
    settings = read_settings()
    configure_logging(settings.log_format, settings.log_level, settings.project)
    with bind(settings) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(settings, listener, _quietly))
        except GatewayError as error:
            fail(error)


async def _quietly(services: Services) -> None:
    """Nobody waits for an announcement: the log says it."""
