"""``gateway tenant``."""

from typing import Any

import click

from gateway.accounts.tenants import Budget, Portrait
from gateway.bootstrap.services import Office, SystemClock
from gateway.cli import options
from gateway.cli.environment import at_office, read_settings, this_user
from gateway.cli.money import DOLLARS, DOLLARS_OR_NONE
from gateway.cli.questions import confirm
from gateway.cli.tables import moment, print_facts, print_json, print_table
from gateway.cli.values import Said
from gateway.model import ApiKey, BudgetWindow, KeyState, Member, Tenant
from gateway.units import format_usd
from gateway.web.admin.views import render_budgets, render_portrait, render_tenant


@click.group("tenant")
def command() -> None:
    pass


@command.command("create")
@click.argument("name")
@options.tenant_terms
@click.option(
    "--budget-usd-day", "day", type=DOLLARS, metavar="X", help="Dollars a day; unlimited if absent."
)
@click.option(
    "--budget-usd-month", "month", type=DOLLARS, metavar="X", help="Dollars a month; unlimited if absent."
)
@click.option(
    "--budget-usd-total", "total", type=DOLLARS, metavar="X", help="Dollars in all; unlimited if absent."
)
@options.as_json
def create(
    *, name: str, day: int | None, month: int | None, total: int | None, as_json: bool, **terms: Any
) -> None:
    """Create a tenant: a team that gets keys."""
    budgets = {BudgetWindow.DAY: day, BudgetWindow.MONTH: month, BudgetWindow.TOTAL: total}
    named = options.said(terms)
    tenant = at_office(
        read_settings(),
        lambda office: office.tenants.create(this_user(), name=name, budgets=budgets, **named),
    )
    if as_json:
        print_json(render_tenant(tenant))
    else:
        click.echo(f"Created tenant {tenant.name}: {tenant.id}")
        click.echo(f"Give it a key: gateway key create --tenant {tenant.id}")


@command.command("update")
@click.argument("tenant_id")
@click.option("--name", help="What it is called.")
@options.tenant_terms
@options.as_json
def update(*, tenant_id: str, as_json: bool, **terms: Any) -> None:
    """Change what is named of a tenant; the rest stays, the word none lifts. For budgets: tenant budget."""
    named = options.said(terms)
    options.require_some(named)
    tenant = at_office(read_settings(), lambda office: office.tenants.update(this_user(), tenant_id, **named))
    _print_done(tenant, "is updated", as_json=as_json)


@command.command("suspend")
@click.argument("tenant_id")
@options.yes
@options.as_json
def suspend(*, tenant_id: str, yes: bool, as_json: bool) -> None:
    """Stop all new work of a tenant at once, after asking. What runs is finished."""
    settings = read_settings()
    if not yes:
        tenant = at_office(settings, lambda office: office.tenants.get(tenant_id))
        confirm(f"All keys of {tenant.name} ({tenant.id}) are refused new work at once. Suspend it?")
    tenant = at_office(settings, lambda office: office.tenants.suspend(this_user(), tenant_id))
    _print_done(tenant, "is suspended", as_json=as_json)


@command.command("activate")
@click.argument("tenant_id")
@options.as_json
def activate(*, tenant_id: str, as_json: bool) -> None:
    """Let a suspended tenant work again."""
    tenant = at_office(read_settings(), lambda office: office.tenants.activate(this_user(), tenant_id))
    _print_done(tenant, "is active", as_json=as_json)


@command.command("budget")
@click.argument("tenant_id")
@click.option("--day", type=DOLLARS_OR_NONE, metavar="X", help="Dollars a day; none: unlimited.")
@click.option("--month", type=DOLLARS_OR_NONE, metavar="X", help="Dollars a month; none: unlimited.")
@click.option("--total", type=DOLLARS_OR_NONE, metavar="X", help="Dollars in all; none: unlimited.")
@options.as_json
def budget(
    *, tenant_id: str, day: Said[int] | None, month: Said[int] | None, total: Said[int] | None, as_json: bool
) -> None:
    """Set or lift budgets, and show them. Those not named stay; what was used stays used."""
    windows = {BudgetWindow.DAY: day, BudgetWindow.MONTH: month, BudgetWindow.TOTAL: total}
    changes = {window: limit.value for window, limit in windows.items() if limit is not None}

    async def work(office: Office) -> tuple[Budget, ...]:
        if changes:
            return await office.tenants.set_budgets(this_user(), tenant_id, changes)
        return await office.tenants.list_budgets(tenant_id)

    budgets = at_office(read_settings(), work)
    if as_json:
        print_json(render_budgets(budgets))
    else:
        _print_budgets(budgets)


@command.command("list")
@click.option("--name", "name_part", metavar="PART", help="Only those whose name has this in it.")
@options.as_json
def list_all(*, name_part: str | None, as_json: bool) -> None:
    """List tenants, oldest first."""
    tenants = at_office(read_settings(), lambda office: office.tenants.list(name_part=name_part))
    if as_json:
        print_json(list(map(render_tenant, tenants)))
        return
    print_table(
        ("ID", "NAME", "STATUS", "RPM", "CONCURRENT", "QUEUED", "WEIGHT", "CREATED"),
        [
            (t.id, t.name, t.status, t.rpm, t.max_concurrent, t.max_queued, t.weight, moment(t.created_at_ms))
            for t in tenants
        ],
    )


@command.command("show")
@click.argument("tenant_id")
@options.as_json
def show(*, tenant_id: str, as_json: bool) -> None:
    """Show a tenant: its terms, budgets, members and how many keys it has."""

    async def work(office: Office) -> tuple[Portrait, tuple[ApiKey, ...]]:
        return await office.tenants.portray(tenant_id), await office.keyring.list(tenant_id)

    portrait, keys = at_office(read_settings(), work)
    now_ms = SystemClock().now_ms()
    active_count = sum(key.state_at(now_ms) is KeyState.ACTIVE for key in keys)
    if as_json:
        counts = {"key_count": len(keys), "active_key_count": active_count}
        print_json({**render_portrait(portrait), **counts})
        return
    print_facts([*_facts(portrait.tenant), ("Keys", f"{active_count} active of {len(keys)}")])
    click.echo()
    _print_budgets(portrait.budgets)
    click.echo()
    print_members(portrait.members)


def print_members(members: tuple[Member, ...]) -> None:
    print_table(
        ("MEMBER", "ROLE", "SINCE"), [(each.email, each.role, moment(each.created_at_ms)) for each in members]
    )


def _print_done(tenant: Tenant, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(render_tenant(tenant))
    else:
        click.echo(f"{tenant.name} ({tenant.id}) {what}.")


def _print_budgets(budgets: tuple[Budget, ...]) -> None:
    print_table(
        ("WINDOW", "LIMIT", "SPENT", "HELD", "LEFT", "RESETS"),
        [
            (
                each.window,
                _dollars(each.limit_micros, "none"),
                format_usd(each.used.spent_micros),
                format_usd(each.used.held_micros),
                _dollars(each.remaining_micros, ""),
                moment(each.resets_at_ms),
            )
            for each in budgets
        ],
    )


def _facts(tenant: Tenant) -> list[tuple[str, object]]:
    return [
        ("ID", tenant.id),
        ("Name", tenant.name),
        ("Status", tenant.status),
        ("Created", moment(tenant.created_at_ms)),
        ("Zone", tenant.zone),
        ("Price", f"{format_usd(tenant.price_ppm)} of list prices"),
        ("Requests a minute", tenant.rpm or "unlimited"),
        ("Running at once", tenant.max_concurrent or "unlimited"),
        ("Waiting", tenant.max_queued or "GATEWAY_DEFAULT_MAX_QUEUED"),
        ("Weight", tenant.weight),
        ("Models", "any" if tenant.allowed_models is None else ", ".join(tenant.allowed_models)),
        ("Formats", "any" if tenant.allowed_formats is None else ", ".join(tenant.allowed_formats)),
        ("Tasks kept", "for ever" if tenant.retention_days is None else f"{tenant.retention_days} days"),
        ("Started within", _seconds(tenant.start_within_s, "GATEWAY_TASK_TIMEOUT_S")),
        ("Warned at", ", ".join(f"{percent} %" for percent in tenant.warn_percents) or "never"),
    ]


def _seconds(seconds: int | None, absent: str) -> str:
    return absent if seconds is None else f"{seconds} s"


def _dollars(micros: int | None, absent: str) -> str:
    return absent if micros is None else format_usd(micros)
