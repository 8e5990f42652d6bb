"""``gateway migrate``."""

import click

from gateway.bootstrap.services import migrate
from gateway.cli.environment import read_settings, run
from gateway.urls import printable_url


@click.command("migrate")
def command() -> None:
    settings = read_settings()
    changed = run(migrate(settings))
    state = "is now at this version's schema" if changed else "needs no migration"
    click.echo(f"{printable_url(settings.effective_database_url)} {state}.")
