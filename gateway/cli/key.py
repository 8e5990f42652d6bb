"""``gateway key``."""

import click

from gateway.bootstrap import open_office
from gateway.cli.environment import read_settings, run, this_user
from gateway.cli.tables import moment, print_json, print_table
from gateway.model import ApiKey, KeyMode


@click.group("key")
def command() -> None:
    pass


@command.command("create")
@click.option("--tenant", "tenant_id", required=True, help="The tenant's id.")
@click.option("--name", default="key", show_default=True, help="What the key is for.")
@click.option("--rpm", type=click.IntRange(min=1), help="Requests a minute; GATEWAY_DEFAULT_RPM if absent.")
@click.option("--test", is_flag=True, help="A test key: the emulator serves it, and it costs nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(tenant_id: str, name: str, rpm: int | None, test: bool, as_json: bool) -> None:  # noqa: FBT001
    """Create a key. Its text is shown once and kept nowhere."""
    settings = read_settings()
    mode = KeyMode.TEST if test else KeyMode.LIVE

    async def work() -> tuple[ApiKey, str]:
        async with open_office(settings) as office:
            return await office.keyring.create(this_user(), tenant_id, mode=mode, name=name, rpm=rpm)

    key, text = run(work())
    if as_json:
        print_json({**_document(key), "key": text})
    else:
        click.echo(text)
        click.echo(f"This is key {key.id}. It is shown only now: keep it safe.", err=True)


@command.command("list")
@click.option("--tenant", "tenant_id", help="Only this tenant's keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_all(tenant_id: str | None, as_json: bool) -> None:  # noqa: FBT001
    """List keys, revoked ones included."""
    settings = read_settings()

    async def work() -> tuple[ApiKey, ...]:
        async with open_office(settings) as office:
            return await office.keyring.list(tenant_id)

    keys = run(work())
    if as_json:
        print_json([_document(key) for key in keys])
        return
    print_table(
        ("ID", "TENANT", "NAME", "MODE", "RPM", "CREATED", "REVOKED"),
        [
            (k.id, k.tenant_id, k.name, k.mode, k.rpm, moment(k.created_at_ms), moment(k.revoked_at_ms))
            for k in keys
        ],
    )


@command.command("revoke")
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Revoke a key for good. Running gateways refuse it within two seconds."""
    settings = read_settings()

    async def work() -> bool:
        async with open_office(settings) as office:
            return await office.keyring.revoke(this_user(), key_id)

    click.echo(f"Revoked {key_id}." if run(work()) else f"{key_id} was revoked before.")


def _document(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "mode": key.mode.value,
        "rpm": key.rpm,
        "created_at": moment(key.created_at_ms),
        "revoked_at": moment(key.revoked_at_ms),
    }
