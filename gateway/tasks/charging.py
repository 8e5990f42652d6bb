"""What a task's life means in money: a hold at admission, then one settlement or one release."""

from gateway.accounts.calendar import periods_at
from gateway.db import ledger
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

    Returns what was charged. Each entry counts towards the periods of the hold. The database refuses to do
    it twice.
    """
    held = ledger.get_hold(tx, task.id)
    if held is None:
        # Accepted by an older gateway that ran on after the migration, which held in UTC what it found. A
        # task must not fail, after it was paid for, because of that.
        held = hold(tx, task, periods_at(task.created_at_ms, "UTC"))
    charged_micros = charge_for(task, state, delivered)
    ledger.add_entry(
        tx,
        Entry(
            tenant_id=task.tenant_id,
            key_id=task.key_id,
            task_id=task.id,
            kind=EntryKind.SETTLE if state is TaskState.SUCCEEDED else EntryKind.RELEASE,
            held_micros=-held.held_micros,
            spent_micros=charged_micros,
            periods=held.periods,
            at_ms=now_ms,
            actor=_ACTOR,
        ),
    )
    return charged_micros
