"""``gateway demo``: the whole main job on one machine, with nothing configured."""

import asyncio
import contextlib
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import click
import uvloop

from gateway.bootstrap.services import Services
from gateway.cli.dashboard import OPERATOR, link_url
from gateway.cli.environment import fail, read_settings
from gateway.cli.server import bind, serve
from gateway.companion import start_emulator
from gateway.errors import GatewayError, Unauthorized
from gateway.model import Act
from gateway.settings import Settings
from gateway.telemetry import configure_logging

_PROMPT = "uplifting electronic track with soft piano and warm pads"
_ACT = Act(actor="gateway demo", source="cli")


@click.command("demo")
def command() -> None:
    settings = read_settings()
    configure_logging(settings.log_format, settings.log_level, settings.project)
    with bind(settings) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})

        async def work() -> None:
            async with _with_models(settings) as complete:
                await serve(complete, listener, lambda services: _announce(complete, services))

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(work())
        except GatewayError as error:
            fail(error)


@contextlib.asynccontextmanager
async def _with_models(settings: Settings) -> AsyncIterator[Settings]:
    """The settings as they are when they name a model, else with an emulator of our own behind them."""
    if settings.deployments():
        yield settings
        return
    emulator = await start_emulator()
    try:
        yield settings.model_copy(
            update={
                "project": "emulated-project",
                "lyria3": True,
                "musicgen_endpoint": "projects/emulated-project/locations/us-central1/endpoints/1",
                "vertex_url": emulator.url,
                "google_auth": "anonymous",
            }
        )
    finally:
        await emulator.stop()


async def _announce(settings: Settings, services: Services) -> None:
    key = await _demo_key(settings.data_dir / "demo-key", services)
    url = settings.effective_public_url
    body = json.dumps({"prompt": _PROMPT})
    made_by = "The music comes from the built-in EMULATOR, not from a Google model."
    lines = [
        "",
        f"  Gateway   {url}",
        f"  API key   {key}",
        f"  Dashboard {link_url(url, await services.sessions.make_link(OPERATOR, admin=True))}",
        "            (signs you in once, within 15 minutes; gateway dashboard link makes another)",
        f"  {made_by}" if settings.emulated else f"  Project   {settings.project}",
        "",
        "  Paste this; the answer's audio_url is your music:",
        "",
        f'  curl -X POST "{url}/api/music_generate" \\',
        f'    -H "X-Api-Key: {key}" \\',
        '    -H "Content-Type: application/json" \\',
        f"    -d {shlex.quote(body)}",
        "",
        "  Ctrl-C stops it. Everything it keeps is in " + str(settings.data_dir.resolve()),
        "",
    ]
    click.echo("\n".join(lines))


async def _demo_key(path: Path, services: Services) -> str:
    """The demo's key, made at the first start: the one key kept in clear, readable by its owner alone."""
    key = _read_key(path)
    if key is not None:
        # It may have been revoked, or the database replaced.
        with contextlib.suppress(Unauthorized):
            await services.authenticator.authenticate(key)
            return key
    tenants = {tenant.name: tenant for tenant in await services.tenants.list()}
    tenant = tenants.get("demo") or await services.tenants.create(_ACT, name="demo")
    _, key = await services.keyring.create(_ACT, tenant.id, name="demo")
    _write_key(path, key)
    return key


def _read_key(path: Path) -> str | None:
    return path.read_text().strip() if path.exists() else None


def _write_key(path: Path, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(key + "\n")
