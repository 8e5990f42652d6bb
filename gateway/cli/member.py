"""``gateway member``."""

import click

from gateway.cli import options
from gateway.cli.environment import at_office, read_settings, this_user
from gateway.cli.questions import confirm
from gateway.cli.tables import print_json
from gateway.cli.tenant import print_members
from gateway.model import Role
from gateway.web.admin.views import render_member


@click.group("member")
def command() -> None:
    pass


@command.command("put")
@click.argument("tenant_id")
@click.argument("email")
@click.option(
    "--role", required=True, type=click.Choice([role.value for role in Role]), help="What they may do."
)
@options.as_json
def put(*, tenant_id: str, email: str, role: str, as_json: bool) -> None:
    """Add a person to a tenant, or change their role."""
    member = at_office(
        read_settings(), lambda office: office.tenants.put_member(this_user(), tenant_id, email, Role(role))
    )
    if as_json:
        print_json(render_member(member))
    else:
        click.echo(f"{member.email} is {member.role} of {member.tenant_id}.")


@command.command("remove")
@click.argument("tenant_id")
@click.argument("email")
@options.yes
@options.as_json
def remove(*, tenant_id: str, email: str, yes: bool, as_json: bool) -> None:
    """Take a person out of a tenant, after asking."""
    settings = read_settings()
    if not yes:
        tenant = at_office(settings, lambda office: office.tenants.get(tenant_id))
        confirm(f"{email} can then do nothing in {tenant.name} ({tenant.id}) any more. Remove them?")
    at_office(settings, lambda office: office.tenants.remove_member(this_user(), tenant_id, email))
    if as_json:
        print_json({"tenant_id": tenant_id, "email": email})
    else:
        click.echo(f"{email} is no member of {tenant_id} any more.")


@command.command("list")
@click.argument("tenant_id")
@options.as_json
def list_all(*, tenant_id: str, as_json: bool) -> None:
    """List a tenant's people."""
    members = at_office(read_settings(), lambda office: office.tenants.list_members(tenant_id))
    if as_json:
        print_json(list(map(render_member, members)))
    else:
        print_members(members)
