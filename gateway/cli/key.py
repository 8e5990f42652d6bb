"""``gateway key``."""

from collections.abc import Callable, Coroutine
from typing import Any

import click

from gateway.bootstrap.services import Office, SystemClock
from gateway.cli import options
from gateway.cli.environment import at_office, read_settings, this_user
from gateway.cli.questions import at_terminal, confirm
from gateway.cli.tables import moment, print_facts, print_json, print_table
from gateway.cli.values import DURATION
from gateway.model import ApiKey, KeyMode, KeyState
from gateway.web.admin.views import render_key, render_new_key, render_rotated


@click.group("key")
def command() -> None:
    pass


@command.command("create")
@click.option("--tenant", "tenant_id", required=True, metavar="ID", help="The tenant's id.")
@click.option("--name", default="key", show_default=True, help="What the key is for.")
@click.option("--test", is_flag=True, help="A test key: the emulator serves it, and it costs nothing.")
@options.key_terms
@options.as_json
def create(*, tenant_id: str, test: bool, as_json: bool, **terms: Any) -> None:
    """Create a key. Its text is shown once and kept nowhere."""
    now_ms = SystemClock().now_ms()
    named = options.said_of_key(terms, now_ms)
    mode = KeyMode.TEST if test else KeyMode.LIVE
    key, text = at_office(
        read_settings(), lambda office: office.keyring.create(this_user(), tenant_id, mode=mode, **named)
    )
    if as_json:
        print_json(render_new_key(key, text, now_ms))
    else:
        click.echo(text)
        click.echo(f"This is key {key.id}. It is shown only now: keep it safe.", err=True)


@command.command("list")
@click.option("--tenant", "tenant_id", metavar="ID", help="Only this tenant's keys.")
@click.option(
    "--state", type=click.Choice([state.value for state in KeyState]), help="Only keys in this state."
)
@options.as_json
def list_all(*, tenant_id: str | None, state: str | None, as_json: bool) -> None:
    """List keys, revoked ones included."""
    wanted = None if state is None else KeyState(state)
    keys = at_office(read_settings(), lambda office: office.keyring.list(tenant_id, state=wanted))
    now_ms = SystemClock().now_ms()
    if as_json:
        print_json([render_key(key, now_ms) for key in keys])
        return
    print_table(
        ("ID", "TENANT", "NAME", "MODE", "STATE", "RPM", "CREATED", "EXPIRES", "LAST USED"),
        [
            (
                key.id,
                key.tenant_id,
                key.name,
                key.mode,
                key.state_at(now_ms),
                key.rpm,
                moment(key.created_at_ms),
                moment(key.expires_at_ms),
                moment(key.last_used_at_ms),
            )
            for key in keys
        ],
    )


@command.command("show")
@click.argument("key_id")
@options.as_json
def show(*, key_id: str, as_json: bool) -> None:
    """Show a key, never its text."""
    key = at_office(read_settings(), lambda office: office.keyring.get(key_id))
    now_ms = SystemClock().now_ms()
    if as_json:
        print_json(render_key(key, now_ms))
    else:
        print_facts(_facts(key, now_ms))


@command.command("update")
@click.argument("key_id")
@click.option("--name", help="What the key is for.")
@options.key_terms
@options.as_json
def update(*, key_id: str, as_json: bool, **terms: Any) -> None:
    """Change what is named of a key; the rest stays, the word none lifts."""
    named = options.said_of_key(terms, SystemClock().now_ms())
    options.require_some(named)
    _change(lambda office: office.keyring.update(this_user(), key_id, **named), "is updated", as_json=as_json)


@command.command("disable")
@click.argument("key_id")
@options.as_json
def disable(*, key_id: str, as_json: bool) -> None:
    """Refuse a key until it is enabled again."""
    _change(lambda office: office.keyring.disable(this_user(), key_id), "is disabled", as_json=as_json)


@command.command("enable")
@click.argument("key_id")
@options.as_json
def enable(*, key_id: str, as_json: bool) -> None:
    """Let a disabled key work again."""
    _change(lambda office: office.keyring.enable(this_user(), key_id), "is enabled", as_json=as_json)


@command.command("rotate")
@click.argument("key_id")
@click.option(
    "--overlap", "overlap_s", type=DURATION, default="24h", show_default=True, metavar="DURATION",
    help="How long the text before still opens it, like 12h or 7d.",
)  # fmt: skip
@click.option(
    "--idempotency-key", metavar="NAME",
    help="Names the rotation, so that it can be repeated: the same name gives the same text.",
)  # fmt: skip
@options.yes
@options.as_json
def rotate(*, key_id: str, overlap_s: int, idempotency_key: str | None, yes: bool, as_json: bool) -> None:
    """Give a key another text under the same id. With an overlap of 0s, a terminal is asked first."""
    settings = read_settings()
    if overlap_s == 0 and at_terminal() and not yes:
        key = at_office(settings, lambda office: office.keyring.get(key_id))
        confirm(f"{_described(key)} is then refused with its text of now. Rotate it without an overlap?")
    rotated = at_office(
        settings,
        lambda office: office.keyring.rotate(this_user(), key_id, overlap_s=overlap_s, name=idempotency_key),
    )
    now_ms = SystemClock().now_ms()
    if as_json:
        print_json(render_rotated(rotated, now_ms))
        return
    click.echo(rotated.text)
    works = rotated.old_until_ms > now_ms
    until = f"works until {moment(rotated.old_until_ms)}" if works else "works no more"
    click.echo(f"This is key {key_id}. It is shown only now: keep it safe.", err=True)
    click.echo(f"The text before it {until}.", err=True)


@command.command("revoke")
@click.argument("key_id")
@options.yes
@options.as_json
def revoke(*, key_id: str, yes: bool, as_json: bool) -> None:
    """Revoke a key for good. Running gateways refuse it within two seconds. A terminal is asked first."""
    settings = read_settings()
    if at_terminal() and not yes:
        key = at_office(settings, lambda office: office.keyring.get(key_id))
        confirm(f"{_described(key)} is then refused for good. Revoke it?")

    async def work(office: Office) -> tuple[bool, ApiKey]:
        return await office.keyring.revoke(this_user(), key_id), await office.keyring.get(key_id)

    revoked, key = at_office(settings, work)
    if as_json:
        print_json(render_key(key, SystemClock().now_ms()))
    else:
        click.echo(f"Revoked {key_id}." if revoked else f"{key_id} was revoked before.")


def _change(work: Callable[[Office], Coroutine[Any, Any, ApiKey]], what: str, *, as_json: bool) -> None:
    key = at_office(read_settings(), work)
    if as_json:
        print_json(render_key(key, SystemClock().now_ms()))
    else:
        click.echo(f"{_described(key)} {what}.")


def _described(key: ApiKey) -> str:
    return f"Key {key.id} ({key.name}, of {key.tenant_id})"


def _facts(key: ApiKey, now_ms: int) -> list[tuple[str, object]]:
    return [
        ("ID", key.id),
        ("Tenant", key.tenant_id),
        ("Name", key.name),
        ("Mode", key.mode),
        ("State", key.state_at(now_ms)),
        ("Owner", key.owner),
        ("Tags", ", ".join(key.tags)),
        ("Scopes", ", ".join(sorted(key.scopes))),
        ("Models", "as its tenant" if key.allowed_models is None else ", ".join(key.allowed_models)),
        ("Requests a minute", key.rpm or "GATEWAY_DEFAULT_RPM"),
        ("Waiting", key.max_queued or "as its tenant"),
        ("Created", moment(key.created_at_ms)),
        ("Created by", key.created_by),
        ("Expires", moment(key.expires_at_ms) or "never"),
        ("Disabled", moment(key.disabled_at_ms)),
        ("Revoked", moment(key.revoked_at_ms)),
        ("Rotated", moment(key.rotated_at_ms)),
        ("Last used", moment(key.last_used_at_ms) or "never"),
    ]
