"""Everything about money, added up again from rows and held to what is kept. Micro-dollars throughout."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import attempts, balances, ledger, outputs, tasks
from gateway.errors import AttemptFault
from gateway.model import EntryKind, TaskState

_Statement = sa.Select[str, int, int] | sa.CompoundSelect[str, int, int]

_OPEN = (TaskState.QUEUED.value, TaskState.RUNNING.value)
# The provider made nothing.
_FREE = (
    AttemptFault.REFUSED,
    AttemptFault.RECITATION,
    AttemptFault.BUSY,
    AttemptFault.NOT_SENT,
    AttemptFault.MISCONFIGURED,
)
_ENDINGS = (EntryKind.SETTLE.value, EntryKind.RELEASE.value)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that does not add up: what, of which row, what is kept and what the rows give."""

    what: str
    which: str
    kept: int
    counted: int


def find_differences(tx: Tx) -> tuple[Difference, ...]:
    """Every difference there is; nothing is the right answer."""
    statements = {**_of_balances(), **_of_tasks(), **_of_entries(), **_of_attempts()}
    return tuple(
        Difference(what, row.which, row.kept, row.counted)
        for what, statement in statements.items()
        for row in tx.execute(statement)
    )


def _of_balances() -> dict[str, _Statement]:
    """Balances are the sums of their periods' entries. One without entries must be nothing."""
    sums = sa.union_all(*_period_sums()).subquery("sums")
    same = sa.and_(balances.c.tenant_id == sums.c.tenant_id, balances.c.period == sums.c.period)

    def differing(kept: sa.Column[int], counted: sa.ColumnElement[int]) -> _Statement:
        summed = sa.func.coalesce(counted, 0)
        return sa.union_all(
            sa.select(_place(balances), kept.label("kept"), summed.label("counted"))
            .outerjoin(sums, same)
            .where(kept != summed),
            sa.select(_place(sums), sa.literal_column("0").label("kept"), counted.label("counted"))
            .select_from(sums)
            .outerjoin(balances, same)
            .where(balances.c.tenant_id.is_(None), counted != 0),
        )

    return {
        "held balance": differing(balances.c.held_micros, sums.c.held),
        "spent balance": differing(balances.c.spent_micros, sums.c.spent),
    }


def _period_sums() -> Iterator[sa.Select[str, str, int, int]]:
    total: sa.ColumnElement[str] = sa.literal_column("'total'")
    for period in (ledger.c.day, ledger.c.month, total):
        sums = sa.select(
            ledger.c.tenant_id,
            period.label("period"),
            _sum(ledger.c.held_micros).label("held"),
            _sum(ledger.c.spent_micros).label("spent"),
        ).group_by(ledger.c.tenant_id)
        yield sums if period is total else sums.group_by(period)


def _sum(value: sa.ColumnElement[int] | int) -> sa.ColumnElement[int]:
    """As a whole number: PostgreSQL's sums are decimals, however whole what they are of."""
    return sa.cast(sa.func.sum(value), sa.BigInteger)


def _place(source: sa.FromClause) -> sa.Label[str]:
    return source.c.tenant_id.concat(" ").concat(source.c.period).label("which")


def _of_tasks() -> dict[str, _Statement]:
    """A task has one hold, of its price, one ending if it has ended, and the charge for what it delivered.

    One that was canceled was charged as its row says: nothing, its price, or again what it delivered.
    """
    is_open = tasks.c.state.in_(_OPEN)
    clips = (
        sa.select(sa.func.count()).where(outputs.c.task_id == tasks.c.id).correlate(tasks).scalar_subquery()
    )
    canceled = tasks.c.state == TaskState.CANCELED.value
    charged = sa.func.coalesce(tasks.c.charged_micros, 0)
    owed = sa.case(
        (sa.and_(canceled, charged.in_([0, tasks.c.price_micros])), charged),
        (
            sa.or_(canceled, tasks.c.state == TaskState.SUCCEEDED.value),
            tasks.c.price_micros // tasks.c.sample_count * clips,
        ),
        else_=0,
    )
    return {
        "holds of a task": _differing(_sum_of(1, EntryKind.HOLD.value), sa.literal(1)),
        "hold": _differing(_sum_of(ledger.c.held_micros, EntryKind.HOLD.value), tasks.c.price_micros),
        "endings of a task": _differing(_sum_of(1, *_ENDINGS), sa.case((is_open, 0), else_=1)),
        "held for a task": _differing(
            _sum_of(ledger.c.held_micros), sa.case((is_open, tasks.c.price_micros), else_=0)
        ),
        "charged for a task": _differing(_sum_of(ledger.c.spent_micros), owed),
        # None where an older version ended the task.
        "charge kept with a task": _differing(tasks.c.charged_micros, _sum_of(ledger.c.spent_micros)),
    }


def _sum_of(value: sa.ColumnElement[int] | int, *kinds: str) -> sa.ColumnElement[int]:
    """Over a task's entries, of these kinds only if any are named."""
    of_kinds = (ledger.c.kind.in_(kinds),) if kinds else ()
    summed = sa.select(sa.func.coalesce(_sum(value), 0))
    return summed.where(ledger.c.task_id == tasks.c.id, *of_kinds).correlate(tasks).scalar_subquery()


def _differing(kept: sa.ColumnElement[int], counted: sa.ColumnElement[int]) -> _Statement:
    return sa.select(tasks.c.id.label("which"), kept.label("kept"), counted.label("counted")).where(
        kept != counted
    )


def _of_entries() -> dict[str, _Statement]:
    """An entry belongs to its task's tenant and key, and counts towards the periods of the task's hold."""
    which: sa.Label[str] = sa.literal("entry ").concat(sa.cast(ledger.c.id, sa.Text)).label("which")
    kept: sa.Label[int] = sa.literal_column("1").label("kept")
    counted: sa.Label[int] = sa.literal_column("0").label("counted")
    hold = ledger.alias("hold")
    return {
        "entry without its task": sa.select(which, kept, counted)
        .outerjoin(tasks, tasks.c.id == ledger.c.task_id)
        .where(ledger.c.task_id.is_not(None), tasks.c.id.is_(None)),
        "entry of another tenant or key": sa.select(which, kept, counted)
        .join(tasks, tasks.c.id == ledger.c.task_id)
        .where((tasks.c.tenant_id != ledger.c.tenant_id) | tasks.c.key_id.is_distinct_from(ledger.c.key_id)),
        "entry in other periods than its hold": sa.select(which, kept, counted)
        .join(hold, (hold.c.task_id == ledger.c.task_id) & (hold.c.kind == EntryKind.HOLD.value))
        .where((hold.c.day != ledger.c.day) | (hold.c.month != ledger.c.month)),
    }


def _of_attempts() -> dict[str, _Statement]:
    """A call costs nothing less than nothing, and nothing where the provider refused and gave no clip."""
    refused = sa.and_(
        attempts.c.fault.in_([fault.value for fault in _FREE]),
        attempts.c.clips_delivered == 0,
        attempts.c.cost_micros != 0,
    )
    return {
        "cost of a call": sa.select(
            sa.literal("attempt ").concat(attempts.c.id).label("which"),
            attempts.c.cost_micros.label("kept"),
            sa.literal_column("0").label("counted"),
        ).where(sa.or_(attempts.c.cost_micros < 0, refused))
    }
