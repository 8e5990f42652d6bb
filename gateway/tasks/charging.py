"""What a task's life means in money: a hold at admission, then one settlement or one release.

What the end cost stands in the task's row as well, so that nobody has to know by which rule it was charged.
"""

from gateway.accounts.calendar import periods_at
from gateway.db import ledger, tasks
from gateway.db.engine import Tx
from gateway.model import Entry, EntryKind, Periods, Task, TaskState
from gateway.tasks.budget import charge_for

_ACTOR = "gateway"


def hold(tx: Tx, task: Task, periods: Periods) -> Entry:
    """Set the price aside, in the transaction that admits the task."""
    entry = Entry(
        tenant_id=task.tenant_id,
        key_id=task.key_id,
        task_id=task.id,
        kind=EntryKind.HOLD,
        held_micros=task.price_micros,
        spent_micros=0,
        periods=periods,
        at_ms=task.created_at_ms,
        actor=_ACTOR,
    )
    ledger.add_entry(tx, entry)
    return entry


def conclude(tx: Tx, task: Task, state: TaskState, *, delivered: int, now_ms: int) -> int:
    """Charge the clips delivered and let go of the rest, in the transaction that ends the task.

    Returns what was charged.
    """
    kind = EntryKind.SETTLE if state is TaskState.SUCCEEDED else EntryKind.RELEASE
    return _charge(tx, task, charge_for(task, state, delivered), kind, now_ms)


def conclude_canceled(tx: Tx, task: Task, charged_micros: int, *, now_ms: int) -> None:
    """Charge so much of the task's price and let go of the rest, in the transaction that cancels it."""
    kind = EntryKind.SETTLE if charged_micros else EntryKind.RELEASE
    _charge(tx, task, charged_micros, kind, now_ms)


def _charge(tx: Tx, task: Task, charged_micros: int, kind: EntryKind, now_ms: int) -> int:
    """The entry counts towards the periods of the hold. The database refuses to do it twice."""
    held = ledger.get_hold(tx, task.id)
    if held is None:
        # Accepted by an older gateway that ran on after the migration, which held in UTC what it found. A
        # task must not fail, after it was paid for, because of that.
        held = hold(tx, task, periods_at(task.created_at_ms, "UTC"))
    ledger.add_entry(
        tx,
        Entry(
            tenant_id=task.tenant_id,
            key_id=task.key_id,
            task_id=task.id,
            kind=kind,
            held_micros=-held.held_micros,
            spent_micros=charged_micros,
            periods=held.periods,
            at_ms=now_ms,
            actor=_ACTOR,
        ),
    )
    tasks.note_charge(tx, task.id, charged_micros)
    return charged_micros
