"""``gateway tenant``."""

import click

from gateway.accounts.tenants import Budget
from gateway.bootstrap import open_office
from gateway.cli.environment import read_settings, run, this_user
from gateway.cli.money import DOLLARS, DOLLARS_OR_NONE, FACTOR, NewLimit
from gateway.cli.tables import moment, print_json, print_table
from gateway.model import BudgetWindow, Tenant, format_usd

_AT_LEAST_ONE = click.IntRange(min=1)


@click.group("tenant")
def command() -> None:
    pass


@command.command("create")
@click.argument("name")
@click.option(
    "--rpm", type=_AT_LEAST_ONE, help="Requests a minute for all keys together; unlimited if absent."
)
@click.option("--max-concurrent", type=_AT_LEAST_ONE, help="Tasks running at once; unlimited if absent.")
@click.option("--max-queued", type=_AT_LEAST_ONE, help="Tasks waiting; GATEWAY_DEFAULT_MAX_QUEUED if absent.")
@click.option("--weight", type=_AT_LEAST_ONE, default=1, show_default=True, help="Share of the workers.")
@click.option("--budget-usd-day", "day", type=DOLLARS, help="Dollars a day; unlimited if absent.")
@click.option("--budget-usd-month", "month", type=DOLLARS, help="Dollars a month; unlimited if absent.")
@click.option("--budget-usd-total", "total", type=DOLLARS, help="Dollars in all; unlimited if absent.")
@click.option("--zone", default="UTC", show_default=True, help="Where its days and months begin.")
@click.option(
    "--price-multiplier", "price_ppm", default="1", type=FACTOR, show_default=True, help="Of list prices."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(
    name: str,
    rpm: int | None,
    max_concurrent: int | None,
    max_queued: int | None,
    weight: int,
    day: int | None,
    month: int | None,
    total: int | None,
    zone: str,
    price_ppm: int,
    as_json: bool,  # noqa: FBT001 - click hands options over by name
) -> None:
    """Create a tenant: a team that gets keys."""
    settings = read_settings()
    budgets = {BudgetWindow.DAY: day, BudgetWindow.MONTH: month, BudgetWindow.TOTAL: total}

    async def work() -> Tenant:
        async with open_office(settings) as office:
            return await office.tenants.create(
                this_user(),
                name=name,
                zone=zone,
                price_ppm=price_ppm,
                rpm=rpm,
                max_concurrent=max_concurrent,
                max_queued=max_queued,
                weight=weight,
                budgets=budgets,
            )

    tenant = run(work())
    if as_json:
        print_json(_document(tenant))
    else:
        click.echo(f"Created tenant {tenant.name}: {tenant.id}")
        click.echo(f"Give it a key: gateway key create --tenant {tenant.id}")


@command.command("budget")
@click.argument("tenant_id")
@click.option("--day", type=DOLLARS_OR_NONE, help="Dollars a day, or none.")
@click.option("--month", type=DOLLARS_OR_NONE, help="Dollars a month, or none.")
@click.option("--total", type=DOLLARS_OR_NONE, help="Dollars in all, or none.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def budget(
    tenant_id: str,
    day: NewLimit | None,
    month: NewLimit | None,
    total: NewLimit | None,
    as_json: bool,  # noqa: FBT001 - click hands options over by name
) -> None:
    """Set or lift budgets, and show them. Those not named stay; what was used stays used."""
    settings = read_settings()
    windows = {BudgetWindow.DAY: day, BudgetWindow.MONTH: month, BudgetWindow.TOTAL: total}
    changes = {window: limit.micros for window, limit in windows.items() if limit is not None}

    async def work() -> tuple[Budget, ...]:
        async with open_office(settings) as office:
            if changes:
                return await office.tenants.set_budgets(this_user(), tenant_id, changes)
            return await office.tenants.list_budgets(tenant_id)

    budgets = run(work())
    if as_json:
        print_json([_budget(each) for each in budgets])
        return
    print_table(
        ("WINDOW", "LIMIT", "SPENT", "HELD"),
        [
            (
                each.window,
                "none" if each.limit_micros is None else format_usd(each.limit_micros),
                format_usd(each.used.spent_micros),
                format_usd(each.used.held_micros),
            )
            for each in budgets
        ],
    )


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_all(as_json: bool) -> None:  # noqa: FBT001
    """List all tenants."""
    settings = read_settings()

    async def work() -> tuple[Tenant, ...]:
        async with open_office(settings) as office:
            return await office.tenants.list()

    tenants = run(work())
    if as_json:
        print_json([_document(tenant) for tenant in tenants])
        return
    print_table(
        ("ID", "NAME", "STATUS", "RPM", "CONCURRENT", "QUEUED", "WEIGHT", "CREATED"),
        [
            (t.id, t.name, t.status, t.rpm, t.max_concurrent, t.max_queued, t.weight, moment(t.created_at_ms))
            for t in tenants
        ],
    )


def _document(tenant: Tenant) -> dict[str, object]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "status": tenant.status.value,
        "zone": tenant.zone,
        "price_ppm": tenant.price_ppm,
        "rpm": tenant.rpm,
        "max_concurrent": tenant.max_concurrent,
        "max_queued": tenant.max_queued,
        "weight": tenant.weight,
        "created_at": moment(tenant.created_at_ms),
    }


def _budget(budget: Budget) -> dict[str, object]:
    return {
        "window": budget.window.value,
        "limit_micros": budget.limit_micros,
        "spent_micros": budget.used.spent_micros,
        "held_micros": budget.used.held_micros,
    }
