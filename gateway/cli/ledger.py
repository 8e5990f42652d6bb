"""``gateway ledger``."""

import click

from gateway.cli import options
from gateway.cli.environment import at_office, read_settings, this_user
from gateway.cli.money import SIGNED_DOLLARS
from gateway.cli.questions import confirm
from gateway.cli.tables import moment, print_json, print_table
from gateway.units import format_usd
from gateway.web.admin.views import render_entry


@click.group("ledger")
def command() -> None:
    pass


@command.command("list")
@click.option("--tenant", "tenant_id", metavar="ID", help="Only this tenant's entries.")
@options.limit
@options.as_json
def list_newest(*, tenant_id: str | None, limit: int, as_json: bool) -> None:
    """List entries, the newest first."""
    rows = at_office(read_settings(), lambda office: office.books.entries(tenant_id, limit=limit))
    if as_json:
        print_json(list(map(render_entry, rows)))
        return
    print_table(
        ("ID", "TIME", "TENANT", "KIND", "HELD", "SPENT", "TASK", "BY", "REASON"),
        [
            (
                row.id,
                moment(row.entry.at_ms),
                row.entry.tenant_id,
                row.entry.kind,
                format_usd(row.entry.held_micros),
                format_usd(row.entry.spent_micros),
                row.entry.task_id,
                row.entry.actor,
                row.entry.reason,
            )
            for row in rows
        ],
    )


@command.command("adjust")
@click.option("--tenant", "tenant_id", required=True, metavar="ID", help="The tenant's id.")
@click.option(
    "--usd", "spent_micros", required=True, type=SIGNED_DOLLARS, metavar="X",
    help="Dollars; a credit is negative.",
)  # fmt: skip
@click.option("--reason", required=True, help="Why; it stays in the ledger.")
@options.yes
def adjust(*, tenant_id: str, spent_micros: int, reason: str, yes: bool) -> None:
    """Change what a tenant has spent, by hand and for a reason, after asking."""
    settings = read_settings()
    if not yes:
        tenant = at_office(settings, lambda office: office.tenants.get(tenant_id))
        confirm(
            f"{format_usd(spent_micros)} dollars as spent by {tenant.name} ({tenant.id}): "
            "this stays in the ledger for good. Go on?"
        )
    at_office(
        settings, lambda office: office.books.adjust(this_user(), tenant_id, spent_micros, reason=reason)
    )
    click.echo(f"Entered {format_usd(spent_micros)} dollars as spent by {tenant_id}.")
