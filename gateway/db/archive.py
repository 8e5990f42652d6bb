"""Tasks as whoever runs the gateway looks at them: lists of everybody's, one's whole story, the queue."""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson
import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import attempts, in_state, task_events, tasks, tenants
from gateway.db.tasks import get_tasks
from gateway.model import ModelKind, Place, Task, TaskState

_ATTEMPTS = (
    sa.select(attempts).where(attempts.c.task_id == sa.bindparam("of_task")).order_by(attempts.c.number)
)
_EVENTS = (
    sa.select(task_events).where(task_events.c.task_id == sa.bindparam("of_task")).order_by(task_events.c.id)
)
_EVENTS_OF_MANY = (
    sa.select(task_events)
    .where(task_events.c.task_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(task_events.c.task_id, task_events.c.id)
)


def _per_tenant(state: TaskState, *columns: sa.ColumnElement[int]) -> sa.Subquery:
    """Along the partial index of this state: only what waits or runs is looked at."""
    counted = sa.select(tasks.c.tenant_id, sa.func.count().label("number"), *columns)
    return counted.where(in_state(state)).group_by(tasks.c.tenant_id).subquery(state.value)


_waiting = _per_tenant(TaskState.QUEUED, sa.func.min(tasks.c.created_at_ms).label("since_ms"))
_running = _per_tenant(TaskState.RUNNING)
_LINES = (
    sa.select(
        tenants.c.id,
        tenants.c.name,
        tenants.c.weight,
        tenants.c.max_concurrent,
        sa.func.coalesce(_waiting.c.number, 0).label("waiting"),
        sa.func.coalesce(_running.c.number, 0).label("running"),
        _waiting.c.since_ms,
    )
    .outerjoin(_waiting, _waiting.c.tenant_id == tenants.c.id)
    .outerjoin(_running, _running.c.tenant_id == tenants.c.id)
    .where(_waiting.c.number.is_not(None) | _running.c.number.is_not(None))
    .order_by(tenants.c.created_at_ms, tenants.c.id)
)


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list; None leaves a question open. Of a range the beginning counts, the end does not.

    ``text`` is part of a prompt, in any case, or the whole id.
    """

    tenant_id: str | None = None
    key_id: str | None = None
    state: TaskState | None = None
    model: ModelKind | None = None
    created_from_ms: int | None = None
    created_before_ms: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call to a model, as it was kept: ``state`` is started, succeeded, failed or unknown."""

    id: str
    number: int
    deployment: str
    state: str
    started_at_ms: int
    finished_at_ms: int | None
    clips_asked: int
    clips_delivered: int
    fault: str | None
    error_code: str | None
    upstream_status: int | None
    provider_metadata: str | None
    cost_micros: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a task, with small facts about it."""

    id: int
    kind: str
    at_ms: int
    data: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class QueueLine:
    """A tenant that has tasks waiting or running. ``since_ms``: when the oldest that waits was asked for."""

    tenant_id: str
    tenant_name: str
    weight: int
    max_concurrent: int | None
    waiting: int
    running: int
    since_ms: int | None


def list_tasks(tx: Tx, wanted: TaskFilter, *, before: Place | None, limit: int) -> tuple[Task, ...]:
    """The newest first; with ``before`` those made earlier than that place."""
    # Along an index either way: of one tenant or key by time, of all by id, which begins with the time.
    narrow = wanted.tenant_id is not None or wanted.key_id is not None
    columns = (tasks.c.created_at_ms, tasks.c.id) if narrow else (tasks.c.id,)
    statement = sa.select(tasks.c.id).where(*_conditions(wanted)).limit(limit)
    statement = statement.order_by(*(column.desc() for column in columns))
    if before is not None:
        start = (before.at_ms, before.id) if narrow else (before.id,)
        statement = statement.where(sa.tuple_(*columns) < sa.tuple_(*start))
    ids = tx.execute(statement).scalars().all()
    found = get_tasks(tx, ids)
    return tuple(found[task_id] for task_id in ids)


def _conditions(wanted: TaskFilter) -> list[sa.ColumnElement[bool]]:
    equal = {
        tasks.c.tenant_id: wanted.tenant_id,
        tasks.c.key_id: wanted.key_id,
        tasks.c.model: None if wanted.model is None else wanted.model,
    }
    conditions: list[sa.ColumnElement[bool]] = [tasks.c.deleted_at_ms.is_(None)]
    conditions += [column == value for column, value in equal.items() if value is not None]
    if wanted.state is not None:
        conditions.append(in_state(wanted.state))
    if wanted.text is not None:
        in_prompt = sa.func.lower(tasks.c.prompt).contains(wanted.text.lower(), autoescape=True)
        conditions.append(in_prompt | (tasks.c.id == wanted.text))
    if wanted.created_from_ms is not None:
        conditions.append(tasks.c.created_at_ms >= wanted.created_from_ms)
    if wanted.created_before_ms is not None:
        conditions.append(tasks.c.created_at_ms < wanted.created_before_ms)
    return conditions


def list_attempts(tx: Tx, task_id: str) -> tuple[Attempt, ...]:
    """Every call that was made for a task, in order."""
    return tuple(
        Attempt(
            id=row.id,
            number=row.number,
            deployment=row.deployment,
            state=row.state,
            started_at_ms=row.started_at_ms,
            finished_at_ms=row.finished_at_ms,
            clips_asked=row.clips_asked,
            clips_delivered=row.clips_delivered,
            fault=row.fault,
            error_code=row.error_code,
            upstream_status=row.upstream_status,
            provider_metadata=row.provider_metadata,
            cost_micros=row.cost_micros,
        )
        for row in tx.execute(_ATTEMPTS, {"of_task": task_id})
    )


def list_events(tx: Tx, task_id: str) -> tuple[Event, ...]:
    """The story of a task, in order."""
    return tuple(map(_event_from, tx.execute(_EVENTS, {"of_task": task_id})))


def list_events_of(tx: Tx, ids: Iterable[str]) -> dict[str, list[Event]]:
    """The stories of several tasks, each in order; without one, a task is absent."""
    found: dict[str, list[Event]] = {}
    for row in tx.execute(_EVENTS_OF_MANY, {"ids": list(ids)}):
        found.setdefault(row.task_id, []).append(_event_from(row))
    return found


def _event_from(row: sa.Row[tuple[object, ...]]) -> Event:
    return Event(row.id, row.kind, row.at_ms, orjson.loads(row.data))


def list_lines(tx: Tx) -> tuple[QueueLine, ...]:
    """Every tenant that has tasks waiting or running."""
    return tuple(QueueLine(*row) for row in tx.execute(_LINES))
