"""The outbox as work: what is due, claiming it under a lease, and how each try went.

Every change of a delivery under way compares and sets on (pending, lease token): whoever lost a lease changes
nothing, and the message goes out again under the same id.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.db.engine import Tx, touch
from gateway.db.webhook_tables import (
    in_delivery_state,
    webhook_attempts,
    webhook_deliveries,
    webhook_endpoints,
)
from gateway.db.webhooks import OUTBOX
from gateway.messages import Delivery, DeliveryState, EventType, Try, TryOutcome

_of = webhook_deliveries.c
_id: sa.BindParameter[str] = sa.bindparam("delivery_id")
_tenant_id: sa.BindParameter[str] = sa.bindparam("of_tenant")
_now = sa.bindparam("now_ms", type_=sa.BigInteger)
_limit: sa.BindParameter[int] = sa.bindparam("at_most")
_pending = in_delivery_state(DeliveryState.PENDING)
_mine = (_of.id == _id, _pending, _of.lease_token == sa.bindparam("token"))
_NO_LEASE: dict[str, None] = {"lease_token": None, "lease_expires_at_ms": None}

# The lanes that have something pending, found by skipping along ix_webhook_deliveries_pending: two probes a
# lane, however much waits in it. An endpoint that is down for a day must not make the others' claims slow.
_lanes = sa.select(sa.func.min(_of.lane).label("lane")).where(_pending).cte("lanes", recursive=True)
_next_lane = sa.select(sa.func.min(_of.lane)).where(_pending, _of.lane > _lanes.c.lane).scalar_subquery()
_lanes = _lanes.union_all(sa.select(_next_lane).where(_lanes.c.lane.is_not(None)))
_due_at = (
    sa.select(sa.func.min(_of.next_attempt_at_ms))
    .where(_pending, _of.lane == _lanes.c.lane)
    .correlate(_lanes)
    .scalar_subquery()
)
_seen = sa.select(_lanes.c.lane, _due_at.label("due_at_ms")).where(_lanes.c.lane.is_not(None)).subquery()
_DUE_LANES = (
    sa.select(_seen.c.lane, _seen.c.due_at_ms)
    .where(_seen.c.due_at_ms <= _now)
    .order_by(_seen.c.due_at_ms, _seen.c.lane)
)
_DUE = (
    sa.select(_of.id)
    .where(_pending, _of.lane == sa.bindparam("in_lane"), _of.next_attempt_at_ms <= _now)
    .order_by(_of.next_attempt_at_ms)
    .limit(_limit)
    # What another process is taking this moment is not waited for.
    .with_for_update(key_share=True, skip_locked=True)
)
_CLAIM = (
    sa.update(webhook_deliveries)
    .where(_of.id == _id, _pending, _of.next_attempt_at_ms <= _now)
    .values(
        lease_token=sa.bindparam("token"),
        lease_expires_at_ms=sa.bindparam("expires_at_ms"),
        next_attempt_at_ms=sa.bindparam("expires_at_ms"),
    )
    .returning(*_of)
)
_COUNT_TRY = (
    sa.update(webhook_deliveries)
    .where(*_mine)
    .values(attempt_count=_of.attempt_count + 1)
    .returning(_of.attempt_count)
)
_LAST_NUMBER = sa.select(sa.func.coalesce(sa.func.max(webhook_attempts.c.number), 0)).where(
    webhook_attempts.c.delivery_id == _id
)
_INSERT_TRY = sa.insert(webhook_attempts)
_FINISH = (
    sa.update(webhook_deliveries)
    .where(*_mine)
    .values(state=sa.bindparam("new_state"), finished_at_ms=_now, **_NO_LEASE)
)
_PUT_OFF = (
    sa.update(webhook_deliveries)
    .where(*_mine)
    .values(next_attempt_at_ms=sa.bindparam("due_at_ms"), **_NO_LEASE)
)
_REPLAYED = {
    "state": DeliveryState.PENDING.value,
    "attempt_count": 0,
    "next_attempt_at_ms": _now,
    "finished_at_ms": None,
}
_REPLAY = (
    sa.update(webhook_deliveries)
    .where(_of.id == _id, _of.tenant_id == _tenant_id, _of.lease_token.is_(None))
    .values(_REPLAYED)
)
_enabled = sa.select(webhook_endpoints.c.id).where(
    webhook_endpoints.c.tenant_id == _tenant_id, webhook_endpoints.c.disabled_at_ms.is_(None)
)
_REPLAY_FAILED = (
    sa.update(webhook_deliveries)
    .where(
        _of.id.in_(
            sa.select(_of.id)
            .where(
                in_delivery_state(DeliveryState.FAILED),
                _of.tenant_id == _tenant_id,
                _of.finished_at_ms <= sa.bindparam("until_ms"),
                sa.or_(_of.endpoint_id.is_(None), _of.endpoint_id.in_(_enabled)),
            )
            .order_by(_of.finished_at_ms)
            .limit(_limit)
        )
    )
    .values(_REPLAYED)
)
_DELIVERY_OF_TENANT = sa.select(webhook_deliveries).where(_of.tenant_id == _tenant_id)
_DELIVERY = _DELIVERY_OF_TENANT.where(_of.id == _id)
_PENDING_TEST = _DELIVERY_OF_TENANT.where(
    _of.created_at_ms >= sa.bindparam("since_ms"),
    _of.endpoint_id == sa.bindparam("of_endpoint"),
    _of.kind == EventType.WEBHOOK_TEST.value,
    _pending,
).limit(1)
# Without the messages themselves, which may have 20 kB each.
_PAGE = (
    sa.select(*(column for column in _of if column is not _of.body), sa.literal("").label("body"))
    .where(_of.tenant_id == _tenant_id)
    .order_by(_of.created_at_ms.desc(), _of.id.desc())
    .limit(_limit)
)
_TRIES = (
    sa.select(webhook_attempts)
    .where(webhook_attempts.c.delivery_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(webhook_attempts.c.delivery_id, webhook_attempts.c.number)
)
_COUNT_PENDING = sa.select(sa.func.count()).select_from(webhook_deliveries).where(_pending)
_OLD = (
    sa.select(_of.id)
    .where(_of.finished_at_ms < sa.bindparam("before_ms"))
    .order_by(_of.finished_at_ms)
    .limit(_limit)
)
_DELETE_TRIES = sa.delete(webhook_attempts).where(
    webhook_attempts.c.delivery_id.in_(sa.bindparam("ids", expanding=True))
)
_of_tasks = _of.task_id.in_(sa.bindparam("ids", expanding=True))
_PENDING_OF_TASKS = (
    sa.select(_of.id, _of.body).where(_of_tasks, _pending).order_by(_of.id).with_for_update(key_share=True)
)
_ENDED_OF_TASKS = sa.select(_of.id).where(_of_tasks, sa.not_(_pending)).order_by(_of.id).with_for_update()
_REWRITE = sa.update(webhook_deliveries).where(_of.id == _id).values(body=sa.bindparam("new_body"))
_DELETE_DELIVERIES = sa.delete(webhook_deliveries).where(_of.id.in_(sa.bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class DueLane:
    """A lane with something to deliver now, and since when the first of it is due."""

    lane: str
    due_at_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to try a delivery, until the lease ends."""

    delivery: Delivery
    lane: str
    token: str


def list_due(tx: Tx, *, now_ms: int) -> tuple[DueLane, ...]:
    """Lanes that have something due, the longest overdue first."""
    return tuple(DueLane(row.lane, row.due_at_ms) for row in tx.execute(_DUE_LANES, {"now_ms": now_ms}))


def claim(
    tx: Tx, shares: Mapping[str, int], *, token: str, now_ms: int, expires_at_ms: int
) -> tuple[Claim, ...]:
    """Take what is due, from each lane at most its share. What somebody else was quicker to take is left out.

    Until ``expires_at_ms`` nobody else may have it; then it is due again.
    """
    found = []
    for lane, at_most in shares.items():
        due = tx.execute(_DUE, {"in_lane": lane, "now_ms": now_ms, "at_most": at_most}).scalars().all()
        for delivery_id in due:
            keys = {"delivery_id": delivery_id, "token": token, "now_ms": now_ms}
            row = tx.execute(_CLAIM, {**keys, "expires_at_ms": expires_at_ms}).one_or_none()
            if row is not None:
                found.append(Claim(_delivery(row), lane, token))
    return tuple(found)


def record_try(
    tx: Tx, claimed: Claim, *, at_ms: int, duration_ms: int, status: int | None, outcome: TryOutcome
) -> Try | None:
    """Count and keep a try. None when the lease is gone: then nothing was changed."""
    keys = {"delivery_id": claimed.delivery.id, "token": claimed.token}
    if tx.execute(_COUNT_TRY, keys).one_or_none() is None:
        return None
    number = tx.execute(_LAST_NUMBER, {"delivery_id": claimed.delivery.id}).scalar_one() + 1
    error = None if outcome is TryOutcome.DELIVERED else outcome
    values = {"at_ms": at_ms, "duration_ms": duration_ms, "status": status, "error": error}
    tx.execute(_INSERT_TRY, {"delivery_id": claimed.delivery.id, "number": number, **values})
    return Try(number, at_ms, duration_ms, status, error)


def finish(tx: Tx, claimed: Claim, state: DeliveryState, *, now_ms: int) -> None:
    keys = {"delivery_id": claimed.delivery.id, "token": claimed.token}
    tx.execute(_FINISH, {**keys, "new_state": state.value, "now_ms": now_ms})


def put_off(tx: Tx, claimed: Claim, *, due_at_ms: int) -> bool:
    """Give it back, to be tried from then on. False when the lease is gone."""
    keys = {"delivery_id": claimed.delivery.id, "token": claimed.token}
    return tx.execute(_PUT_OFF, {**keys, "due_at_ms": due_at_ms}).rowcount == 1


def replay(tx: Tx, tenant_id: str, delivery_id: str, *, now_ms: int) -> bool:
    """Have it tried at once, and as often as a new one. False while a try is under way, or without one."""
    touch(tx, OUTBOX)
    keys = {"delivery_id": delivery_id, "of_tenant": tenant_id, "now_ms": now_ms}
    return tx.execute(_REPLAY, keys).rowcount == 1


def replay_failed(tx: Tx, tenant_id: str, *, until_ms: int, at_most: int, now_ms: int) -> int:
    """`replay` what had failed until then, the oldest first, where its endpoint is enabled; how many."""
    touch(tx, OUTBOX)
    keys = {"of_tenant": tenant_id, "until_ms": until_ms, "at_most": at_most, "now_ms": now_ms}
    return tx.execute(_REPLAY_FAILED, keys).rowcount


def get_delivery(tx: Tx, tenant_id: str, delivery_id: str) -> Delivery | None:
    row = tx.execute(_DELIVERY, {"of_tenant": tenant_id, "delivery_id": delivery_id}).one_or_none()
    return None if row is None else _delivery(row)


def find_pending_test(tx: Tx, tenant_id: str, endpoint_id: str, *, since_ms: int) -> Delivery | None:
    """One that was asked for since then. Not all that waits is looked through: that may be much."""
    keys = {"of_tenant": tenant_id, "of_endpoint": endpoint_id, "since_ms": since_ms}
    row = tx.execute(_PENDING_TEST, keys).one_or_none()
    return None if row is None else _delivery(row)


def list_deliveries(
    tx: Tx, tenant_id: str, *, state: DeliveryState | None, before: tuple[int, str] | None, at_most: int
) -> tuple[Delivery, ...]:
    """Newest first, without their bodies. ``before`` is the time and id of the last of the page before."""
    statement = _PAGE if state is None else _PAGE.where(in_delivery_state(state))
    if before is not None:
        statement = statement.where(sa.tuple_(_of.created_at_ms, _of.id) < sa.tuple_(*before))
    return tuple(map(_delivery, tx.execute(statement, {"of_tenant": tenant_id, "at_most": at_most})))


def list_tries(tx: Tx, delivery_id: str) -> tuple[Try, ...]:
    return tuple(map(_try, tx.execute(_TRIES, {"ids": [delivery_id]})))


def get_last_tries(tx: Tx, ids: list[str]) -> dict[str, Try]:
    """The newest try of each delivery that was tried."""
    return {row.delivery_id: _try(row) for row in tx.execute(_TRIES, {"ids": ids})}


def count_pending(tx: Tx) -> int:
    return int(tx.execute(_COUNT_PENDING).scalar_one())


def delete_old(tx: Tx, *, before_ms: int, at_most: int) -> int:
    """Forget deliveries that ended before then, with their tries; how many, ``at_most`` in one go."""
    ids = list(tx.execute(_OLD, {"before_ms": before_ms, "at_most": at_most}).scalars())
    _delete(tx, ids)
    return len(ids)


def withdraw(tx: Tx, task_ids: Sequence[str], rewrite: Callable[[str], str]) -> None:
    """Forget what was told of these tasks. What is still to be told is told with a rewritten body."""
    keys = {"ids": list(task_ids)}
    # These first: one that ends while they are waited for is among the others then.
    for row in tx.execute(_PENDING_OF_TASKS, keys).all():
        tx.execute(_REWRITE, {"delivery_id": row.id, "new_body": rewrite(row.body)})
    _delete(tx, list(tx.execute(_ENDED_OF_TASKS, keys).scalars()))


def _delete(tx: Tx, ids: list[str]) -> None:
    if ids:
        tx.execute(_DELETE_TRIES, {"ids": ids})
        tx.execute(_DELETE_DELIVERIES, {"ids": ids})


def _delivery(row: Any) -> Delivery:
    return Delivery(
        id=row.id,
        tenant_id=row.tenant_id,
        endpoint_id=row.endpoint_id,
        url=row.url,
        kind=EventType(row.kind),
        task_id=row.task_id,
        body=row.body,
        state=DeliveryState(row.state),
        tries=row.attempt_count,
        next_attempt_at_ms=row.next_attempt_at_ms,
        created_at_ms=row.created_at_ms,
        finished_at_ms=row.finished_at_ms,
    )


def _try(row: Any) -> Try:
    error = TryOutcome(row.error) if row.error else None
    return Try(row.number, row.at_ms, row.duration_ms, row.status, error)
