"""``gateway migrate``."""

import click

from gateway import bootstrap
from gateway.cli.environment import read_settings, run


@click.command("migrate")
def command() -> None:
    settings = read_settings()
    changed = run(bootstrap.migrate(settings))
    state = "is now" if changed else "was already"
    click.echo(f"{settings.database_path} {state} at this version's schema.")
