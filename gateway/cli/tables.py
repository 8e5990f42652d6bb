"""Output: aligned columns for people, JSON for programs."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click


def print_json(value: Any) -> None:
    click.echo(json.dumps(value))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Left-aligned columns; an empty cell for None."""
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(len(row[at]) for row in [list(headings), *cells]) for at in range(len(headings))]
    for row in [list(headings), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def moment(ms: int | None) -> str | None:
    """A time as ISO 8601 in UTC, to the second."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
