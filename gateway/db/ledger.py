"""Money: entries of the ledger, the balances they add up to, and budgets. Micro-dollars throughout."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.locks import lock_tenant
from gateway.db.prepared import Prepared
from gateway.db.tables import balances, budgets, ledger
from gateway.db.upsert import Upsert
from gateway.model import BudgetWindow, Entry, EntryKind, Periods

_tenant_id: sa.BindParameter[str] = sa.bindparam("tenant_id")

_INSERT_ENTRY = Prepared(sa.insert(ledger))
_OPEN_BALANCE = sa.insert(balances).values(
    tenant_id=sa.bindparam("of_tenant"),
    period=sa.bindparam("in_period"),
    held_micros=sa.bindparam("held"),
    spent_micros=sa.bindparam("spent"),
)
_MOVE_BALANCES = Prepared(
    sa.update(balances)
    .where(
        balances.c.tenant_id == sa.bindparam("of_tenant"),
        balances.c.period.in_([sa.bindparam(f"in_{window.value}") for window in BudgetWindow]),
    )
    .values(
        held_micros=balances.c.held_micros + sa.bindparam("held"),
        spent_micros=balances.c.spent_micros + sa.bindparam("spent"),
    )
)
_BUDGETS = sa.select(budgets.c.window, budgets.c.limit_micros).where(budgets.c.tenant_id == _tenant_id)
_BALANCES = sa.select(balances.c.period, balances.c.held_micros, balances.c.spent_micros).where(
    balances.c.tenant_id == _tenant_id, balances.c.period.in_(sa.bindparam("periods", expanding=True))
)
_HOLD = Prepared(
    sa.select(ledger).where(ledger.c.task_id == sa.bindparam("task_id"), ledger.c.kind == "hold")
)
_PUT_BUDGET = Upsert(budgets, key=("tenant_id", "window"), change=("limit_micros",))
_APPEND_ENTRY = sa.insert(ledger).returning(ledger.c.id)
_ENTRY = sa.select(ledger).where(ledger.c.id == sa.bindparam("number"))
_OF_TASK = sa.select(ledger).where(ledger.c.task_id == sa.bindparam("of_task")).order_by(ledger.c.id)
_NEWEST = sa.select(ledger).limit(sa.bindparam("at_most"))
_DROP_BUDGET = sa.delete(budgets).where(
    budgets.c.tenant_id == _tenant_id, budgets.c.window == sa.bindparam("window")
)


@dataclass(frozen=True, slots=True)
class Balance:
    """What a tenant holds and has spent in a period."""

    held_micros: int = 0
    spent_micros: int = 0

    @property
    def used_micros(self) -> int:
        return self.held_micros + self.spent_micros


def add_entry(tx: Tx, entry: Entry) -> None:
    """Append an entry and move the balances of its periods with it.

    The database refuses a second hold, settlement or release of a task, and a settlement beside a release.
    Locks the tenant (see `gateway.db.locks`).
    """
    lock_tenant(tx, entry.tenant_id)
    _INSERT_ENTRY.run(tx, _values(entry))
    _move_balances(tx, entry)


def _move_balances(tx: Tx, entry: Entry) -> None:
    move = {"of_tenant": entry.tenant_id, "held": entry.held_micros, "spent": entry.spent_micros}
    periods = {f"in_{window.value}": entry.periods.named(window) for window in BudgetWindow}
    # An upsert would not do: taken as an insertion, it fails the check on what is held.
    if _MOVE_BALANCES.run(tx, move | periods) < len(periods):
        # The first entry of a day, a month or a tenant.
        kept = get_balances(tx, entry.tenant_id, entry.periods)
        new = [period for period in periods.values() if period not in kept]
        tx.execute(_OPEN_BALANCE, [move | {"in_period": period} for period in new])


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """An entry with its number."""

    id: int
    entry: Entry


def append_entry(tx: Tx, entry: Entry) -> LedgerRow:
    """As `add_entry`, for whoever has to know its number."""
    lock_tenant(tx, entry.tenant_id)
    number = tx.execute(_APPEND_ENTRY, _values(entry)).scalar_one()
    _move_balances(tx, entry)
    return LedgerRow(number, entry)


def get_entry(tx: Tx, number: int) -> LedgerRow | None:
    row = tx.execute(_ENTRY, {"number": number}).one_or_none()
    return None if row is None else LedgerRow(row.id, _entry(row))


def list_of_task(tx: Tx, task_id: str) -> tuple[LedgerRow, ...]:
    """A task's entries, in their order."""
    return tuple(LedgerRow(row.id, _entry(row)) for row in tx.execute(_OF_TASK, {"of_task": task_id}))


def list_entries(
    tx: Tx, *, tenant_id: str | None = None, before_id: int | None = None, limit: int
) -> tuple[LedgerRow, ...]:
    """The newest entries first, those before ``before_id`` only if it is given."""
    # Along an index either way: by number for all, by time for one tenant, whose numbers are scattered.
    place = (ledger.c.id,) if tenant_id is None else (ledger.c.at_ms, ledger.c.id)
    statement = _NEWEST.order_by(*(column.desc() for column in place))
    if tenant_id is not None:
        statement = statement.where(ledger.c.tenant_id == tenant_id)
    if before_id is not None:
        start = sa.select(*place).where(ledger.c.id == before_id).scalar_subquery()
        statement = statement.where(sa.tuple_(*place) < start)
    return tuple(LedgerRow(row.id, _entry(row)) for row in tx.execute(statement, {"at_most": limit}))


def get_hold(tx: Tx, task_id: str) -> Entry | None:
    """The hold of a task; its settlement or release counts towards the same periods."""
    row = _HOLD.one_or_none(tx, {"task_id": task_id})
    return None if row is None else _entry(row)


def put_budgets(tx: Tx, tenant_id: str, limits: Mapping[BudgetWindow, int]) -> None:
    """Set the budgets named; others stay. Changing one never changes what was used. Locks the tenant."""
    lock_tenant(tx, tenant_id)
    for window, limit_micros in limits.items():
        _PUT_BUDGET.run(tx, {"tenant_id": tenant_id, "window": window.value, "limit_micros": limit_micros})


def drop_budgets(tx: Tx, tenant_id: str, windows: Iterable[BudgetWindow]) -> None:
    """Lift the budgets named. Locks the tenant."""
    lock_tenant(tx, tenant_id)
    for window in windows:
        tx.execute(_DROP_BUDGET, {"tenant_id": tenant_id, "window": window.value})


def get_budgets(tx: Tx, tenant_id: str) -> dict[BudgetWindow, int]:
    """Limits by window; one without a budget is absent."""
    rows = tx.execute(_BUDGETS, {"tenant_id": tenant_id})
    return {BudgetWindow(row.window): row.limit_micros for row in rows}


def get_balances(tx: Tx, tenant_id: str, periods: Periods) -> dict[str, Balance]:
    """Balances by period name; a period without entries is absent."""
    rows = tx.execute(_BALANCES, {"tenant_id": tenant_id, "periods": list(periods.all())})
    return {row.period: Balance(row.held_micros, row.spent_micros) for row in rows}


def _values(entry: Entry) -> dict[str, str | int | None]:
    return {
        "tenant_id": entry.tenant_id,
        "key_id": entry.key_id,
        "task_id": entry.task_id,
        "kind": entry.kind.value,
        "held_micros": entry.held_micros,
        "spent_micros": entry.spent_micros,
        "day": entry.periods.day,
        "month": entry.periods.month,
        "at_ms": entry.at_ms,
        "actor": entry.actor,
        "reason": entry.reason,
    }


def _entry(row: sa.Row[tuple[object, ...]]) -> Entry:
    return Entry(
        tenant_id=row.tenant_id,
        key_id=row.key_id,
        task_id=row.task_id,
        kind=EntryKind(row.kind),
        held_micros=row.held_micros,
        spent_micros=row.spent_micros,
        periods=Periods(row.day, row.month),
        at_ms=row.at_ms,
        actor=row.actor,
        reason=row.reason,
    )
