"""``gateway ledger``."""

import click

from gateway.bootstrap import open_office
from gateway.cli.environment import read_settings, run, this_user
from gateway.cli.money import SIGNED_DOLLARS
from gateway.model import format_usd


@click.group("ledger")
def command() -> None:
    pass


@command.command("adjust")
@click.option("--tenant", "tenant_id", required=True, help="The tenant's id.")
@click.option("--usd", "micros", required=True, type=SIGNED_DOLLARS, help="Dollars; a credit is negative.")
@click.option("--reason", required=True, help="Why; it stays in the ledger.")
@click.confirmation_option(prompt="This stays in the ledger for good. Go on?")
def adjust(tenant_id: str, micros: int, reason: str) -> None:
    """Change what a tenant has spent, by hand and for a reason."""
    settings = read_settings()

    async def work() -> None:
        async with open_office(settings) as office:
            await office.books.adjust(this_user(), tenant_id, micros, reason=reason)

    run(work())
    click.echo(f"Entered {format_usd(micros)} dollars as spent by {tenant_id}.")
