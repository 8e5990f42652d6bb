"""``gateway reconcile``."""

from dataclasses import asdict

import click

from gateway.bootstrap import open_office
from gateway.cli.environment import read_settings, run
from gateway.cli.tables import print_json, print_table
from gateway.db.reconciliation import Difference


@click.command("reconcile")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:  # noqa: FBT001 - click hands options over by name
    settings = read_settings()

    async def work() -> tuple[Difference, ...]:
        async with open_office(settings) as office:
            return await office.books.reconcile()

    differences = run(work())
    if as_json:
        print_json([asdict(difference) for difference in differences])
    elif differences:
        print_table(
            ("WHAT", "WHICH", "KEPT", "COUNTED"), [(d.what, d.which, d.kept, d.counted) for d in differences]
        )
    else:
        click.echo("Everything adds up.")
    raise SystemExit(1 if differences else 0)
