"""Admission: one transaction that takes a request whole or leaves no trace of it.

Limits are counted from the task rows themselves inside the transaction that adds one, so a burst cannot
slip through together and a refused request uses up nothing.
"""

import math
from dataclasses import dataclass, replace

from gateway.accounts.calendar import periods_at
from gateway.db import accounts, ledger, tasks
from gateway.db.accounts import Caller
from gateway.db.engine import Tx
from gateway.db.tasks import Windows
from gateway.errors import BudgetSpent, ErrorCode, LimitReached, LimitState, Unauthorized
from gateway.model import Task, Tenant, TenantStatus
from gateway.tasks import charging
from gateway.tasks.budget import check_budgets, nearly_spent, price_for

WINDOW_S = 60
_WINDOW_MS = WINDOW_S * 1000


@dataclass(frozen=True, slots=True)
class Defaults:
    """Limits of keys and tenants that name none of their own."""

    rpm: int
    max_queued: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The task as it was written, the key's rate after it, and which budgets it brought near their end."""

    task: Task
    rate: LimitState
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Passed:
    """A request that every limit allows, priced for its tenant, and what writing it takes."""

    task: Task
    tenant: Tenant
    windows: Windows
    rate: LimitState
    warnings: tuple[str, ...]


def admit(tx: Tx, task: Task, *, deadline_at_ms: int, defaults: Defaults) -> Admitted:
    """Write the task, and hold its price, if every limit allows it.

    ``task`` comes with the list price; it is written with the tenant's. Raises `LimitReached` or
    `BudgetSpent` naming the limit and when to come back, `Unauthorized` when the key or its tenant has been
    stopped since it was checked.
    """
    priced, caller = _price(tx, task)
    passed = _check(tx, priced, caller, defaults)
    tasks.insert_task(
        tx,
        passed.task,
        key_seq=passed.windows.key_newest + 1,
        tenant_seq=passed.windows.tenant_newest + 1,
        deadline_at_ms=deadline_at_ms,
    )
    tasks.add_event(tx, task.id, "queued", at_ms=task.created_at_ms)
    charging.hold(tx, passed.task, periods_at(task.created_at_ms, passed.tenant.zone))
    return Admitted(passed.task, passed.rate, passed.warnings)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `admit` would do: the task at its tenant's price, and the refusal if it would be refused."""

    task: Task
    refusal: LimitReached | BudgetSpent | None
    warnings: tuple[str, ...]


def consider(tx: Tx, task: Task, *, defaults: Defaults) -> Verdict:
    """What `admit` would do now, without doing it; a read transaction is enough. Raises `Unauthorized`."""
    priced, caller = _price(tx, task)
    try:
        passed = _check(tx, priced, caller, defaults)
    except (LimitReached, BudgetSpent) as refusal:
        return Verdict(priced, refusal, ())
    return Verdict(priced, None, passed.warnings)


def _price(tx: Tx, task: Task) -> tuple[Task, Caller]:
    caller = _valid(tx, task)
    clips = task.spec.sample_count
    price_micros = price_for(caller.tenant, task.price_micros // clips) * clips
    return replace(task, price_micros=price_micros), caller


def _check(tx: Tx, task: Task, caller: Caller, defaults: Defaults) -> _Passed:
    key, tenant = caller.key, caller.tenant
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
    warnings = _fit_budgets(tx, task, caller)
    remaining = max(0, rpm - windows.key_count - 1)
    reset_s = _wait_s(windows.key_oldest_at_ms, now_ms) or WINDOW_S
    return _Passed(task, tenant, windows, LimitState("key", rpm, WINDOW_S, remaining, reset_s), warnings)


def _fit_budgets(tx: Tx, task: Task, caller: Caller) -> tuple[str, ...]:
    tenant, limits = caller.tenant, caller.budgets
    # A price of nothing fits into any budget, one that is overdrawn included, and brings none nearer its end.
    if not limits or task.price_micros == 0:
        return ()
    periods = periods_at(task.created_at_ms, tenant.zone)
    balances = ledger.get_balances(tx, tenant.id, periods)
    check_budgets(
        limits, balances, price_micros=task.price_micros, now_ms=task.created_at_ms, zone=tenant.zone
    )
    return nearly_spent(limits, balances, periods, price_micros=task.price_micros)


def _valid(tx: Tx, task: Task) -> Caller:
    found = accounts.get_caller(tx, task.key_id)
    if found is None or found.key.revoked_at_ms is not None:
        raise Unauthorized("This API key was revoked; ask your platform team for another.")
    if found.tenant.status is not TenantStatus.ACTIVE:
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
