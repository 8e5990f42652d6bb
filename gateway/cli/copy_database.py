"""``gateway copy-database``."""

import time
from dataclasses import asdict

import click

from gateway.cli import options
from gateway.cli.environment import read_settings, run
from gateway.cli.questions import confirm
from gateway.cli.tables import print_json
from gateway.db.moving import check_ends, move
from gateway.urls import check_database_url, printable_url

_TOLD_EVERY_S = 2.0
_NEXT = (
    "Next: set GATEWAY_DATABASE_URL to it, and GATEWAY_SIGNING_SECRET to what has signed until now (where "
    "none was set, it is in the file signing-secret under GATEWAY_DATA_DIR). Audio was not copied: it stays "
    "where it is. Never serve the old database again."
)


def _database_url(_ctx: click.Context, param: click.Parameter, value: str) -> str:
    """As GATEWAY_DATABASE_URL has it."""
    name = param.opts[0]
    try:
        check_database_url(value, name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not value:
        raise click.UsageError(f"{name} names no database.")
    return value


class _Teller:
    """A line on stderr for each table that has rows, and one now and then while a long one is under way."""

    def __init__(self) -> None:
        self._said_at_s = time.monotonic()

    def tell(self, table: str, rows: int, count: int) -> None:
        if rows == count or time.monotonic() - self._said_at_s >= _TOLD_EVERY_S:
            self._said_at_s = time.monotonic()
            click.echo(f"{table}: {rows:,} of {count:,} rows", err=True)


@click.command("copy-database")
@click.option(
    "--from",
    "from_url",
    required=True,
    metavar="URL",
    callback=_database_url,
    help="The database to copy, as in GATEWAY_DATABASE_URL; no gateway may be serving it.",
)
@click.option(
    "--to", "to_url", required=True, metavar="URL", callback=_database_url,
    help="A database without rows to copy it into; its tables are made where there are none.",
)  # fmt: skip
@options.yes
@options.as_json
def command(*, from_url: str, to_url: str, yes: bool, as_json: bool) -> None:
    # Only for its word on mistakes in the environment: which databases it is about is said here.
    read_settings()
    run(check_ends(from_url, to_url))
    source, target = printable_url(from_url), printable_url(to_url)
    if not yes:
        confirm(f"Copy all of {source} into {target}? No gateway may serve either until it is done.")
    copied = run(move(from_url, to_url, _Teller().tell))
    rows = sum(each.rows for each in copied)
    if as_json:
        print_json({"rows": rows, "tables": [asdict(each) for each in copied]})
    else:
        click.echo(f"{rows:,} rows of {len(copied)} tables are in {target}, equal in every value.")
    click.echo(_NEXT, err=True)
