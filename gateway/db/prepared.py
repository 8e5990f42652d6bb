"""Statements of the busiest transactions: written once by SQLAlchemy, run by the driver alone.

A task costs fifteen small statements. SQLite runs one in 20 µs; SQLAlchemy's way there and back takes 60
more. What is given up for that is what these do without: expanding lists, events, result objects. Types
still convert both ways.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa

from gateway.db.engine import Tx

_Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The statement in SQLite's words. ``constants`` are the values it has of its own."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]
    binds: tuple[tuple[str, _Convert], ...]
    make_row: _Convert | None


class Prepared:
    """A Core statement. Each execution of an INSERT names the same columns."""

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase) -> None:
        self._statement = statement
        self._plan: _Plan | None = None

    def run(self, tx: Tx, values: Mapping[str, Any]) -> int:
        """How many rows were changed."""
        return self._execute(tx, values).rowcount

    def all(self, tx: Tx, values: Mapping[str, Any]) -> list[Any]:
        """The rows, their columns as attributes."""
        cursor = self._execute(tx, values)
        make_row = self._plan.make_row if self._plan is not None else None
        if make_row is None:  # pragma: no cover - a mistake that the first call shows
            raise TypeError("the statement returns nothing")
        return [make_row(row) for row in cursor.fetchall()]

    def one_or_none(self, tx: Tx, values: Mapping[str, Any]) -> Any:
        """The row of a statement that has one at most."""
        rows = self.all(tx, values)
        return rows[0] if rows else None

    def _execute(self, tx: Tx, values: Mapping[str, Any]) -> sqlite3.Cursor:
        # Both threads may come here at once for the first time; either's plan is as good.
        plan = self._plan = self._plan or _prepare(self._statement, tx.dialect, values)
        merged = {**plan.constants, **values}
        for name, convert in plan.binds:
            merged[name] = convert(merged[name])
        raw = cast("sqlite3.Connection", tx.connection.dbapi_connection)
        try:
            return raw.execute(plan.sql, [merged[name] for name in plan.names])
        except sqlite3.IntegrityError as error:
            # Its values stay out of the text: prompts have no place in a log.
            raise sa.exc.IntegrityError(plan.sql, None, error) from error


def _prepare(
    statement: sa.Select[Any] | sa.UpdateBase, dialect: sa.Dialect, values: Mapping[str, Any]
) -> _Plan:
    inline = statement.inline() if isinstance(statement, sa.Insert) else statement
    columns = list(values) if isinstance(statement, sa.Insert) else None
    compiled = inline.compile(dialect=dialect, column_keys=columns)
    names = tuple(compiled.positiontup or ())
    binds = {
        name: compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in set(names)
    }
    return _Plan(
        sql=compiled.string,
        names=names,
        constants={name: value for name, value in compiled.params.items() if name not in values},
        binds=tuple((name, convert) for name, convert in binds.items() if convert is not None),
        make_row=_row_maker(list(statement.exported_columns), dialect),
    )


def _row_maker(columns: "list[sa.ColumnElement[Any]]", dialect: sa.Dialect) -> _Convert | None:
    if not columns:
        return None
    names = [column.key for column in columns]
    row: Any = cast("Any", namedtuple)("Row", names)  # noqa: PYI024 - its fields are known only here
    found = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
    converts = [(at, convert) for at, convert in enumerate(found) if convert is not None]
    if not converts:
        return cast("_Convert", row._make)

    def make(values: tuple[Any, ...]) -> Any:
        changed = list(values)
        for at, convert in converts:
            changed[at] = convert(changed[at])
        return row._make(changed)

    return make
