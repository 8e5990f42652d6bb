"""All rows of one database into another, of either kind: each table whole, in batches, and looked at again.

Plain functions on two open transactions. What the copy makes is what the source has: nothing is derived anew.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

import gateway.db.session_tables
import gateway.db.tables
import gateway.db.webhook_tables  # noqa: F401 - these fill what is described
from gateway.db.engine import Tx, has_one_writer
from gateway.db.queue_tables import queue_lines
from gateway.db.reconciliation import find_differences
from gateway.db.schema import RowId, metadata
from gateway.errors import Conflict

#: Rows in memory at once. The largest are calls, with up to 16 kB of what the model said.
BATCH_ROWS = 500

# Triggers write these as tasks are inserted. They come last, and what the triggers made goes first: it knows
# nothing of the virtual time that tenants have used up. All other triggers act on changes: a copy has none.
_MADE_BY_TRIGGERS = (queue_lines,)


@dataclass(frozen=True, slots=True)
class Copied:
    """A table that is equal on both sides: how many rows, and SHA-256 (hex) over all of their values."""

    table: str
    rows: int
    sha256: str


#: Hears how far it is: the table, rows of it that are done, and how many there are.
Progress = Callable[[str, int, int], None]


def tables_in_order() -> tuple[sa.Table, ...]:
    """Every table after those that it refers to, and after what fills it by itself."""
    plain = [table for table in metadata.sorted_tables if table not in _MADE_BY_TRIGGERS]
    return (*plain, *_MADE_BY_TRIGGERS)


def copy_all(source: Tx, target: Tx, told: Progress) -> tuple[Copied, ...]:
    """Copy every table and hold both sides to each other. Whoever called commits, or leaves nothing.

    Both must be of the same schema. Raises `Conflict` when the target has rows, the source's money does not
    add up, or what arrived is not what was sent.
    """
    _check_empty(target)
    _check_books(source, "the source")
    copied = tuple(_copy(table, source, target, told) for table in tables_in_order())
    _set_numbers(target)
    for table, sent in zip(tables_in_order(), copied, strict=True):
        arrived = _summed(table, target)
        if arrived != sent:
            raise Conflict(
                f"The table {table.name} did not arrive as it was sent, so nothing was copied.",
                internal=f"{sent.rows} rows sent, {arrived.rows} arrived",
            )
    _check_books(target, "the copy")
    return copied


def _check_empty(tx: Tx) -> None:
    for table in tables_in_order():
        if tx.execute(sa.select(sa.literal_column("1")).select_from(table).limit(1)).first():
            raise Conflict(
                f"The target is not empty: its table {table.name} has rows. Copy into a new database."
            )


def _check_books(tx: Tx, whose: str) -> None:
    differences = find_differences(tx)
    if differences:
        first = differences[0]
        raise Conflict(
            f"The money of {whose} does not add up in {len(differences)} places; see gateway reconcile.",
            internal=f"{first.what} of {first.which}",
        )


def _copy(table: sa.Table, source: Tx, target: Tx, told: Progress) -> Copied:
    count = source.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    digest, rows = hashlib.sha256(), 0
    if table in _MADE_BY_TRIGGERS:
        target.execute(table.delete())
    insert = table.insert()
    for batch in _batches(table, source):
        _add(digest, batch)
        target.execute(insert, [row._asdict() for row in batch])
        rows += len(batch)
        told(table.name, rows, count)
    return Copied(table.name, rows, digest.hexdigest())


def _summed(table: sa.Table, tx: Tx) -> Copied:
    digest, rows = hashlib.sha256(), 0
    for batch in _batches(table, tx):
        _add(digest, batch)
        rows += len(batch)
    return Copied(table.name, rows, digest.hexdigest())


def _add(digest: Any, batch: Sequence[sa.Row[Any]]) -> None:
    """Values as Python has them, which are the same from either kind of database: a boolean is no number."""
    for row in batch:
        digest.update(repr(tuple(row)).encode())


def _batches(table: sa.Table, tx: Tx) -> Iterator[Sequence[sa.Row[Any]]]:
    """The rows by their primary key, which both kinds of database sort alike: text by its bytes."""
    key = tuple(table.primary_key.columns)
    places = [list(table.columns).index(column) for column in key]
    statement = sa.select(table).order_by(*key).limit(BATCH_ROWS)
    batch = tx.execute(statement).all()
    while batch:
        yield batch
        if len(batch) < BATCH_ROWS:
            return
        last = [sa.literal(batch[-1][at], column.type) for at, column in zip(places, key, strict=True)]
        batch = tx.execute(statement.where(sa.tuple_(*key) > sa.tuple_(*last))).all()


def _set_numbers(tx: Tx) -> None:
    """Numbers that the database gives out go on after the last one; SQLite finds that by itself.

    Not by ``setval``, which would stay when all else is taken back.
    """
    if has_one_writer(tx):
        return
    for table in tables_in_order():
        for column in table.primary_key.columns:
            if column.type is RowId:
                last = tx.execute(sa.select(sa.func.max(column))).scalar_one() or 0
                named = sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))
                sequence = tx.execute(named).scalar_one()
                tx.exec_driver_sql(f"ALTER SEQUENCE {sequence} RESTART WITH {last + 1}")
