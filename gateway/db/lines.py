"""The lines in which tasks wait: who could be served next. `gateway.tasks.fairshare` chooses among them.

A line is what one tenant has waiting for one model, with live keys or with test keys. Triggers keep the lines
(migration 0004), so whatever queues or starts a task keeps them right.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.prepared import Prepared
from gateway.db.queue_tables import queue_lines
from gateway.db.tables import in_state, tasks, tenants
from gateway.model import ModelKind, TaskState

#: How far a start takes a line of weight 1; migration 0004 says the same to the database.
TAG_STEP = 1_000_000

_now = sa.bindparam("now_ms", type_=sa.BigInteger)
_model = sa.bindparam("model", type_=sa.Text)
_test = sa.bindparam("test", type_=sa.Boolean)

# One look along ix_tasks_running for all tenants. Asked for each tenant by itself, SQLite would rather take
# an index on its tenant and go through all that the tenant ever sent.
running = (
    sa.select(tasks.c.tenant_id, sa.func.count().label("running"))
    .where(in_state(TaskState.RUNNING))
    .group_by(tasks.c.tenant_id)
    .cte("running")
)
# A suspended tenant starts nothing new; what was running before may go on. What was to start by now and did
# not is for the sweeper to end.
_may_run = sa.or_(
    sa.and_(
        tenants.c.status == "active",
        sa.or_(tasks.c.start_by_at_ms.is_(None), tasks.c.start_by_at_ms > _now),
    ),
    tasks.c.started_at_ms.is_not(None),
)
_ready = (
    sa.select(tasks.c.id)
    .where(
        tasks.c.tenant_id == queue_lines.c.tenant_id,
        tasks.c.model == queue_lines.c.model,
        tasks.c.test == queue_lines.c.test,
        in_state(TaskState.QUEUED),
        tasks.c.not_before_ms <= _now,
        _may_run,
    )
    .order_by(tasks.c.tenant_seq)
    .limit(1)
    .correlate(queue_lines, tenants)
)
# As text, so that SQLite sees that it is the condition of ix_queue_lines_waiting.
_waits = sa.text("queue_lines.waiting")
_of_lane = (_waits, queue_lines.c.model == _model, queue_lines.c.test == _test)


def _candidates(running_count: sa.ColumnElement[int]) -> sa.Select[Any]:
    return sa.select(
        queue_lines.c.tenant_id,
        tenants.c.weight,
        running_count.label("running"),
        queue_lines.c.next_tag,
        queue_lines.c.since_ms,
        _ready.scalar_subquery().label("task_id"),
    ).where(*_of_lane, _ready.exists())


# Of the tenants that run nothing, the first in the line is all that can be chosen, however many wait.
_FIRST_IDLE = Prepared(
    _candidates(sa.literal_column("0"))
    .join(tenants, tenants.c.id == queue_lines.c.tenant_id)
    .where(queue_lines.c.tenant_id.not_in(sa.select(running.c.tenant_id)))
    .order_by(queue_lines.c.next_tag, queue_lines.c.since_ms)
    .limit(1)
)
# Those that run something are few: no more than there are tasks running.
_BUSY = Prepared(
    _candidates(running.c.running)
    .select_from(running)
    .join(queue_lines, queue_lines.c.tenant_id == running.c.tenant_id)
    .join(tenants, tenants.c.id == running.c.tenant_id)
    .where(sa.or_(tenants.c.max_concurrent.is_(None), running.c.running < tenants.c.max_concurrent))
)


@dataclass(frozen=True, slots=True)
class Lane:
    """What tasks share a supply: a model, with live keys or with test keys."""

    model: ModelKind
    test: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line that may be served: its tenant's share and what it runs, and the task that would be started.

    ``tag`` is the line's place in virtual time; ``since_ms`` is when its first task was asked for.
    """

    tenant_id: str
    weight: int
    running: int
    tag: int
    since_ms: int
    task_id: str


_LANES = tuple(Lane(model, test) for model in ModelKind for test in (False, True))


def _waiting_in(lane: Lane) -> sa.Exists:
    line = queue_lines.alias("line")
    model: sa.ColumnElement[str] = sa.literal_column(f"'{lane.model.value}'")
    test: sa.ColumnElement[bool] = sa.literal_column(str(lane.test).lower())
    return sa.exists(sa.literal_column("1")).where(
        sa.text("line.waiting"), line.c.model == model, line.c.test == test
    )


_waiting: Any = sa.select(*(_waiting_in(lane).label(f"lane_{number}") for number, lane in enumerate(_LANES)))
_WAITING = Prepared(_waiting)
# It ran, and came back into the queue, and its time is over: whoever takes it ends it.
_OVERDUE = Prepared(
    sa.select(tasks.c.id)
    .where(in_state(TaskState.QUEUED), tasks.c.deadline_at_ms <= _now, tasks.c.started_at_ms.is_not(None))
    .order_by(tasks.c.deadline_at_ms)
    .limit(1)
)


def list_lanes(tx: Tx) -> tuple[Lane, ...]:
    """The lanes in which anything waits, ready or not."""
    (row,) = _WAITING.all(tx, {})
    return tuple(lane for lane, waits in zip(_LANES, row, strict=True) if waits)


def list_candidates(tx: Tx, lane: Lane, *, now_ms: int) -> tuple[Candidate, ...]:
    """All lines of a lane that could be next by `gateway.tasks.fairshare.choose`, and no others.

    Whoever is to claim one has locked all claims before.
    """
    values = {"model": lane.model.value, "test": lane.test, "now_ms": now_ms}
    rows = [*_FIRST_IDLE.all(tx, values), *_BUSY.all(tx, values)]
    return tuple(Candidate(r.tenant_id, r.weight, r.running, r.next_tag, r.since_ms, r.task_id) for r in rows)


def find_overdue(tx: Tx, *, now_ms: int) -> str | None:
    """A task that ran, waits to be run again, and whose time is over."""
    row = _OVERDUE.one_or_none(tx, {"now_ms": now_ms})
    return None if row is None else str(row.id)
