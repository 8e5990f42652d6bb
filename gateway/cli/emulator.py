"""``gateway emulator``."""

import click

from gateway.emulator import server


@click.command("emulator")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8090, show_default=True, help="Port to listen on; 0 picks a free one.")
@click.option("--latency", "latency_s", default=0.0, show_default=True, help="Seconds before every answer.")
@click.option("--require-token", is_flag=True, help="Refuse calls without an Authorization header.")
@click.option(
    "--storage-url", metavar="URL", help="A Cloud Storage emulator, for what an endpoint cannot answer."
)
def command(*, host: str, port: int, latency_s: float, require_token: bool, storage_url: str | None) -> None:
    try:
        server.run(host, port, latency_s=latency_s, require_token=require_token, storage_url=storage_url)
    except OSError as error:
        click.echo(f"error: cannot listen on {host}:{port}: {error.strerror}", err=True)
        raise SystemExit(1) from error
