"""``gateway audit``."""

from typing import Any

import click

from gateway.cli import options
from gateway.cli.environment import at_office, read_settings
from gateway.cli.tables import moment, print_json, print_table
from gateway.db.audit import AuditEntry
from gateway.units import format_usd
from gateway.web.admin.views import render_act

# What is a sum of money, though its name does not say so: budgets are named by their windows.
_DOLLARS = frozenset({"day", "month", "total"})


@click.group("audit")
def command() -> None:
    pass


@command.command("list")
@click.option("--tenant", "tenant_id", metavar="ID", help="Only what was done to this tenant.")
@options.limit
@options.as_json
def list_newest(*, tenant_id: str | None, limit: int, as_json: bool) -> None:
    """List what was administered, by whom and from where, the newest first."""
    entries = at_office(read_settings(), lambda office: office.books.audit_log(tenant_id, limit=limit))
    if as_json:
        print_json(list(map(render_act, entries)))
        return
    print_table(
        ("TIME", "WHO", "FROM", "ACT", "ON", "CHANGE"),
        [
            (
                moment(entry.at_ms),
                entry.act.actor,
                entry.act.source,
                entry.action,
                entry.target,
                _change(entry),
            )
            for entry in entries
        ],
    )


def _change(entry: AuditEntry) -> str:
    """``rpm: none → 5; weight: 1 → 2``. Of what was made only what it has, of what went what it had."""
    before, after = entry.before, entry.after
    if before is None or after is None:
        picture = after or before or {}
        return "; ".join(
            _named(name, value) for name, value in picture.items() if value not in (None, "", [])
        )
    return "; ".join(f"{_named(name, before.get(name))} → {_value(name, after[name])}" for name in after)


def _named(name: str, value: Any) -> str:
    # The value is written without its unit, so the name is as well.
    plain = name.removesuffix("_ms").removesuffix("_micros").replace("_ppm", "_multiplier")
    return f"{plain}: {_value(name, value)}"


def _value(name: str, value: Any) -> str:
    if value is None or value in ("", []):
        return "none"
    if name.endswith("_ms"):
        return moment(value) or ""
    if name.endswith(("_micros", "_ppm")) or name in _DOLLARS:
        return format_usd(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
