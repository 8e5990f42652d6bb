"""Rates and queues at admission: how they are judged, and what a refusal says."""

import math

from gateway.db import tasks
from gateway.db.engine import Tx
from gateway.db.tasks import Rate, Windows
from gateway.errors import ErrorCode, LimitReached, LimitState
from gateway.model import ApiKey, Tenant

WINDOW_S = 60
WINDOW_MS = WINDOW_S * 1000
# When a queue moves on depends on models and on other tenants; this is a fair time to look again.
_QUEUE_RETRY_S = 10


def check_rates(windows: Windows, now_ms: int, *, key_rpm: int, tenant_rpm: int | None) -> None:
    """Raises `LimitReached` for the rate, of key and tenant, that lets the next request in last."""
    found = []
    for owner, rpm, full_at_ms in (
        ("key", key_rpm, windows.key_full_at_ms),
        ("tenant", tenant_rpm, windows.tenant_full_at_ms),
    ):
        wait_s = _wait_s(full_at_ms, now_ms)
        if rpm is not None and wait_s is not None:
            found.append((wait_s, owner, rpm))
    if found:
        wait_s, owner, rpm = max(found)
        raise LimitReached(
            f"This {owner} may make {rpm} requests in any {WINDOW_S} seconds and has made them. "
            f"Come back in {wait_s} s.",
            code=ErrorCode.RATE_LIMITED,
            limit=LimitState(owner, rpm, WINDOW_S, 0, wait_s),
        )


def check_queues(tx: Tx, windows: Windows, key: ApiKey, tenant: Tenant, max_queued: int) -> None:
    """Raises `LimitReached` when the tenant or the key has as many tasks waiting as it may."""
    # The bound is free; counting is not, and needed only by a tenant that may have reached its limit.
    if (
        windows.queued_at_most >= max_queued
        and tasks.count_queued(tx, tenant.id, at_most=max_queued) >= max_queued
    ):
        raise _queue_full("queued", "tenant", max_queued)
    most = key.max_queued
    if (
        most is not None
        and windows.queued_at_most >= most
        and tasks.count_queued(tx, tenant.id, key_id=key.id, at_most=most) >= most
    ):
        raise _queue_full("key_queued", "key", most)


def rate_after(windows: Windows, now_ms: int, rpm: int) -> LimitState:
    """The key's rate once one more request was made."""
    remaining = max(0, rpm - windows.key_count - 1)
    return LimitState("key", rpm, WINDOW_S, remaining, _wait_s(windows.key_oldest_at_ms, now_ms) or WINDOW_S)


def rate_now(owner: str, rate: Rate, now_ms: int, rpm: int) -> LimitState:
    """A rate as it stands, for whoever only asks: the next request is admitted while any of it remains."""
    full_s = _wait_s(rate.full_at_ms, now_ms)
    if full_s is not None:
        return LimitState(owner, rpm, WINDOW_S, 0, full_s)
    return LimitState(owner, rpm, WINDOW_S, max(1, rpm - rate.count), _wait_s(rate.oldest_at_ms, now_ms) or 0)


def _wait_s(created_at_ms: int | None, now_ms: int) -> int | None:
    """Whole seconds, rounded up, until a task made then leaves the window; None when it does not count.

    A clock that was set back leaves times ahead of now, which count; more than a window ahead it had been
    plainly wrong, and must not lock anybody out until that time comes.
    """
    if created_at_ms is None or abs(now_ms - created_at_ms) >= WINDOW_MS:
        return None
    return math.ceil((created_at_ms + WINDOW_MS - now_ms) / 1000)


def _queue_full(name: str, owner: str, most: int) -> LimitReached:
    return LimitReached(
        f"This {owner} has {most} tasks waiting, as many as it may. Wait for some to start, or cancel some.",
        code=ErrorCode.QUEUE_FULL,
        limit=LimitState(name, most, 0, 0, _QUEUE_RETRY_S),
    )
