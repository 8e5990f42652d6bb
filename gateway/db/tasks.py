"""Tasks as rows: admitting, reading and listing them. Claiming and finishing are in `gateway.db.work`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson
import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import outputs, task_events, tasks
from gateway.model import Clip, ModelKind, MusicSpec, Route, Task, TaskError, TaskState

_since: sa.BindParameter[int] = sa.bindparam("since_ms")
_key_id: sa.BindParameter[str] = sa.bindparam("key_id")
_tenant_id: sa.BindParameter[str] = sa.bindparam("tenant_id")


def _newest(count: sa.Column[int], owner: sa.Column[str], owner_id: sa.BindParameter[str]) -> sa.Select[int]:
    return sa.select(count).where(owner == owner_id).order_by(count.desc()).limit(1)


def _oldest_inside(
    count: sa.Column[int], owner: sa.Column[str], owner_id: sa.BindParameter[str]
) -> sa.Select[int]:
    inside = sa.select(count).where(owner == owner_id, tasks.c.created_at_ms > _since)
    return inside.order_by(tasks.c.created_at_ms, count).limit(1)


_WINDOWS = sa.select(
    _newest(tasks.c.key_seq, tasks.c.key_id, _key_id).scalar_subquery().label("key_newest"),
    _oldest_inside(tasks.c.key_seq, tasks.c.key_id, _key_id).scalar_subquery().label("key_oldest"),
    sa.select(sa.func.min(tasks.c.created_at_ms))
    .where(tasks.c.key_id == _key_id, tasks.c.created_at_ms > _since)
    .scalar_subquery()
    .label("key_oldest_at_ms"),
    _newest(tasks.c.tenant_seq, tasks.c.tenant_id, _tenant_id).scalar_subquery().label("tenant_newest"),
    _oldest_inside(tasks.c.tenant_seq, tasks.c.tenant_id, _tenant_id)
    .scalar_subquery()
    .label("tenant_oldest"),
    sa.select(sa.func.max(tasks.c.created_at_ms))
    .where(tasks.c.tenant_id == _tenant_id)
    .scalar_subquery()
    .label("last_created_at_ms"),
    sa.select(sa.func.count())
    .select_from(
        sa.select(tasks.c.id)
        .where(tasks.c.tenant_id == _tenant_id, tasks.c.state == "queued")
        .limit(sa.bindparam("queue_limit"))
        .subquery()
    )
    .scalar_subquery()
    .label("queued"),
)
_KEY_CREATED_AT = sa.select(tasks.c.created_at_ms).where(
    tasks.c.key_id == _key_id, tasks.c.key_seq == sa.bindparam("seq")
)
_TENANT_CREATED_AT = sa.select(tasks.c.created_at_ms).where(
    tasks.c.tenant_id == _tenant_id, tasks.c.tenant_seq == sa.bindparam("seq")
)
_INSERT = sa.insert(tasks)
_INSERT_EVENT = sa.insert(task_events)
_BY_ID = sa.select(tasks).where(tasks.c.id.in_(sa.bindparam("ids", expanding=True)))
_CLIPS = (
    sa.select(outputs)
    .where(outputs.c.task_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(outputs.c.task_id, outputs.c.clip_index)
)


@dataclass(frozen=True, slots=True)
class Windows:
    """What admission needs to know of a key and its tenant. Sequence numbers are 0 when there is none."""

    key_newest: int
    key_count: int
    key_oldest_at_ms: int | None
    tenant_newest: int
    tenant_count: int
    last_created_at_ms: int
    queued: int


def read_windows(tx: Tx, *, key_id: str, tenant_id: str, since_ms: int, queue_limit: int) -> Windows:
    """Count what was made after ``since_ms``, by sequence numbers; ``queued`` stops at the limit."""
    row = tx.execute(
        _WINDOWS,
        {
            "key_id": key_id,
            "tenant_id": tenant_id,
            "since_ms": since_ms,
            "queue_limit": queue_limit,
        },
    ).one()
    return Windows(
        key_newest=row.key_newest or 0,
        key_count=row.key_newest - row.key_oldest + 1 if row.key_oldest is not None else 0,
        key_oldest_at_ms=row.key_oldest_at_ms,
        tenant_newest=row.tenant_newest or 0,
        tenant_count=row.tenant_newest - row.tenant_oldest + 1 if row.tenant_oldest is not None else 0,
        last_created_at_ms=row.last_created_at_ms or 0,
        queued=row.queued,
    )


def key_task_created_at(tx: Tx, *, key_id: str, seq: int) -> int | None:
    return tx.execute(_KEY_CREATED_AT, {"key_id": key_id, "seq": seq}).scalar_one_or_none()


def tenant_task_created_at(tx: Tx, *, tenant_id: str, seq: int) -> int | None:
    return tx.execute(_TENANT_CREATED_AT, {"tenant_id": tenant_id, "seq": seq}).scalar_one_or_none()


def insert_task(tx: Tx, task: Task, *, key_seq: int, tenant_seq: int, deadline_at_ms: int) -> None:
    tx.execute(
        _INSERT,
        {
            "id": task.id,
            "tenant_id": task.tenant_id,
            "key_id": task.key_id,
            "key_seq": key_seq,
            "tenant_seq": tenant_seq,
            "route": task.route.value,
            "model": task.model.value,
            "state": task.state.value,
            "prompt": task.spec.prompt,
            "negative_prompt": task.spec.negative_prompt,
            "seed": task.spec.seed,
            "duration_s": task.spec.duration_s,
            "sample_count": task.spec.sample_count,
            "metadata": orjson.dumps(task.metadata).decode(),
            "price_micros": task.price_micros,
            "emulated": task.emulated,
            "request_id": task.request_id,
            "traceparent": task.traceparent,
            "created_at_ms": task.created_at_ms,
            "deadline_at_ms": deadline_at_ms,
            "not_before_ms": task.created_at_ms,
            "attempt_count": 0,
        },
    )


def add_event(
    tx: Tx, task_id: str, kind: str, *, at_ms: int, data: dict[str, str | int] | None = None
) -> None:
    """Append to the task's story. ``data`` holds small facts, never text that a caller chose."""
    tx.execute(
        _INSERT_EVENT,
        {"task_id": task_id, "kind": kind, "at_ms": at_ms, "data": orjson.dumps(data or {}).decode()},
    )


def get_tasks(tx: Tx, ids: Iterable[str]) -> dict[str, Task]:
    """Tasks with their clips, by id; unknown ids are absent."""
    ids = list(ids)
    clips: dict[str, list[Clip]] = {}
    rows = tx.execute(_BY_ID, {"ids": ids}).all()
    # A queued task has no clips yet: most polls stop here.
    started = [row.id for row in rows if row.started_at_ms is not None]
    if started:
        for row in tx.execute(_CLIPS, {"ids": started}):
            clips.setdefault(row.task_id, []).append(clip_from(row))
    return {row.id: task_from(row, clips.get(row.id, ())) for row in rows}


def clip_from(row: sa.Row[tuple[object, ...]]) -> Clip:
    return Clip(
        index=row.clip_index,
        object_name=row.object_name,
        mime_type=row.mime_type,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        duration_s=row.duration_s,
        sample_rate_hz=row.sample_rate_hz,
        channels=row.channels,
        seed=row.seed,
    )


def task_from(row: sa.Row[tuple[object, ...]], clips: Sequence[Clip] = ()) -> Task:
    return Task(
        id=row.id,
        tenant_id=row.tenant_id,
        key_id=row.key_id,
        route=Route(row.route),
        model=ModelKind(row.model),
        state=TaskState(row.state),
        spec=MusicSpec(
            prompt=row.prompt,
            sample_count=row.sample_count,
            negative_prompt=row.negative_prompt,
            seed=row.seed,
            duration_s=row.duration_s,
        ),
        metadata=orjson.loads(row.metadata),
        price_micros=row.price_micros,
        created_at_ms=row.created_at_ms,
        started_at_ms=row.started_at_ms,
        finished_at_ms=row.finished_at_ms,
        attempt_count=row.attempt_count,
        error=TaskError(row.error_code, row.error_detail) if row.error_code else None,
        emulated=row.emulated,
        request_id=row.request_id,
        traceparent=row.traceparent,
        clips=tuple(clips),
    )
