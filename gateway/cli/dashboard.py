"""``gateway dashboard``."""

import click

from gateway.accounts.sessions import LINK_LIFE_S
from gateway.cli import options
from gateway.cli.environment import at_office, read_settings
from gateway.cli.tables import print_json

#: Who an administrator's link signs in where no address is named.
OPERATOR = "operator@localhost"


@click.group("dashboard")
def command() -> None:
    pass


@command.command("link")
@click.option(
    "--email", help="Sign in as this person, with the roles they have; without it, as an administrator."
)
@options.as_json
def link(*, email: str | None, as_json: bool) -> None:
    """Make a link that signs somebody in to the dashboard, once."""
    settings = read_settings()
    secret = at_office(
        settings, lambda office: office.sessions.make_link(email or OPERATOR, admin=email is None)
    )
    url = link_url(settings.effective_public_url, secret)
    if as_json:
        print_json(
            {"url": url, "email": email or OPERATOR, "admin": email is None, "expires_in_s": LINK_LIFE_S}
        )
    else:
        click.echo(url)
        click.echo(f"Good once, for {LINK_LIFE_S // 60} minutes.", err=True)


def link_url(public_url: str, secret: str) -> str:
    return f"{public_url}/dashboard/sign-in/link?token={secret}"
