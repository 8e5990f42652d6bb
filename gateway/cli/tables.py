"""Output: aligned columns for people, JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from unicodedata import combining, east_asian_width

import click

from gateway.model import KeyState, TenantStatus

_COLOURS = {
    "active": "green",
    "disabled": "yellow",
    "expired": "yellow",
    "suspended": "red",
    "revoked": "red",
}


def print_json(value: Any) -> None:
    click.echo(json.dumps(value))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Left-aligned columns; an empty cell for None."""
    _print_columns([headings, *rows])


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """A name and a value a line; what has no value is left out."""
    _print_columns([(f"{name}:", value) for name, value in facts if _text(value)])


def moment(ms: int | None) -> str | None:
    """A time as ISO 8601 in UTC, to the second."""
    return None if ms is None else datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print_columns(rows: Sequence[Sequence[object]]) -> None:
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        # Spaces after the last column that has something would only make lines wrap.
        last = max((at for at, cell in enumerate(row) if _text(cell)), default=-1)
        cells = [
            _coloured(cell) + " " * (width - _width(cell) if at < last else 0)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            if at <= last
        ]
        click.echo("  ".join(cells))


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)


def _coloured(cell: object) -> str:
    """States in colour. `click.echo` takes it away again where it is not for a terminal, or not wanted."""
    if isinstance(cell, TenantStatus | KeyState):
        return click.style(cell.value, fg=_COLOURS[cell.value])
    return _text(cell)


def _width(cell: object) -> int:
    """Columns on a terminal: Chinese characters take two, accents that combine none."""
    return sum(2 if east_asian_width(c) in "WF" else 0 if combining(c) else 1 for c in _text(cell))
