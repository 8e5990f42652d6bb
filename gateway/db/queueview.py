"""The queue as those in it see it: what waits, what runs, how long it takes, and the place of a task.

For looking, not for choosing: nothing is locked, and by the time it is read it may have changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.db.deployments import get_health, get_load
from gateway.db.engine import Tx
from gateway.db.lines import Lane
from gateway.db.prepared import Prepared
from gateway.db.queue_tables import queue_lines
from gateway.db.tables import attempts, in_state, tasks, tenants
from gateway.model import ModelKind, TaskState

# Ended tasks are looked for among so many of a deployment's last calls,
_CALLS_LOOKED_AT = 60
# and enough of them are so many.
_ENOUGH = 8

_now: sa.BindParameter[int] = sa.bindparam("now_ms", type_=sa.BigInteger)
_name: sa.BindParameter[str] = sa.bindparam("name")

_in_line = (
    tasks.c.tenant_id == queue_lines.c.tenant_id,
    tasks.c.model == queue_lines.c.model,
    tasks.c.test == queue_lines.c.test,
    in_state(TaskState.QUEUED),
)
_LINES = Prepared(
    sa.select(
        queue_lines.c.tenant_id,
        queue_lines.c.model,
        queue_lines.c.test,
        queue_lines.c.next_tag,
        queue_lines.c.since_ms,
        tenants.c.weight,
        tenants.c.max_concurrent,
        tenants.c.status,
        sa.select(sa.func.count())
        .select_from(tasks)
        .where(*_in_line)
        .correlate(queue_lines)
        .scalar_subquery()
        .label("waiting"),
        sa.select(sa.func.max(tasks.c.tenant_seq))
        .where(*_in_line)
        .correlate(queue_lines)
        .scalar_subquery()
        .label("last_seq"),
    )
    .join(tenants, tenants.c.id == queue_lines.c.tenant_id)
    .where(queue_lines.c.waiting)
)
_calls_s_time = sa.func.sum(sa.func.coalesce(attempts.c.finished_at_ms, _now) - attempts.c.started_at_ms)
_at_it = sa.select(_calls_s_time).where(attempts.c.task_id == tasks.c.id).correlate(tasks).scalar_subquery()
_RUNNING = Prepared(
    sa.select(
        tasks.c.tenant_id,
        tasks.c.model,
        tasks.c.test,
        sa.func.coalesce(_at_it, _now - tasks.c.started_at_ms).label("at_it_ms"),
    ).where(in_state(TaskState.RUNNING))
)
_OLDEST_OPEN = Prepared(
    sa.select(sa.func.min(attempts.c.started_at_ms).label("at_ms")).where(
        attempts.c.deployment == _name, attempts.c.state == sa.literal_column("'started'")
    )
)
_last_calls = (
    sa.select(attempts.c.task_id)
    .where(
        attempts.c.deployment == _name,
        attempts.c.started_at_ms < sa.bindparam("before_ms", type_=sa.BigInteger),
        attempts.c.state != sa.literal_column("'started'"),
    )
    .order_by(attempts.c.started_at_ms.desc())
    .limit(_CALLS_LOOKED_AT)
    .subquery("last_calls")
)
_ENDED = Prepared(
    sa.select(tasks.c.model, tasks.c.test, _at_it.label("took_ms")).where(
        tasks.c.id.in_(sa.select(_last_calls.c.task_id)), tasks.c.finished_at_ms.is_not(None)
    )
)

_SEQ = Prepared(
    sa.select(tasks.c.tenant_seq).where(tasks.c.id == sa.bindparam("task_id"), in_state(TaskState.QUEUED))
)
# Those asked for, each with the one before it in its line: so each task that waits is counted once, however
# many of its line are asked for together.
_asked = (
    sa.select(
        tasks.c.id,
        tasks.c.tenant_id,
        tasks.c.model,
        tasks.c.test,
        tasks.c.tenant_seq,
        sa.func.lag(tasks.c.tenant_seq, 1, 0)
        .over(partition_by=(tasks.c.tenant_id, tasks.c.model, tasks.c.test), order_by=tasks.c.tenant_seq)
        .label("after_seq"),
    )
    .where(tasks.c.id.in_(sa.bindparam("ids", expanding=True)), in_state(TaskState.QUEUED))
    .subquery("asked")
)
_between = tasks.alias("between")
_PLACES = (
    sa.select(
        _asked.c.id,
        _asked.c.tenant_id,
        _asked.c.model,
        _asked.c.test,
        _asked.c.tenant_seq.label("last_seq"),
        queue_lines.c.next_tag,
        queue_lines.c.since_ms,
        tenants.c.weight,
        tenants.c.max_concurrent,
        tenants.c.status,
        sa.select(sa.func.count())
        .select_from(_between)
        .where(
            _between.c.tenant_id == _asked.c.tenant_id,
            _between.c.model == _asked.c.model,
            _between.c.test == _asked.c.test,
            _between.c.state == sa.literal_column("'queued'"),
            _between.c.tenant_seq > _asked.c.after_seq,
            _between.c.tenant_seq <= _asked.c.tenant_seq,
        )
        .correlate(_asked)
        .scalar_subquery()
        .label("passed"),
    )
    .join(tenants, tenants.c.id == _asked.c.tenant_id)
    .join(
        queue_lines,
        (queue_lines.c.tenant_id == _asked.c.tenant_id)
        & (queue_lines.c.model == _asked.c.model)
        & (queue_lines.c.test == _asked.c.test),
    )
    .order_by(_asked.c.tenant_id, _asked.c.model, _asked.c.test, _asked.c.tenant_seq)
)


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """What a tenant has waiting in one lane, up to its task ``last_seq``.

    ``active`` unless the tenant is suspended.
    """

    tenant_id: str
    lane: Lane
    waiting: int
    last_seq: int
    next_tag: int
    since_ms: int
    weight: int
    max_concurrent: int | None
    active: bool


@dataclass(frozen=True, slots=True)
class RunningTask:
    """``at_it_ms`` is how long its calls have taken so far."""

    tenant_id: str
    lane: Lane
    at_it_ms: int


@dataclass(frozen=True, slots=True)
class DeploymentUse:
    """Nothing is asked of it before ``opens_at_ms``; ``called`` counts its calls of the last minute."""

    opens_at_ms: int
    called: int


@dataclass(frozen=True, slots=True)
class QueueState:
    """All lanes at one moment. ``took_ms`` is how long the calls of each task took that ended lately."""

    at_ms: int
    lines: tuple[WaitingLine, ...]
    running: tuple[RunningTask, ...]
    took_ms: dict[Lane, tuple[int, ...]]
    uses: dict[str, DeploymentUse]


@dataclass(frozen=True, slots=True)
class LinePlace:
    """A queued task's place in its line, 1 being the first; the line counts what waits up to the task."""

    number: int
    line: WaitingLine


def read_queue(tx: Tx, *, names: Sequence[str], paced: Sequence[str], now_ms: int) -> QueueState:
    """Read all that waits and runs, along partial indexes, and the last calls to the deployments ``names``.

    ``paced`` are those whose calls of the last minute are to be counted.
    """
    lines = [_line(row, row.waiting) for row in _LINES.all(tx, {}) if row.waiting]
    running = [
        RunningTask(row.tenant_id, _lane(row), max(0, int(row.at_it_ms)))
        for row in _RUNNING.all(tx, {"now_ms": now_ms})
    ]
    took_ms: dict[Lane, list[int]] = defaultdict(list)
    for row in (row for name in names for row in _ended(tx, name, now_ms)):
        took_ms[_lane(row)].append(max(0, int(row.took_ms)))
    return QueueState(
        now_ms,
        tuple(lines),
        tuple(running),
        {lane: tuple(found) for lane, found in took_ms.items()},
        {name: _use(tx, name, now_ms, paced=name in paced) for name in names},
    )


def _ended(tx: Tx, name: str, now_ms: int) -> list[Any]:
    """Tasks that a deployment made lately.

    Of those that began after the oldest of what runs, only the short ones have ended: they are taken only
    where there are not enough others.
    """
    values = {"name": name, "now_ms": now_ms}
    oldest = _OLDEST_OPEN.one_or_none(tx, values)
    before = _ENDED.all(tx, {**values, "before_ms": now_ms if oldest.at_ms is None else oldest.at_ms})
    return before if len(before) >= _ENOUGH else _ENDED.all(tx, {**values, "before_ms": now_ms})


def _use(tx: Tx, name: str, now_ms: int, *, paced: bool) -> DeploymentUse:
    health = get_health(tx, name)
    called = get_load(tx, name, now_ms=now_ms).recent_count if paced else 0
    return DeploymentUse(max(health.cooling_until_ms, health.broken_until_ms or 0), called)


def find_seqs(tx: Tx, ids: Iterable[str]) -> dict[str, int]:
    """The tenants' own numbers of tasks, by id; those that are not queued are absent."""
    found = ((task_id, _SEQ.one_or_none(tx, {"task_id": task_id})) for task_id in ids)
    return {task_id: int(row.tenant_seq) for task_id, row in found if row is not None}


def find_places(tx: Tx, ids: Iterable[str]) -> dict[str, LinePlace]:
    """The places of tasks in their lines, by id; those that are not queued are absent."""
    found: dict[str, LinePlace] = {}
    line, number = None, 0
    for row in tx.execute(_PLACES, {"ids": list(ids)}):
        if line != (line := (row.tenant_id, row.model, row.test)):
            number = 0
        number += row.passed
        found[row.id] = LinePlace(number, _line(row, number))
    return found


def _line(row: Any, waiting: int) -> WaitingLine:
    return WaitingLine(
        tenant_id=row.tenant_id,
        lane=_lane(row),
        waiting=waiting,
        last_seq=row.last_seq,
        next_tag=row.next_tag,
        since_ms=row.since_ms,
        weight=row.weight,
        max_concurrent=row.max_concurrent,
        active=row.status == "active",
    )


def _lane(row: Any) -> Lane:
    return Lane(ModelKind(row.model), bool(row.test))
