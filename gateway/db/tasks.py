"""Tasks as rows: admitting, reading and listing them. Claiming and finishing are in `gateway.db.work`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson
import sqlalchemy as sa

from gateway.db.engine import Tx, touch
from gateway.db.prepared import Prepared
from gateway.db.tables import in_state, outputs, task_events, tasks
from gateway.model import AudioFormat, Clip, ModelKind, MusicSpec, Route, Task, TaskError, TaskState

_since: sa.BindParameter[int] = sa.bindparam("since_ms")
_key_id: sa.BindParameter[str] = sa.bindparam("key_id")
_tenant_id: sa.BindParameter[str] = sa.bindparam("tenant_id")


_key_rpm: sa.BindParameter[int] = sa.bindparam("key_rpm")
_tenant_rpm: sa.BindParameter[int] = sa.bindparam("tenant_rpm")


def _newest(count: sa.Column[int], owner: sa.Column[str], owner_id: sa.BindParameter[str]) -> sa.Select[int]:
    return sa.select(count).where(owner == owner_id).order_by(count.desc()).limit(1)


def _oldest_inside(
    count: sa.Column[int], owner: sa.Column[str], owner_id: sa.BindParameter[str]
) -> sa.Select[int]:
    inside = sa.select(count).where(owner == owner_id, tasks.c.created_at_ms > _since)
    return inside.order_by(tasks.c.created_at_ms, count).limit(1)


def _made_at(
    count: sa.Column[int],
    owner: sa.Column[str],
    owner_id: sa.BindParameter[str],
    rpm: sa.BindParameter[int],
) -> sa.Select[int]:
    """When the task was made that is followed by ``rpm`` - 1 others."""
    newest = _newest(count, owner, owner_id).scalar_subquery()
    return sa.select(tasks.c.created_at_ms).where(owner == owner_id, count == newest - rpm + 1)


_WINDOWS = Prepared(
    sa.select(
        _newest(tasks.c.key_seq, tasks.c.key_id, _key_id).scalar_subquery().label("key_newest"),
        _oldest_inside(tasks.c.key_seq, tasks.c.key_id, _key_id).scalar_subquery().label("key_oldest"),
        _made_at(tasks.c.key_seq, tasks.c.key_id, _key_id, _key_rpm)
        .scalar_subquery()
        .label("key_full_at_ms"),
        sa.select(sa.func.min(tasks.c.created_at_ms))
        .where(tasks.c.key_id == _key_id, tasks.c.created_at_ms > _since)
        .scalar_subquery()
        .label("key_oldest_at_ms"),
        _newest(tasks.c.tenant_seq, tasks.c.tenant_id, _tenant_id).scalar_subquery().label("tenant_newest"),
        _made_at(tasks.c.tenant_seq, tasks.c.tenant_id, _tenant_id, _tenant_rpm)
        .scalar_subquery()
        .label("tenant_full_at_ms"),
        sa.select(tasks.c.tenant_seq)
        .where(tasks.c.tenant_id == _tenant_id, in_state(TaskState.QUEUED))
        .order_by(tasks.c.tenant_seq)
        .limit(1)
        .scalar_subquery()
        .label("tenant_oldest_queued"),
    )
)
_owner_id: sa.BindParameter[str] = sa.bindparam("owner_id")
_rpm: sa.BindParameter[int] = sa.bindparam("rpm")


def _rate(count: sa.Column[int], owner: sa.Column[str]) -> sa.Select[int, int, int, int]:
    inside = (owner == _owner_id, tasks.c.created_at_ms > _since)
    return sa.select(
        _newest(count, owner, _owner_id).scalar_subquery().label("newest"),
        _oldest_inside(count, owner, _owner_id).scalar_subquery().label("oldest"),
        sa.select(sa.func.min(tasks.c.created_at_ms)).where(*inside).scalar_subquery().label("oldest_at_ms"),
        _made_at(count, owner, _owner_id, _rpm).scalar_subquery().label("full_at_ms"),
    )


_KEY_RATE = _rate(tasks.c.key_seq, tasks.c.key_id)
_TENANT_RATE = _rate(tasks.c.tenant_seq, tasks.c.tenant_id)
_QUEUED = sa.select(tasks.c.id).where(tasks.c.tenant_id == _tenant_id, in_state(TaskState.QUEUED))


def _counted(queued: sa.Select[str]) -> sa.Select[int]:
    return sa.select(sa.func.count()).select_from(queued.limit(sa.bindparam("at_most")).subquery())


_COUNT_QUEUED = _counted(_QUEUED)
_COUNT_QUEUED_OF_KEY = _counted(_QUEUED.where(tasks.c.key_id == _key_id))
_COUNT_RUNNING = sa.select(sa.func.count()).where(
    tasks.c.tenant_id == _tenant_id, in_state(TaskState.RUNNING)
)
_INSERT = Prepared(sa.insert(tasks))
_INSERT_EVENT = Prepared(sa.insert(task_events))
_NOTE_CHARGE = Prepared(
    sa.update(tasks)
    .where(tasks.c.id == sa.bindparam("task_id"))
    .values(charged_micros=sa.bindparam("charged"))
)
_BY_ID = sa.select(tasks).where(
    tasks.c.id.in_(sa.bindparam("ids", expanding=True)), tasks.c.deleted_at_ms.is_(None)
)
_CLIPS = (
    sa.select(outputs)
    .where(outputs.c.task_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(outputs.c.task_id, outputs.c.clip_index)
)


@dataclass(frozen=True, slots=True)
class Windows:
    """What admission needs to know of a key and its tenant. Sequence numbers are 0 when there is none.

    ``…_full_at_ms`` is when the task was made that has to leave the window before another may enter; None
    when there were never so many. It is found by sequence number, so that it holds whatever the clock did.
    ``key_count`` counts what was made inside the window, and is exact while the clock only goes on.
    ``queued_at_most`` bounds the tenant's queue from above: all that was made since its oldest queued task.
    """

    key_newest: int
    key_count: int
    key_oldest_at_ms: int | None
    key_full_at_ms: int | None
    tenant_newest: int
    tenant_full_at_ms: int | None
    queued_at_most: int


def read_windows(
    tx: Tx,
    *,
    key_id: str,
    key_rpm: int,
    tenant_id: str,
    tenant_rpm: int | None,
    since_ms: int,
) -> Windows:
    """Look at what was made after ``since_ms``, by sequence numbers: a few probes, however much there is."""
    row = _WINDOWS.one_or_none(
        tx,
        {
            "key_id": key_id,
            "key_rpm": key_rpm,
            "tenant_id": tenant_id,
            "tenant_rpm": tenant_rpm,
            "since_ms": since_ms,
        },
    )
    return Windows(
        key_newest=row.key_newest or 0,
        key_count=_span(row.key_oldest, row.key_newest),
        key_oldest_at_ms=row.key_oldest_at_ms,
        key_full_at_ms=row.key_full_at_ms,
        tenant_newest=row.tenant_newest or 0,
        tenant_full_at_ms=row.tenant_full_at_ms,
        queued_at_most=_span(row.tenant_oldest_queued, row.tenant_newest),
    )


@dataclass(frozen=True, slots=True)
class Rate:
    """What a key or a tenant made in a window, told as in `Windows`."""

    count: int
    oldest_at_ms: int | None
    full_at_ms: int | None


def read_key_rate(tx: Tx, key_id: str, *, rpm: int, since_ms: int) -> Rate:
    return _read_rate(tx, _KEY_RATE, {"owner_id": key_id, "rpm": rpm, "since_ms": since_ms})


def read_tenant_rate(tx: Tx, tenant_id: str, *, rpm: int | None, since_ms: int) -> Rate:
    return _read_rate(tx, _TENANT_RATE, {"owner_id": tenant_id, "rpm": rpm, "since_ms": since_ms})


def _read_rate(tx: Tx, statement: sa.Select[int, int, int, int], values: dict[str, str | int | None]) -> Rate:
    row = tx.execute(statement, values).one()
    return Rate(_span(row.oldest, row.newest), row.oldest_at_ms, row.full_at_ms)


def count_running(tx: Tx, tenant_id: str) -> int:
    return tx.execute(_COUNT_RUNNING, {"tenant_id": tenant_id}).scalar_one()


def count_queued(tx: Tx, tenant_id: str, *, at_most: int, key_id: str | None = None) -> int:
    """The queued tasks of the tenant, or of one of its keys, counted no further than ``at_most``."""
    values = {"tenant_id": tenant_id, "at_most": at_most}
    if key_id is None:
        return tx.execute(_COUNT_QUEUED, values).scalar_one()
    return tx.execute(_COUNT_QUEUED_OF_KEY, {**values, "key_id": key_id}).scalar_one()


def _span(oldest: int | None, newest: int | None) -> int:
    return 0 if oldest is None or newest is None else newest - oldest + 1


def insert_task(tx: Tx, task: Task, *, key_seq: int, tenant_seq: int, deadline_at_ms: int) -> None:
    _INSERT.run(
        tx,
        {
            "id": task.id,
            "tenant_id": task.tenant_id,
            "key_id": task.key_id,
            "key_seq": key_seq,
            "tenant_seq": tenant_seq,
            "route": task.route.value,
            "model": task.model,
            "state": task.state.value,
            "prompt": task.spec.prompt,
            "negative_prompt": task.spec.negative_prompt,
            "seed": task.spec.seed,
            "duration_s": task.spec.duration_s,
            "sample_count": task.spec.sample_count,
            "takes": task.spec.takes,
            "audio_format": task.spec.audio_format,
            "bitrate_kbps": task.spec.bitrate_kbps,
            "loudness_lufs": task.spec.loudness_lufs,
            "metadata": orjson.dumps(task.metadata).decode(),
            "price_micros": task.price_micros,
            "emulated": task.emulated,
            "test": task.test,
            "webhook_url": task.webhook_url,
            "request_id": task.request_id,
            "traceparent": task.traceparent,
            "created_at_ms": task.created_at_ms,
            "deadline_at_ms": deadline_at_ms,
            "start_by_at_ms": task.start_by_at_ms,
            "not_before_ms": task.created_at_ms,
            "attempt_count": 0,
        },
    )


def add_event(
    tx: Tx, task_id: str, kind: str, *, at_ms: int, data: dict[str, str | int] | None = None
) -> None:
    """Append to the task's story. ``data`` holds small facts, never text that a caller chose.

    Every change of a task has its event, so this is also where others are told that it changed.
    """
    touch(tx, task_id)
    _INSERT_EVENT.run(
        tx,
        {"task_id": task_id, "kind": kind, "at_ms": at_ms, "data": orjson.dumps(data or {}).decode()},
    )


def note_charge(tx: Tx, task_id: str, charged_micros: int) -> None:
    """Keep beside a task's end what it cost."""
    _NOTE_CHARGE.run(tx, {"task_id": task_id, "charged": charged_micros})


def get_tasks(tx: Tx, ids: Iterable[str]) -> dict[str, Task]:
    """Tasks with their clips, by id; unknown ids are absent, and so is what was deleted."""
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
        steps=row.steps,
        peak_dbfs=row.peak_dbfs,
        loudness_lufs=row.loudness_lufs,
        waveform=row.waveform or b"",
        text=row.text,
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
            audio_format=AudioFormat(row.audio_format) if row.audio_format else None,
            bitrate_kbps=row.bitrate_kbps,
            loudness_lufs=row.loudness_lufs,
            takes=row.takes,
        ),
        metadata=orjson.loads(row.metadata),
        price_micros=row.price_micros,
        created_at_ms=row.created_at_ms,
        started_at_ms=row.started_at_ms,
        finished_at_ms=row.finished_at_ms,
        start_by_at_ms=row.start_by_at_ms,
        charged_micros=row.charged_micros,
        attempt_count=row.attempt_count,
        error=TaskError(row.error_code, row.error_detail) if row.error_code else None,
        emulated=row.emulated,
        test=row.test,
        webhook_url=row.webhook_url,
        request_id=row.request_id,
        traceparent=row.traceparent,
        clips=tuple(clips),
    )
