"""``gateway reconcile``."""

from dataclasses import asdict

import click

from gateway.cli import options
from gateway.cli.environment import Exit, at_office, read_settings
from gateway.cli.tables import print_json, print_table


@click.command("reconcile")
@options.as_json
def command(*, as_json: bool) -> None:
    differences = at_office(read_settings(), lambda office: office.books.reconcile())
    if as_json:
        print_json([asdict(difference) for difference in differences])
    elif differences:
        print_table(
            ("WHAT", "WHICH", "KEPT", "COUNTED"), [(d.what, d.which, d.kept, d.counted) for d in differences]
        )
    else:
        click.echo("Everything adds up.")
    raise SystemExit(Exit.FAILED if differences else 0)
