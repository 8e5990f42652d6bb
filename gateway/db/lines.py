"""The lines in which tasks wait: who could be served next. `gateway.tasks.fairshare` puts them in order.

A line is what one tenant has waiting for one model, with live keys or with test keys. Triggers keep the lines
(migration 0004), so whatever queues or starts a task keeps them right.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.prepared import Prepared
from gateway.db.queue_tables import queue_lines
from gateway.db.tables import in_state, tasks, tenants
from gateway.families.registry import KINDS
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
# As text, so that SQLite sees that it is the condition of ix_queue_lines_waiting.
_waits = sa.text("queue_lines.waiting")


def _lines(running_count: sa.ColumnElement[int], source: sa.FromClause) -> sa.Select[Any]:
    return (
        sa.select(
            queue_lines.c.tenant_id,
            tenants.c.weight,
            (tenants.c.status == "active").label("active"),
            running_count.label("running"),
            queue_lines.c.next_tag,
            queue_lines.c.since_ms,
        )
        .select_from(source.join(tenants, tenants.c.id == queue_lines.c.tenant_id))
        .where(_waits, queue_lines.c.model == _model, queue_lines.c.test == _test)
    )


# Of tenants that run nothing, a page in the order of the index, however many there are.
_IDLE = Prepared(
    _lines(sa.literal_column("0"), queue_lines)
    .where(queue_lines.c.tenant_id.not_in(sa.select(running.c.tenant_id)))
    .order_by(queue_lines.c.next_tag, queue_lines.c.since_ms, queue_lines.c.tenant_id)
    .limit(sa.bindparam("page_size", type_=sa.Integer))
    .offset(sa.bindparam("skipped", type_=sa.Integer))
)
# Those that run something are few: no more than there are tasks running.
_BUSY = Prepared(
    _lines(
        running.c.running, running.join(queue_lines, queue_lines.c.tenant_id == running.c.tenant_id)
    ).where(sa.or_(tenants.c.max_concurrent.is_(None), running.c.running < tenants.c.max_concurrent))
)
# A suspended tenant starts nothing new; what was running before may go on. What was to start by now and did
# not is for the sweeper to end.
_may_start = sa.and_(
    sa.bindparam("active", type_=sa.Boolean),
    sa.or_(tasks.c.start_by_at_ms.is_(None), tasks.c.start_by_at_ms > _now),
)
_FIRST = Prepared(
    sa.select(tasks.c.id)
    .where(
        tasks.c.tenant_id == sa.bindparam("tenant_id", type_=sa.Text),
        tasks.c.model == _model,
        tasks.c.test == _test,
        in_state(TaskState.QUEUED),
        tasks.c.not_before_ms <= _now,
        sa.or_(tasks.c.started_at_ms.is_not(None), _may_start),
    )
    .order_by(tasks.c.tenant_seq)
    .limit(1)
)
_PAGE_SIZE = 8


@dataclass(frozen=True, slots=True)
class Lane:
    """What tasks share a supply: a model, with live keys or with test keys."""

    model: ModelKind
    test: bool


@dataclass(frozen=True, slots=True)
class Line:
    """What a tenant has waiting in a lane: its share, what it runs in all, and its place in virtual time.

    ``since_ms`` is when its first task was asked for. A tenant that is not ``active`` starts nothing new.
    """

    lane: Lane
    tenant_id: str
    weight: int
    active: bool
    running: int
    tag: int
    since_ms: int


_LANES = tuple(Lane(model, test) for model in KINDS for test in (False, True))


def _first_of(lane: Lane) -> sa.ScalarSelect[Any]:
    line = queue_lines.alias("line")
    model: sa.ColumnElement[str] = sa.literal_column(f"'{lane.model}'")
    test: sa.ColumnElement[bool] = sa.literal_column(str(lane.test).lower())
    # In order and limited, as EXISTS would go through all lines of the other lanes.
    return (
        sa.select(sa.literal_column("1"))
        .select_from(line)
        .where(sa.text("line.waiting"), line.c.model == model, line.c.test == test)
        .order_by(line.c.model, line.c.test, line.c.next_tag)
        .limit(1)
        .scalar_subquery()
    )


_waiting: Any = sa.select(*(_first_of(lane).label(f"lane_{number}") for number, lane in enumerate(_LANES)))
_WAITING = Prepared(_waiting)
# A probe of ix_tasks_line for each line, since a line may say that it waits a little longer than it does.
_since = (
    sa.select(tasks.c.created_at_ms)
    .where(
        tasks.c.tenant_id == queue_lines.c.tenant_id,
        tasks.c.model == queue_lines.c.model,
        tasks.c.test == queue_lines.c.test,
        in_state(TaskState.QUEUED),
    )
    .order_by(tasks.c.tenant_seq)
    .limit(1)
    .correlate(queue_lines)
    .scalar_subquery()
    .label("since_ms")
)
_fronts = (
    sa.select(queue_lines.c.model, queue_lines.c.test, _since)
    .join(tenants, tenants.c.id == queue_lines.c.tenant_id)
    .where(_waits, tenants.c.status == "active")
    .subquery("fronts")
)
_OLDEST = Prepared(
    sa.select(_fronts.c.model, _fronts.c.test, sa.func.min(_fronts.c.since_ms).label("since_ms"))
    .where(_fronts.c.since_ms.is_not(None))
    .group_by(_fronts.c.model, _fronts.c.test)
)
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


def lines_of(tx: Tx, lane: Lane) -> Iterator[Line]:
    """The lines of a lane, those whose tenants run as many as they may left out.

    First those whose tenants run nothing, in the order of their tags, read as far as they are asked for; then
    the others, in any. Whoever is to claim from one has locked all claims before.
    """
    values: dict[str, Any] = {"model": lane.model, "test": lane.test}
    for skipped in itertools.count(0, _PAGE_SIZE):
        page = _IDLE.all(tx, {**values, "page_size": _PAGE_SIZE, "skipped": skipped})
        yield from (_line_from(lane, row) for row in page)
        if len(page) < _PAGE_SIZE:
            break
    yield from (_line_from(lane, row) for row in _BUSY.all(tx, values))


def _line_from(lane: Lane, row: Any) -> Line:
    return Line(lane, row.tenant_id, row.weight, bool(row.active), row.running, row.next_tag, row.since_ms)


def find_first(tx: Tx, line: Line, *, now_ms: int) -> str | None:
    """The task of a line that is to be started next; None while none of them may."""
    row = _FIRST.one_or_none(
        tx,
        {
            "tenant_id": line.tenant_id,
            "model": line.lane.model,
            "test": line.lane.test,
            "active": line.active,
            "now_ms": now_ms,
        },
    )
    return None if row is None else str(row.id)


def find_oldest(tx: Tx) -> dict[Lane, int]:
    """When the oldest task that waits in each lane was asked for, tenants that are suspended left out."""
    return {Lane(row.model, bool(row.test)): row.since_ms for row in _OLDEST.all(tx, {})}


def find_overdue(tx: Tx, *, now_ms: int) -> str | None:
    """A task that ran, waits to be run again, and whose time is over."""
    row = _OVERDUE.one_or_none(tx, {"now_ms": now_ms})
    return None if row is None else str(row.id)
