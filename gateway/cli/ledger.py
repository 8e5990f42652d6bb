"""``gateway ledger``."""

import getpass
import os

import click

from gateway.cli.environment import open_accounts, read_settings, run
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
        async with open_accounts(settings) as accounts:
            await accounts.adjust(tenant_id, micros, reason=reason, actor=_actor())

    run(work())
    click.echo(f"Entered {format_usd(micros)} dollars as spent by {tenant_id}.")


def _actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        # In a container a user need not have a name.
        return f"cli:{os.getuid()}"
