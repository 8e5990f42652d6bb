"""The ledger only grows, its balances go with it, and the database itself refuses what must not be."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.accounts.calendar import periods_at
from gateway.db import ledger
from gateway.db.engine import Database, Tx
from gateway.db.ledger import Balance
from gateway.errors import Unavailable
from gateway.model import BudgetWindow, Entry, EntryKind, Periods, Task
from tests.factories import NOW_MS, keep_task

TODAY = periods_at(NOW_MS, "UTC")
TOMORROW = Periods("2027-01-16", TODAY.month)


def an_entry(task: Task, kind: EntryKind = EntryKind.HOLD, **changes: Any) -> Entry:
    """Of six cents: held, then charged or let go."""
    held, spent = {
        EntryKind.HOLD: (60_000, 0),
        EntryKind.SETTLE: (-60_000, 60_000),
        EntryKind.RELEASE: (-60_000, 0),
        EntryKind.ADJUST: (0, 10_000),
    }[kind]
    adjust = kind is EntryKind.ADJUST
    values: dict[str, Any] = {
        "tenant_id": task.tenant_id,
        "key_id": None if adjust else task.key_id,
        "task_id": None if adjust else task.id,
        "kind": kind,
        "held_micros": held,
        "spent_micros": spent,
        "periods": TODAY,
        "at_ms": NOW_MS,
        "actor": "test",
        "reason": "goodwill" if adjust else "",
    }
    return Entry(**(values | changes))


class Book:
    """A task, and entries for it."""

    def __init__(self, database: Database, task: Task) -> None:
        self._database = database
        self.task = task

    async def add(self, kind: EntryKind, **changes: Any) -> None:
        await self._database.write(lambda tx: ledger.add_entry(tx, an_entry(self.task, kind, **changes)))

    async def refuses(self, kind: EntryKind, complaint: str, **changes: Any) -> None:
        """The database does, and nothing of it remains."""
        before = await self.rows()
        with pytest.raises(Unavailable) as caught:
            await self.add(kind, **changes)
        assert complaint in (caught.value.internal or "").lower()
        assert await self.rows() == before

    async def execute(self, statement: str) -> None:
        await self._database.write(lambda tx: tx.execute(sa.text(statement)))

    async def rows(self) -> list[tuple[Any, ...]]:
        def read(tx: Tx) -> list[tuple[Any, ...]]:
            tables = ("ledger", "balances")
            return [tuple(row) for table in tables for row in tx.exec_driver_sql(f"SELECT * FROM {table}")]

        return await self._database.read(read)

    async def read(self, function: Callable[[Tx], Any]) -> Any:
        return await self._database.read(function)

    async def balances(self, periods: Periods = TODAY) -> dict[str, Balance]:
        return await self.read(lambda tx: ledger.get_balances(tx, self.task.tenant_id, periods))


@pytest.fixture
async def book(database: Database) -> Book:
    return Book(database, await keep_task(database))


async def test_a_hold_is_in_the_balances_of_its_day_month_and_all_time(book: Book) -> None:
    assert await book.balances() == {}
    await book.add(EntryKind.HOLD)
    assert await book.balances() == dict.fromkeys(TODAY.all(), Balance(60_000, 0))


async def test_a_settlement_takes_the_place_of_the_hold(book: Book) -> None:
    await book.add(EntryKind.HOLD)
    await book.add(EntryKind.SETTLE, spent_micros=40_000)
    assert await book.balances() == dict.fromkeys(TODAY.all(), Balance(0, 40_000))


async def test_a_release_leaves_nothing(book: Book) -> None:
    await book.add(EntryKind.HOLD)
    await book.add(EntryKind.RELEASE)
    assert await book.balances() == dict.fromkeys(TODAY.all(), Balance(0, 0))


async def test_a_new_day_begins_empty_in_the_same_month(book: Book) -> None:
    await book.add(EntryKind.ADJUST)
    await book.add(EntryKind.ADJUST, periods=TOMORROW)
    assert await book.balances() == {
        TODAY.day: Balance(0, 10_000),
        TODAY.month: Balance(0, 20_000),
        "total": Balance(0, 20_000),
    }
    assert (await book.balances(TOMORROW))[TOMORROW.day] == Balance(0, 10_000)


async def test_tenants_have_balances_of_their_own(book: Book, database: Database) -> None:
    other = Book(database, await keep_task(database))
    await book.add(EntryKind.HOLD)
    await other.add(EntryKind.ADJUST)
    assert (await book.balances())["total"] == Balance(60_000, 0)
    assert (await other.balances())["total"] == Balance(0, 10_000)


async def test_the_hold_is_found_as_it_was_made(book: Book) -> None:
    await book.add(EntryKind.HOLD)
    await book.add(EntryKind.SETTLE)
    assert await book.read(lambda tx: ledger.get_hold(tx, book.task.id)) == an_entry(book.task)
    assert await book.read(lambda tx: ledger.get_hold(tx, "task_x")) is None


# What the database refuses


@pytest.mark.parametrize("kind", [EntryKind.HOLD, EntryKind.SETTLE, EntryKind.RELEASE])
async def test_no_entry_of_a_task_comes_twice(book: Book, kind: EntryKind) -> None:
    await book.add(EntryKind.HOLD)
    if kind is not EntryKind.HOLD:
        await book.add(kind)
    await book.refuses(kind, "unique")


@pytest.mark.parametrize(
    ("first", "second"), [(EntryKind.SETTLE, EntryKind.RELEASE), (EntryKind.RELEASE, EntryKind.SETTLE)]
)
async def test_a_task_is_never_both_settled_and_released(
    book: Book, first: EntryKind, second: EntryKind
) -> None:
    await book.add(EntryKind.HOLD)
    await book.add(first)
    await book.refuses(second, "unique")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET spent_micros = 0",
        "UPDATE ledger SET reason = 'another' WHERE kind = 'adjust'",
        "DELETE FROM ledger",
        "DELETE FROM ledger WHERE kind = 'adjust'",
    ],
)
async def test_what_is_entered_stays(book: Book, statement: str) -> None:
    await book.add(EntryKind.HOLD)
    await book.add(EntryKind.ADJUST)
    before = await book.rows()
    with pytest.raises(Unavailable) as caught:
        await book.execute(statement)
    assert caught.value.internal == "the ledger is append-only"
    assert await book.rows() == before


async def test_an_adjustment_without_a_reason_is_refused(book: Book) -> None:
    await book.refuses(EntryKind.ADJUST, "ck_ledger_reason", reason="")


async def test_an_adjustment_is_of_no_task_and_everything_else_of_one(book: Book) -> None:
    await book.refuses(EntryKind.ADJUST, "ck_ledger_task", task_id=book.task.id)
    await book.refuses(EntryKind.HOLD, "ck_ledger_task", task_id=None)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (EntryKind.HOLD, {"held_micros": -1}),
        (EntryKind.HOLD, {"spent_micros": 1}),
        (EntryKind.SETTLE, {"held_micros": 1}),
        (EntryKind.SETTLE, {"spent_micros": -1}),
        (EntryKind.RELEASE, {"held_micros": 1}),
        (EntryKind.RELEASE, {"spent_micros": 1}),
        (EntryKind.ADJUST, {"held_micros": 1}),
    ],
)
async def test_amounts_fit_their_kind(book: Book, kind: EntryKind, changes: dict[str, int]) -> None:
    await book.refuses(kind, "ck_ledger_amounts", **changes)


async def test_less_than_nothing_is_never_held(book: Book) -> None:
    await book.add(EntryKind.HOLD)
    await book.refuses(EntryKind.RELEASE, "ck_balances_held", held_micros=-60_001)


async def test_less_than_nothing_is_never_spent_in_all(book: Book) -> None:
    await book.add(EntryKind.ADJUST)
    await book.refuses(EntryKind.ADJUST, "ck_balances_spent", spent_micros=-10_001)
    await book.add(EntryKind.ADJUST, spent_micros=-10_000, periods=TOMORROW)
    assert (await book.balances(TOMORROW))[TOMORROW.day] == Balance(0, -10_000)


@pytest.mark.parametrize("change", [{"tenant_id": "ten_x"}, {"key_id": "nobody"}, {"task_id": "task_x"}])
async def test_entries_are_about_what_exists(book: Book, change: dict[str, str]) -> None:
    await book.refuses(EntryKind.HOLD, "foreign key", **change)


# Budgets


async def test_budgets_are_set_changed_and_lifted_one_by_one(book: Book, database: Database) -> None:
    tenant_id = book.task.tenant_id
    await book.add(EntryKind.HOLD)
    used = await book.balances()
    for limits in (
        {BudgetWindow.DAY: 1, BudgetWindow.MONTH: 2},
        {BudgetWindow.DAY: 5, BudgetWindow.TOTAL: 0},
    ):
        await database.write(partial(ledger.put_budgets, tenant_id=tenant_id, limits=limits))
    await database.write(lambda tx: ledger.drop_budgets(tx, tenant_id, [BudgetWindow.MONTH]))
    kept = await book.read(lambda tx: ledger.get_budgets(tx, tenant_id))
    assert kept == {BudgetWindow.DAY: 5, BudgetWindow.TOTAL: 0}
    assert await book.balances() == used


async def test_a_budget_below_nothing_is_refused(book: Book, database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.write(lambda tx: ledger.put_budgets(tx, book.task.tenant_id, {BudgetWindow.DAY: -1}))
    assert await book.read(lambda tx: ledger.get_budgets(tx, book.task.tenant_id)) == {}
