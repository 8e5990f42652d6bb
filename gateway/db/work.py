"""Tasks as work: claiming under a lease, attempts, clips, and the end.

Every change compares and sets on (state, lease token): a worker whose lease has gone changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.db.engine import Tx, touch
from gateway.db.lines import running
from gateway.db.prepared import Prepared
from gateway.db.tables import attempts, in_state, outputs, takes, tasks, tenants
from gateway.db.tasks import add_event, clip_from, task_from
from gateway.model import Clip, Take, Task, TaskError, TaskState

_now = sa.bindparam("now_ms", type_=sa.BigInteger)

# What was not started in its time is for the sweeper to end.
_in_time = sa.or_(
    tasks.c.started_at_ms.is_not(None), tasks.c.start_by_at_ms.is_(None), tasks.c.start_by_at_ms > _now
)
_claim = (
    sa.update(tasks)
    .where(tasks.c.id == sa.bindparam("task_id"), in_state(TaskState.QUEUED), _in_time)
    .values(
        state="running",
        lease_token=sa.bindparam("token"),
        lease_expires_at_ms=sa.bindparam("expires_at_ms"),
        started_at_ms=sa.func.coalesce(tasks.c.started_at_ms, _now),
    )
    .returning(*tasks.c)
)
_runs = sa.select(running.c.running).where(running.c.tenant_id == tenants.c.id).correlate(tenants)
_has_room = sa.exists().where(
    tenants.c.id == tasks.c.tenant_id,
    sa.or_(
        tenants.c.max_concurrent.is_(None),
        sa.func.coalesce(_runs.scalar_subquery(), 0) < tenants.c.max_concurrent,
    ),
)
_CLAIM = Prepared(_claim)
_CLAIM_WITHIN_LIMIT = Prepared(_claim.where(_has_room.correlate(tasks)))
_mine = (
    tasks.c.id == sa.bindparam("task_id"),
    in_state(TaskState.RUNNING),
    tasks.c.lease_token == sa.bindparam("token"),
)
_RENEW = sa.update(tasks).where(*_mine).values(lease_expires_at_ms=sa.bindparam("expires_at_ms"))
_COUNT_ATTEMPT = Prepared(
    sa.update(tasks)
    .where(*_mine)
    .values(attempt_count=tasks.c.attempt_count + 1)
    .returning(tasks.c.attempt_count)
)
# What the lease is held for happens in the same transaction: nobody may take it away in between.
_HOLDS = Prepared(
    sa.select(sa.literal(1).label("held")).select_from(tasks).where(*_mine).with_for_update(key_share=True)
)
_FINISH = Prepared(
    sa.update(tasks)
    .where(*_mine)
    .values(
        state=sa.bindparam("new_state"),
        finished_at_ms=_now,
        lease_token=None,
        lease_expires_at_ms=None,
        error_code=sa.bindparam("new_error_code"),
        error_detail=sa.bindparam("new_error_detail"),
    )
)
_REQUEUE = Prepared(
    sa.update(tasks)
    .where(*_mine)
    .values(
        state="queued",
        lease_token=None,
        lease_expires_at_ms=None,
        not_before_ms=sa.bindparam("not_before"),
    )
)
# A task that is locked is being worked on this moment, whatever its lease says.
_run_out = (
    sa.select(tasks.c.id)
    .where(
        in_state(TaskState.RUNNING),
        tasks.c.lease_expires_at_ms < _now,
        tasks.c.lease_token.not_in(sa.bindparam("spare", expanding=True)),
    )
    .with_for_update(key_share=True, skip_locked=True)
)
_EXPIRE = (
    sa.update(tasks)
    .where(tasks.c.id.in_(_run_out))
    .values(state="queued", lease_token=None, lease_expires_at_ms=None, not_before_ms=_now)
    .returning(tasks.c.id)
)
_INSERT_ATTEMPT = Prepared(sa.insert(attempts))
_END_ATTEMPT = Prepared(
    sa.update(attempts)
    .where(attempts.c.id == sa.bindparam("attempt_id"), attempts.c.state == "started")
    .values(
        state=sa.bindparam("new_state"),
        finished_at_ms=_now,
        clips_delivered=sa.bindparam("delivered"),
        fault=sa.bindparam("new_fault"),
        error_code=sa.bindparam("new_error_code"),
        upstream_status=sa.bindparam("status"),
        provider_metadata=sa.bindparam("metadata"),
        cost_micros=sa.bindparam("cost"),
    )
)
# Their cost stays what it was when they began: all that was asked for may have been made.
_LOSE_ATTEMPTS = (
    sa.update(attempts)
    .where(attempts.c.task_id.in_(sa.bindparam("ids", expanding=True)), attempts.c.state == "started")
    .values(state="unknown", finished_at_ms=_now, fault="unknown")
)
_INSERT_OUTPUT = Prepared(sa.insert(outputs))
_INSERT_TAKE = Prepared(sa.insert(takes))
_TAKES = sa.select(takes).where(takes.c.task_id == sa.bindparam("task_id")).order_by(takes.c.number)
_STORED = (
    sa.select(outputs).where(outputs.c.task_id == sa.bindparam("task_id")).order_by(outputs.c.clip_index)
)
_COUNT_CLIPS = Prepared(
    sa.select(sa.func.count().label("clips")).where(outputs.c.task_id == sa.bindparam("task_id"))
)
_SPENT = sa.select(sa.func.count()).where(
    attempts.c.task_id == sa.bindparam("task_id"),
    sa.or_(attempts.c.fault.is_(None), attempts.c.fault.not_in(["busy", "not_sent", "misconfigured"])),
)
_COUNT_WAITING = (
    sa.select(tasks.c.model, sa.func.count()).where(in_state(TaskState.QUEUED)).group_by(tasks.c.model)
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to a task until ``expires_at_ms``, and the takes that are there to be joined."""

    task: Task
    token: str
    deadline_at_ms: int
    takes: tuple[Take, ...]
    attempts_spent: int


def claim(
    tx: Tx, task_id: str, *, token: str, now_ms: int, expires_at_ms: int, within_limit: bool = False
) -> Lease | None:
    """Take a queued task. None when somebody else was quicker, or its time to be started is over.

    ``within_limit`` looks at what the tenant may run at once, as `gateway.db.lines` does for whoever chooses.
    Either has locked all claims before (see `gateway.db.locks`).
    """
    row = (_CLAIM_WITHIN_LIMIT if within_limit else _CLAIM).one_or_none(
        tx, {"task_id": task_id, "token": token, "now_ms": now_ms, "expires_at_ms": expires_at_ms}
    )
    if row is None:
        return None
    add_event(tx, task_id, "running", at_ms=now_ms)
    fresh = row.attempt_count == 0
    clips = () if fresh else tuple(map(clip_from, tx.execute(_STORED, {"task_id": task_id})))
    return Lease(
        task=task_from(row, clips),
        token=token,
        deadline_at_ms=row.deadline_at_ms,
        takes=() if fresh else tuple(map(_take_from, tx.execute(_TAKES, {"task_id": task_id}))),
        attempts_spent=0 if fresh else count_spent(tx, task_id),
    )


def renew(tx: Tx, leases: Sequence[tuple[str, str]], *, expires_at_ms: int) -> tuple[str, ...]:
    """Prolong (task id, token) pairs; the tokens of leases that were already gone are returned."""
    return tuple(
        token
        for task_id, token in leases
        if tx.execute(_RENEW, {"task_id": task_id, "token": token, "expires_at_ms": expires_at_ms}).rowcount
        == 0
    )


def holds(tx: Tx, task_id: str, token: str) -> bool:
    """Whether the lease is there, and then until the transaction ends. Locks the task."""
    return _HOLDS.one_or_none(tx, {"task_id": task_id, "token": token}) is not None


def begin_attempt(
    tx: Tx,
    task_id: str,
    *,
    token: str,
    attempt_id: str,
    deployment: str,
    clips_asked: int,
    now_ms: int,
    cost_micros: int = 0,
) -> bool:
    """Record a paid call before it is made. False when the lease is gone: make no call.

    ``cost_micros`` is what the provider takes if its outcome is never known.
    """
    task = _COUNT_ATTEMPT.one_or_none(tx, {"task_id": task_id, "token": token})
    if task is None:
        return False
    _INSERT_ATTEMPT.run(
        tx,
        {
            "id": attempt_id,
            "task_id": task_id,
            "number": task.attempt_count,
            "deployment": deployment,
            "state": "started",
            "started_at_ms": now_ms,
            "clips_asked": clips_asked,
            "clips_delivered": 0,
            "cost_micros": cost_micros,
        },
    )
    return True


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How a call ended: ``state`` is succeeded, failed or unknown; ``cost_micros`` is the provider's.

    What it made was stored as whole clips, or as takes to be joined.
    """

    attempt_id: str
    state: str
    clips: tuple[Clip, ...]
    takes: tuple[Take, ...] = ()
    fault: str | None = None
    error_code: str | None = None
    status: int | None = None
    provider_metadata: str | None = None
    cost_micros: int = 0


def end_attempt(tx: Tx, task_id: str, end: AttemptEnd, *, now_ms: int) -> None:
    """Record the end of a call and what it left in storage. The caller holds the lease.

    Told again, because the answer was lost, it changes nothing.
    """
    touch(tx, task_id)
    ended = _END_ATTEMPT.run(
        tx,
        {
            "attempt_id": end.attempt_id,
            "new_state": end.state,
            "now_ms": now_ms,
            "delivered": len(end.clips) + len(end.takes),
            "new_fault": end.fault,
            "new_error_code": end.error_code,
            "status": end.status,
            "metadata": end.provider_metadata,
            "cost": end.cost_micros,
        },
    )
    if not ended:
        return
    add_clips(tx, task_id, end.clips, attempt_id=end.attempt_id, now_ms=now_ms)
    for take in end.takes:
        _INSERT_TAKE.run(
            tx,
            {
                "task_id": task_id,
                "number": take.number,
                "attempt_id": take.attempt_id,
                "object_name": take.object_name,
                "duration_s": take.duration_s,
                "seed": take.seed,
                "text": take.text,
            },
        )
        add_event(tx, task_id, "take", at_ms=now_ms, data={"number": take.number})


def add_clips(tx: Tx, task_id: str, clips: Sequence[Clip], *, attempt_id: str, now_ms: int) -> None:
    """Record clips that are in storage, ``attempt_id`` being the call that completed them."""
    for clip in clips:
        _INSERT_OUTPUT.run(
            tx,
            {
                "task_id": task_id,
                "clip_index": clip.index,
                "attempt_id": attempt_id,
                "object_name": clip.object_name,
                "mime_type": clip.mime_type,
                "size_bytes": clip.size_bytes,
                "sha256": clip.sha256,
                "duration_s": clip.duration_s,
                "sample_rate_hz": clip.sample_rate_hz,
                "channels": clip.channels,
                "seed": clip.seed,
                "steps": clip.steps,
                "peak_dbfs": clip.peak_dbfs,
                "loudness_lufs": clip.loudness_lufs,
                "waveform": clip.waveform,
                "text": clip.text,
            },
        )
        add_event(tx, task_id, "clip", at_ms=now_ms, data={"index": clip.index})


def _take_from(row: sa.Row[tuple[object, ...]]) -> Take:
    return Take(row.number, row.attempt_id, row.object_name, row.duration_s, row.seed, row.text)


def lose_attempts(tx: Tx, ids: Sequence[str], *, now_ms: int) -> None:
    """The open calls of these tasks are nobody's any more: their outcome is unknown."""
    tx.execute(_LOSE_ATTEMPTS, {"ids": list(ids), "now_ms": now_ms})


def count_spent(tx: Tx, task_id: str) -> int:
    """The calls of a task that may have been paid."""
    return tx.execute(_SPENT, {"task_id": task_id}).scalar_one()


def count_clips(tx: Tx, task_id: str) -> int:
    return int(_COUNT_CLIPS.one_or_none(tx, {"task_id": task_id}).clips)


def finish(
    tx: Tx, task_id: str, *, token: str, state: TaskState, error: TaskError | None, now_ms: int
) -> bool:
    """Move a running task to its end. False when the lease is gone."""
    changed = _FINISH.run(
        tx,
        {
            "task_id": task_id,
            "token": token,
            "new_state": state.value,
            "now_ms": now_ms,
            "new_error_code": error.code if error else None,
            "new_error_detail": error.detail if error else None,
        },
    )
    if changed:
        add_event(tx, task_id, state.value, at_ms=now_ms)
    return changed == 1


def requeue(tx: Tx, task_id: str, *, token: str, not_before_ms: int, reason: str, now_ms: int) -> bool:
    """Give a running task back, to be claimed from ``not_before_ms`` on. False when the lease is gone."""
    changed = _REQUEUE.run(tx, {"task_id": task_id, "token": token, "not_before": not_before_ms})
    if changed:
        lose_attempts(tx, [task_id], now_ms=now_ms)
        add_event(tx, task_id, "requeued", at_ms=now_ms, data={"reason": reason})
    return changed == 1


def expire_leases(tx: Tx, *, now_ms: int, spare: Sequence[str] = ()) -> tuple[str, ...]:
    """Put tasks of dead workers back in the queue. Their open calls may have been paid: outcome unknown.

    ``spare`` are the tokens of leases whose worker is known to be alive.
    """
    ids = list(tx.execute(_EXPIRE, {"now_ms": now_ms, "spare": list(spare)}).scalars())
    if ids:
        lose_attempts(tx, ids, now_ms=now_ms)
        for task_id in ids:
            add_event(tx, task_id, "requeued", at_ms=now_ms, data={"reason": "lease_expired"})
    return tuple(ids)


def count_waiting(tx: Tx) -> dict[str, int]:
    """Queued tasks by model."""
    return {row[0]: row[1] for row in tx.execute(_COUNT_WAITING)}
