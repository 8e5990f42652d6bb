"""``gateway tenant``."""

import click

from gateway.accounts.service import Limits
from gateway.cli.environment import open_accounts, read_settings, run
from gateway.cli.tables import moment, print_json, print_table
from gateway.model import Tenant

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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(
    name: str,
    rpm: int | None,
    max_concurrent: int | None,
    max_queued: int | None,
    weight: int,
    as_json: bool,  # noqa: FBT001 - click hands options over by name
) -> None:
    """Create a tenant: a team that gets keys."""
    settings = read_settings()

    async def work() -> Tenant:
        async with open_accounts(settings) as accounts:
            return await accounts.create_tenant(name, Limits(rpm, max_concurrent, max_queued, weight))

    tenant = run(work())
    if as_json:
        print_json(_document(tenant))
    else:
        click.echo(f"Created tenant {tenant.name}: {tenant.id}")
        click.echo(f"Give it a key: gateway key create --tenant {tenant.id}")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_all(as_json: bool) -> None:  # noqa: FBT001
    """List all tenants."""
    settings = read_settings()

    async def work() -> tuple[Tenant, ...]:
        async with open_accounts(settings) as accounts:
            return await accounts.list_tenants()

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
        "rpm": tenant.rpm,
        "max_concurrent": tenant.max_concurrent,
        "max_queued": tenant.max_queued,
        "weight": tenant.weight,
        "created_at": moment(tenant.created_at_ms),
    }
