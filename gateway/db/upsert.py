"""INSERT that meets a row with its key: the same on both databases, importing neither's dialect by itself."""

import importlib
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.prepared import Prepared


class Upsert:
    """Insert a row; if there is one with its key, change the columns named, or nothing if none is."""

    def __init__(self, table: sa.Table, *, key: tuple[str, ...], change: tuple[str, ...] = ()) -> None:
        self._table = table
        self._key = key
        self._change = change
        self._statements: dict[str, Prepared] = {}

    def run(self, tx: Tx, values: Mapping[str, Any]) -> int:
        """How many rows were inserted or changed. Each execution names the same columns."""
        name = tx.dialect.name
        statement = self._statements.get(name)
        if statement is None:
            statement = self._statements[name] = Prepared(self._statement(name))
        return statement.run(tx, values)

    def _statement(self, dialect_name: str) -> sa.UpdateBase:
        # Each dialect has an insert() of its own for this. The one in use is loaded already.
        insert = importlib.import_module(f"sqlalchemy.dialects.{dialect_name}").insert(self._table)
        if not self._change:
            statement: sa.UpdateBase = insert.on_conflict_do_nothing(index_elements=self._key)
        else:
            to_new = {name: insert.excluded[name] for name in self._change}
            statement = insert.on_conflict_do_update(index_elements=self._key, set_=to_new)
        return statement
