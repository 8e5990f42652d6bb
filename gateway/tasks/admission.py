"""Admission: one transaction that takes a request whole or leaves no trace of it.

Limits are counted from the task rows themselves inside the transaction that adds one, so a burst cannot
slip through together and a refused request uses up nothing.
"""

import math
from dataclasses import dataclass

from gateway.db import accounts, tasks
from gateway.db.engine import Tx
from gateway.errors import ErrorCode, LimitReached, LimitState, Unauthorized
from gateway.model import ApiKey, Task, Tenant, TenantStatus

WINDOW_S = 60
_WINDOW_MS = WINDOW_S * 1000


@dataclass(frozen=True, slots=True)
class Defaults:
    """Limits of keys and tenants that name none of their own."""

    rpm: int
    max_queued: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The task as it was written, and the key's rate after it."""

    task: Task
    rate: LimitState


def admit(tx: Tx, task: Task, *, deadline_at_ms: int, defaults: Defaults) -> Admitted:
    """Write the task if every limit allows it.

    Raises `LimitReached` naming the limit and when to come back, `Unauthorized` when the key or its tenant
    has been stopped since it was checked.
    """
    key, tenant = _valid(tx, task)
    max_queued = tenant.max_queued or defaults.max_queued
    now_ms = task.created_at_ms
    rpm = key.rpm or defaults.rpm
    windows = tasks.read_windows(
        tx,
        key_id=key.id,
        key_rpm=rpm,
        tenant_id=tenant.id,
        tenant_rpm=tenant.rpm,
        since_ms=now_ms - _WINDOW_MS,
    )
    key_wait_s = _wait_s(windows.key_full_at_ms, now_ms)
    if key_wait_s is not None:
        raise _too_fast("key", rpm, key_wait_s)
    tenant_wait_s = _wait_s(windows.tenant_full_at_ms, now_ms)
    if tenant.rpm is not None and tenant_wait_s is not None:
        raise _too_fast("tenant", tenant.rpm, tenant_wait_s)
    # The bound is free; counting is not, and needed only by a tenant that may have reached its limit.
    if (
        windows.queued_at_most >= max_queued
        and tasks.count_queued(tx, tenant.id, at_most=max_queued) >= max_queued
    ):
        raise _queue_full(max_queued)
    tasks.insert_task(
        tx,
        task,
        key_seq=windows.key_newest + 1,
        tenant_seq=windows.tenant_newest + 1,
        deadline_at_ms=deadline_at_ms,
    )
    tasks.add_event(tx, task.id, "queued", at_ms=now_ms)
    remaining = max(0, rpm - windows.key_count - 1)
    reset_s = _wait_s(windows.key_oldest_at_ms, now_ms) or WINDOW_S
    return Admitted(task, LimitState("key", rpm, WINDOW_S, remaining, reset_s))


def _valid(tx: Tx, task: Task) -> tuple[ApiKey, Tenant]:
    found = accounts.get_caller(tx, task.key_id)
    if found is None or found[0].revoked_at_ms is not None:
        raise Unauthorized("This API key was revoked; ask your platform team for another.")
    if found[1].status is not TenantStatus.ACTIVE:
        raise Unauthorized("This tenant is suspended; ask your platform team.")
    return found


def _wait_s(created_at_ms: int | None, now_ms: int) -> int | None:
    """Whole seconds, rounded up, until a task made then leaves the window; None when it does not count.

    A clock that was set back leaves times ahead of now, which count; more than a window ahead it had been
    plainly wrong, and must not lock anybody out until that time comes.
    """
    if created_at_ms is None or abs(now_ms - created_at_ms) >= _WINDOW_MS:
        return None
    return math.ceil((created_at_ms + _WINDOW_MS - now_ms) / 1000)


def _too_fast(owner: str, rpm: int, retry_after_s: int) -> LimitReached:
    return LimitReached(
        f"This {owner} may make {rpm} requests in any {WINDOW_S} seconds and has made them. "
        f"Come back in {retry_after_s} s.",
        code=ErrorCode.RATE_LIMITED,
        limit=LimitState(owner, rpm, WINDOW_S, 0, retry_after_s),
    )


def _queue_full(max_queued: int) -> LimitReached:
    return LimitReached(
        f"This tenant has {max_queued} tasks waiting, as many as it may. Wait for some to start, "
        "or cancel some.",
        code=ErrorCode.QUEUE_FULL,
        limit=LimitState("queued", max_queued, 0, 0, 10),
    )
