"""``gateway usage``."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from gateway.accounts import export
from gateway.accounts.usage import Query, Report, Row, parse_group_by
from gateway.cli import options
from gateway.cli.environment import Exit, at_office, read_settings
from gateway.cli.tables import print_json, print_table
from gateway.db.usage import Usage
from gateway.errors import InvalidRequest
from gateway.model import Dimension
from gateway.units import format_usd

_OPTIONS = (
    click.option("--from", "first_day", help="First day, like 2026-11-01; 30 days if absent."),
    click.option("--to", "last_day", help="Last day, included; today if absent."),
    click.option("--tz", "zone", help="Where days begin; the tenant's zone, or UTC for all."),
    click.option("--tenant", "tenant_id", help="Only this tenant, by its id; all if absent."),
)
_MINUTE_MS = 60_000
_ALL = ",".join(dimension.value for dimension in Dimension)


class GroupBy(click.ParamType[tuple[Dimension, ...]]):
    """Names of what to group by, between commas."""

    name = "names"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Dimension, ...]:
        try:
            return parse_group_by(str(value), tuple(Dimension))
        except InvalidRequest as error:
            self.fail(error.fields[0].detail, param, ctx)


def _which(command: options.Command) -> options.Command:
    """The options that say which usage is meant."""
    return options.decorated(command, _OPTIONS)


@click.group("usage")
def command() -> None:
    pass


@command.command("export")
@_which
@click.option("--group-by", default=_ALL, type=GroupBy(), show_default=True, help="Between commas.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "json"]),
    default="csv",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; else standard output."
)
def write(
    first_day: str | None,
    last_day: str | None,
    zone: str | None,
    tenant_id: str | None,
    group_by: tuple[Dimension, ...],
    kind: str,
    output: Path | None,
) -> None:
    """Write usage as CSV or JSON, for programs."""
    report = _read(Query(tenant_id, first_day, last_day, zone, group_by))
    if kind == "csv":
        text = export.csv_text(report, with_cost=True)
    else:
        text = json.dumps(export.document(report, with_cost=True), ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text.encode(), nl=False)
        return
    try:
        output.write_bytes(text.encode())
    except OSError as error:
        click.echo(f"error: {output} cannot be written: {error.strerror}", err=True)
        raise SystemExit(Exit.FAILED) from error


@command.command("show")
@_which
@click.option("--group-by", default="tenant", type=GroupBy(), show_default=True, help="Between commas.")
@options.as_json
def show(
    first_day: str | None,
    last_day: str | None,
    zone: str | None,
    tenant_id: str | None,
    group_by: tuple[Dimension, ...],
    *,
    as_json: bool,
) -> None:
    """Show usage as a table, for people."""
    report = _read(Query(tenant_id, first_day, last_day, zone, group_by))
    if as_json:
        print_json(export.document(report, with_cost=True))
        return
    click.echo(f"{report.first_day} to {report.last_day}, days of {report.zone}")
    rows = [[*_named(row, group_by), *_figures(row.usage).values()] for row in report.rows]
    last = ["all together" if at == 0 else None for at in range(len(group_by))]
    rows.append([*last, *_figures(report.total).values()])
    print_table([*(dimension.value.upper() for dimension in group_by), *_figures(Usage())], rows)


def _read(query: Query) -> Report:
    return at_office(read_settings(), lambda office: office.usage.report(query))


def _named(row: Row, group_by: Sequence[Dimension]) -> list[str | None]:
    cells = {
        Dimension.TENANT: row.tenant_name,
        # Keys of one tenant may share a name.
        Dimension.KEY: row.key_id and f"{row.key_name} {row.key_id}",
        Dimension.MODEL: row.model,
        Dimension.DAY: row.day,
    }
    return [cells[dimension] for dimension in group_by]


def _figures(usage: Usage) -> dict[str, object]:
    return {
        "REQUESTS": usage.requests,
        "SUCCEEDED": usage.succeeded,
        "FAILED": usage.failed + usage.canceled + usage.expired,
        "OPEN": usage.queued + usage.running,
        "TESTS": usage.test_requests,
        "CLIPS": usage.clips,
        "MINUTES": f"{usage.audio_ms / _MINUTE_MS:.1f}",
        "CALLS": usage.attempts,
        "UNKNOWN": usage.unknown_attempts,
        "HELD": format_usd(usage.held_micros),
        "CHARGED": format_usd(usage.charged_micros),
        "COST": format_usd(usage.provider_cost_micros),
    }
