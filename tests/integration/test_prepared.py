"""Statements run by the driver alone give what SQLAlchemy would give."""

import asyncio
from typing import Any

import sqlalchemy as sa

from gateway.db import work
from gateway.db.engine import Database, Tx
from gateway.db.prepared import Prepared
from gateway.db.tables import task_events, tasks, tenants
from tests.factories import a_task, keep_key, keep_task

NAMED = sa.bindparam("tenant_id")
ONE = sa.select(tenants).where(tenants.c.id == NAMED)


def a_row(**changes: Any) -> dict[str, Any]:
    return {"id": "t1", "name": "acme", "status": "active", "created_at_ms": 1, "weight": 1, **changes}


async def test_a_row_has_its_columns_as_attributes(database: Database) -> None:
    await database.write(lambda tx: Prepared(sa.insert(tenants)).run(tx, a_row(rpm=7)))
    row = await database.read(lambda tx: Prepared(ONE).one_or_none(tx, {"tenant_id": "t1"}))
    assert (row.id, row.rpm, row.max_queued) == ("t1", 7, None)


async def test_nothing_found_is_none(database: Database) -> None:
    assert await database.read(lambda tx: Prepared(ONE).one_or_none(tx, {"tenant_id": "t1"})) is None
    assert await database.read(lambda tx: Prepared(ONE).all(tx, {"tenant_id": "t1"})) == []


async def test_the_same_statement_takes_other_values(database: Database) -> None:
    insert, one = Prepared(sa.insert(tenants)), Prepared(ONE)
    for number in range(3):
        row = a_row(id=f"t{number}", name=f"n{number}", weight=number + 1)
        await database.write(lambda tx, row=row: insert.run(tx, row))
    for number in (2, 0, 1):
        found = await database.read(
            lambda tx, number=number: one.one_or_none(tx, {"tenant_id": f"t{number}"})
        )
        assert (found.name, found.weight) == (f"n{number}", number + 1)


async def test_rows_are_those_of_sqlalchemy(database: Database) -> None:
    """Booleans are booleans, and a label is the column's name."""
    await keep_task(database, emulated=True)
    await keep_task(database, emulated=False)
    statement = sa.select(tasks, tasks.c.id.label("its_id")).order_by(tasks.c.id)

    def both(tx: Tx) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return (
            [row._asdict() for row in Prepared(statement).all(tx, {})],
            [row._asdict() for row in tx.execute(statement)],
        )

    ours, theirs = await database.read(both)
    assert ours == theirs
    assert [type(row["emulated"]) for row in ours] == [bool, bool]


async def test_an_update_tells_how_many_it_changed(database: Database) -> None:
    update = Prepared(sa.update(tenants).where(tenants.c.id == sa.bindparam("it")).values(weight=5))
    await database.write(lambda tx: Prepared(sa.insert(tenants)).run(tx, a_row()))
    changed = [await database.write(lambda tx, it=it: update.run(tx, {"it": it})) for it in ("t1", "t2")]
    assert changed == [1, 0]


async def test_what_an_update_returns_is_read_to_its_end(database: Database) -> None:
    update = Prepared(sa.update(tenants).values(weight=5).returning(tenants.c.id, tenants.c.weight))
    for number in range(3):
        row = a_row(id=f"t{number}", name=f"n{number}")
        await database.write(lambda tx, row=row: Prepared(sa.insert(tenants)).run(tx, row))
    rows = await database.write(lambda tx: update.all(tx, {}))
    assert sorted(tuple(row) for row in rows) == [("t0", 5), ("t1", 5), ("t2", 5)]


async def test_a_key_that_counts_up_needs_no_value(database: Database) -> None:
    task = await keep_task(database)
    values = {"task_id": task.id, "kind": "queued", "at_ms": 1, "data": "{}"}
    await database.write(lambda tx: [Prepared(sa.insert(task_events)).run(tx, values) for _ in range(2)])
    ids = await database.read(lambda tx: list(tx.execute(sa.select(task_events.c.id)).scalars()))
    assert ids == [1, 2]


async def test_a_broken_constraint_is_the_writers_alone(database: Database) -> None:
    """Others in the same commit keep what they wrote, and no value gets into the error."""
    insert = Prepared(sa.insert(tenants))
    gate = asyncio.create_task(database.write(lambda tx: insert.run(tx, a_row(name="a secret prompt"))))
    await asyncio.sleep(0)
    outcomes = await asyncio.gather(
        database.write(lambda tx: insert.run(tx, a_row(id="t2", name="a secret prompt"))),
        database.write(lambda tx: insert.run(tx, a_row(id="t3", name="other"))),
        return_exceptions=True,
    )
    await gate
    assert isinstance(outcomes[0], Exception)
    assert "secret" not in str(outcomes[0])
    assert outcomes[1] == 1
    assert await database.read(lambda tx: list(tx.execute(sa.select(tenants.c.id)).scalars())) == ["t1", "t3"]


async def test_a_task_in_and_out(database: Database) -> None:
    key = await keep_key(database)
    task = await keep_task(database, key, metadata={"a": "ü"}, emulated=True)
    assert task == a_task(
        key, id=task.id, created_at_ms=task.created_at_ms, metadata={"a": "ü"}, emulated=True
    )


async def test_a_claim_within_the_limit_looks_at_what_runs_only(sqlite_database: Database) -> None:
    """By an index on its tenant SQLite would go through everything the tenant ever sent."""

    def plan(tx: Tx) -> str:
        compiled = work._CLAIM_WITHIN_LIMIT._statement.compile(dialect=tx.dialect)
        values = tuple("x" for _ in compiled.positiontup)
        rows = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled.string}", values)
        return " ".join(row.detail for row in rows)

    found = await sqlite_database.read(plan)
    assert "ix_tasks_running" in found
    assert "ix_tasks_tenant_id" not in found
