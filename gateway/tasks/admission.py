"""Admission: one transaction that takes a request whole or leaves no trace of it.

Limits are counted from the task rows themselves inside the transaction that adds one, with the tenant locked,
so a burst cannot slip through together and a refused request uses up nothing.
"""

from dataclasses import dataclass, replace

from gateway.accounts.authentication import usable_caller
from gateway.accounts.calendar import periods_at
from gateway.db import idempotency, ledger, tasks
from gateway.db.accounts import Caller
from gateway.db.engine import Tx
from gateway.db.idempotency import RequestName
from gateway.db.tasks import Windows
from gateway.errors import BudgetSpent, Conflict, ErrorCode, Forbidden, LimitReached, LimitState
from gateway.model import Task, Tenant, TenantStatus
from gateway.tasks import charging, limits
from gateway.tasks.budget import check_budgets, nearly_spent, price_for
from gateway.tasks.planning import format_of
from gateway.webhooks.outbox import BudgetAlert


@dataclass(frozen=True, slots=True)
class Defaults:
    """Limits of keys and tenants that name none of their own."""

    rpm: int
    max_queued: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The task as it was written, the key's rate after it, and the budgets that it brought near their end.

    ``joined`` when the request's name had been given before: then the task is the one of that time, and no
    limit was looked at.
    """

    task: Task
    rate: LimitState | None
    alerts: tuple[BudgetAlert, ...] = ()
    joined: bool = False


@dataclass(frozen=True, slots=True)
class _Passed:
    """A request that every limit allows, priced for its tenant, and what writing it takes."""

    task: Task
    tenant: Tenant
    windows: Windows
    rate: LimitState
    alerts: tuple[BudgetAlert, ...]


def admit(
    tx: Tx, task: Task, *, deadline_at_ms: int, defaults: Defaults, name: RequestName | None = None
) -> Admitted:
    """Write the task, and hold its price, if every limit allows it.

    ``task`` comes with the list price; it is written with the tenant's. Raises `LimitReached` or
    `BudgetSpent` naming the limit and when to come back, `Unauthorized` when the key has been stopped since
    it was checked, `Forbidden` for what it does not cover, `Conflict` when its name was given to another
    request or to a task that was deleted. A refusal leaves the name free.
    """
    priced, caller = _price(tx, task, lock=True)
    if name is not None and (found := idempotency.find_named(tx, task.tenant_id, name)) is not None:
        joined = tasks.get_tasks(tx, [found.task_id]).get(found.task_id)
        if joined is None:
            raise _task_deleted()
        if found.fingerprint != name.fingerprint:
            raise _name_taken()
        return Admitted(joined, None, joined=True)
    passed = _check(tx, priced, caller, defaults)
    new = replace(passed.task, start_by_at_ms=_start_by_ms(passed.task, passed.tenant, deadline_at_ms))
    tasks.insert_task(
        tx,
        new,
        key_seq=passed.windows.key_newest + 1,
        tenant_seq=passed.windows.tenant_newest + 1,
        deadline_at_ms=deadline_at_ms,
    )
    tasks.add_event(tx, task.id, "queued", at_ms=task.created_at_ms)
    charging.hold(tx, new, periods_at(task.created_at_ms, passed.tenant.zone))
    if name is not None:
        idempotency.keep_name(tx, task.tenant_id, name, task_id=task.id, now_ms=task.created_at_ms)
    return Admitted(new, passed.rate, passed.alerts)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `admit` would do: the task at its tenant's price, and the refusal if it would be refused."""

    task: Task
    refusal: LimitReached | BudgetSpent | Forbidden | None
    alerts: tuple[BudgetAlert, ...]


def consider(tx: Tx, task: Task, *, defaults: Defaults) -> Verdict:
    """What `admit` would do now, without doing it; a read transaction is enough. Raises `Unauthorized`."""
    priced, caller = _price(tx, task)
    try:
        passed = _check(tx, priced, caller, defaults)
    except (LimitReached, BudgetSpent, Forbidden) as refusal:
        return Verdict(priced, refusal, ())
    return Verdict(priced, None, passed.alerts)


def _price(tx: Tx, task: Task, *, lock: bool = False) -> tuple[Task, Caller]:
    caller = usable_caller(tx, task.key_id, task.created_at_ms, lock=lock)
    clips = task.spec.sample_count
    price_micros = price_for(caller.tenant, task.price_micros // clips) * clips
    return replace(task, price_micros=price_micros), caller


def _start_by_ms(task: Task, tenant: Tenant, deadline_at_ms: int) -> int | None:
    """When a task that has not started is given up: what it says itself, or its tenant; never later."""
    if task.start_by_at_ms is not None:
        return min(task.start_by_at_ms, deadline_at_ms)
    if tenant.start_within_s is not None:
        return min(task.created_at_ms + tenant.start_within_s * 1000, deadline_at_ms)
    return None


def _check(tx: Tx, task: Task, caller: Caller, defaults: Defaults) -> _Passed:
    _check_coverage(task, caller)
    key, tenant = caller.key, caller.tenant
    now_ms = task.created_at_ms
    rpm = key.rpm or defaults.rpm
    windows = tasks.read_windows(
        tx,
        key_id=key.id,
        key_rpm=rpm,
        tenant_id=tenant.id,
        tenant_rpm=tenant.rpm,
        since_ms=now_ms - limits.WINDOW_MS,
    )
    limits.check_rates(windows, now_ms, key_rpm=rpm, tenant_rpm=tenant.rpm)
    limits.check_queues(tx, windows, key, tenant, tenant.max_queued or defaults.max_queued)
    alerts = _fit_budgets(tx, task, caller)
    return _Passed(task, tenant, windows, limits.rate_after(windows, now_ms, rpm), alerts)


def _check_coverage(task: Task, caller: Caller) -> None:
    """Whether the key and its tenant may have this at all; whatever was true when the key was read."""
    key, tenant = caller.key, caller.tenant
    if tenant.status is not TenantStatus.ACTIVE:
        raise Forbidden(
            "This tenant is suspended; ask your platform team. Running tasks are finished and can be read.",
            code=ErrorCode.TENANT_SUSPENDED,
        )
    for owner, models in (("tenant", tenant.allowed_models), ("key", key.allowed_models)):
        if models is not None and task.model not in models:
            raise Forbidden(
                f"This {owner} may not use {task.model}; it may use: {', '.join(models) or 'no model'}."
            )
    audio_format = format_of(task.model, task.spec)
    if tenant.allowed_formats is not None and audio_format not in tenant.allowed_formats:
        raise Forbidden(
            f"This tenant may not have audio as {audio_format}; outputFormat may be: "
            f"{', '.join(tenant.allowed_formats) or 'nothing'}."
        )


def _fit_budgets(tx: Tx, task: Task, caller: Caller) -> tuple[BudgetAlert, ...]:
    tenant, budgets = caller.tenant, caller.budgets
    # A price of nothing fits into any budget, one that is overdrawn included, and brings none nearer its end.
    if not budgets or task.price_micros == 0:
        return ()
    periods = periods_at(task.created_at_ms, tenant.zone)
    balances = ledger.get_balances(tx, tenant.id, periods)
    check_budgets(
        budgets, balances, price_micros=task.price_micros, now_ms=task.created_at_ms, zone=tenant.zone
    )
    return nearly_spent(
        budgets, balances, periods, price_micros=task.price_micros, warn_percents=tenant.warn_percents
    )


def _task_deleted() -> Conflict:
    return Conflict(
        "This Idempotency-Key was sent before, and the task that came of it was deleted. Send a new key to "
        "have it made again."
    )


def _name_taken() -> Conflict:
    return Conflict(
        "This Idempotency-Key was sent with another request before; send a new key with a new request.",
        code=ErrorCode.IDEMPOTENCY_KEY_REUSED,
    )
