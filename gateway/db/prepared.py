"""Statements of the busiest transactions: written once by SQLAlchemy, run by the driver alone.

A task costs fifteen small statements. SQLite runs one in 20 µs, and so does PostgreSQL on the same machine;
SQLAlchemy's way there and back takes 60 more. What is given up for that is what these do without: expanding
lists, events, result objects. Types still convert both ways.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import sqlalchemy as sa

from gateway.db.engine import Tx, has_one_writer

_Convert = Callable[[Any], Any]

#: Where a connection of PostgreSQL keeps its `Driver`, in ``tx.info``.
DRIVER = "driver"


class Driver(Protocol):
    """Runs PostgreSQL's statements, past SQLAlchemy. Raises `sqlalchemy.exc.IntegrityError` as that does."""

    def run(self, sql: str, values: Sequence[Any]) -> int:
        """How many rows were changed."""

    def fetch(self, sql: str, values: Sequence[Any]) -> Iterable[Iterable[Any]]: ...


@dataclass(frozen=True, slots=True)
class _Plan:
    """The statement in the words of one dialect. ``constants`` are the values it has of its own."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]
    binds: tuple[tuple[str, _Convert], ...]
    make_row: _Convert | None

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        merged = {**self.constants, **values}
        for name, convert in self.binds:
            merged[name] = convert(merged[name])
        return [merged[name] for name in self.names]


class Prepared:
    """A Core statement. Each execution of an INSERT names the same columns."""

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase) -> None:
        self._statement = statement
        self._plans: dict[str, _Plan] = {}

    def run(self, tx: Tx, values: Mapping[str, Any]) -> int:
        """How many rows were changed."""
        plan = self._plan(tx, values)
        if has_one_writer(tx):
            return _execute(tx, plan, values).rowcount
        driver: Driver = tx.info[DRIVER]
        return driver.run(plan.sql, plan.arguments(values))

    def all(self, tx: Tx, values: Mapping[str, Any]) -> list[Any]:
        """The rows, their columns as attributes."""
        plan = self._plan(tx, values)
        if has_one_writer(tx):
            rows: Iterable[Any] = _execute(tx, plan, values).fetchall()
        else:
            driver: Driver = tx.info[DRIVER]
            rows = driver.fetch(plan.sql, plan.arguments(values))
        if plan.make_row is None:  # pragma: no cover - a mistake that the first call shows
            raise TypeError("the statement returns nothing")
        return [plan.make_row(row) for row in rows]

    def one_or_none(self, tx: Tx, values: Mapping[str, Any]) -> Any:
        """The row of a statement that has one at most."""
        rows = self.all(tx, values)
        return rows[0] if rows else None

    def _plan(self, tx: Tx, values: Mapping[str, Any]) -> _Plan:
        # Two threads may come here at once for the first time; either's plan is as good.
        name = tx.dialect.name
        plan = self._plans.get(name)
        if plan is None:
            plan = self._plans[name] = _prepare(self._statement, tx.dialect, values)
        return plan


def _execute(tx: Tx, plan: _Plan, values: Mapping[str, Any]) -> sqlite3.Cursor:
    raw = cast("sqlite3.Connection", tx.connection.dbapi_connection)
    try:
        return raw.execute(plan.sql, plan.arguments(values))
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
    converts = _conversions(columns, dialect)
    if not converts:
        return cast("_Convert", row._make)

    def make(values: Iterable[Any]) -> Any:
        changed = list(values)
        for at, convert in converts:
            changed[at] = convert(changed[at])
        return row._make(changed)

    return make


def _conversions(columns: "list[sa.ColumnElement[Any]]", dialect: sa.Dialect) -> list[tuple[int, _Convert]]:
    if dialect.name != "sqlite":
        # PostgreSQL's driver is told the type of each column, and gives what Python calls it.
        return []
    found = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
    return [(at, convert) for at, convert in enumerate(found) if convert is not None]
