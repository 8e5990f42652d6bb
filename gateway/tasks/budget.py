"""Prices and budgets: what clips cost a tenant, and whether that still fits. Pure."""

from collections.abc import Mapping
from enum import StrEnum

from gateway.accounts.calendar import local_time, periods_at, resets_at_ms
from gateway.db.ledger import Balance
from gateway.errors import BudgetSpent, BudgetState
from gateway.model import BudgetWindow, Periods, Task, TaskState, Tenant
from gateway.units import format_usd
from gateway.webhooks.outbox import BudgetAlert

_EMPTY = Balance()
_PPM = 1_000_000
# The one that bars the way longest comes first: coming back must not meet another that was spent as well.
_LONGEST_FIRST = (BudgetWindow.TOTAL, BudgetWindow.MONTH, BudgetWindow.DAY)


def price_for(tenant: Tenant, list_price_micros: int) -> int:
    """The tenant's price of one clip: the list price times its multiplier, rounded half up."""
    return (list_price_micros * tenant.price_ppm + _PPM // 2) // _PPM


def charge_for(task: Task, state: TaskState, delivered: int) -> int:
    """What a task costs that ends so: each clip delivered by one that succeeded, nothing else.

    Exact, since a task's price is a whole number for each of its clips.
    """
    return task.price_micros // task.spec.sample_count * delivered if state is TaskState.SUCCEEDED else 0


class CancelCharge(StrEnum):
    """What is charged for a task that is canceled while a call for it is under way."""

    FULL = "full"  # its price: the provider may bill what it was asked for
    DELIVERED = "delivered"  # the clips that were stored by then
    FREE = "free"


def charge_for_canceled(task: Task, charge: CancelCharge, *, delivered: int, under_way: bool) -> int:
    """What canceling costs. ``under_way`` says that a call was, and may have to be paid.

    Without one only the clips that are there are charged, as when they had been all there is.
    """
    if charge is CancelCharge.FREE:
        return 0
    if charge is CancelCharge.FULL and under_way:
        return task.price_micros
    return charge_for(task, TaskState.SUCCEEDED, delivered)


def check_budgets(
    limits: Mapping[BudgetWindow, int],
    balances: Mapping[str, Balance],
    *,
    price_micros: int,
    now_ms: int,
    zone: str,
) -> None:
    """Raises `BudgetSpent` for the budget, of those that the price does not fit into, that lasts longest."""
    periods = periods_at(now_ms, zone)
    for window in _LONGEST_FIRST:
        if window not in limits:
            continue
        balance = balances.get(periods.named(window), _EMPTY)
        if balance.used_micros + price_micros <= limits[window]:
            continue
        # A price above the whole budget will not fit later either.
        reset_ms = resets_at_ms(window, now_ms, zone) if price_micros <= limits[window] else None
        state = BudgetState(
            window=window.value,
            limit_micros=limits[window],
            held_micros=balance.held_micros,
            spent_micros=balance.spent_micros,
            price_micros=price_micros,
            resets_at_ms=reset_ms,
        )
        retry_after_s = None if reset_ms is None else (reset_ms - now_ms + 999) // 1000
        raise BudgetSpent(_explain(state, zone), budget=state, retry_after_s=retry_after_s)


def nearly_spent(
    limits: Mapping[BudgetWindow, int],
    balances: Mapping[str, Balance],
    periods: Periods,
    *,
    price_micros: int,
    warn_percents: tuple[int, ...],
) -> tuple[BudgetAlert, ...]:
    """Each budget that stands at one of these shares once this price is held, at the highest of them."""
    found = []
    for window, limit_micros in limits.items():
        balance = balances.get(periods.named(window), _EMPTY)
        held_micros = balance.held_micros + price_micros
        used_micros = balance.spent_micros + held_micros
        reached = [percent for percent in warn_percents if used_micros * 100 >= percent * limit_micros]
        if reached:
            found.append(
                BudgetAlert(
                    window=window.value,
                    period=periods.named(window),
                    percent=max(reached),
                    limit_micros=limit_micros,
                    spent_micros=balance.spent_micros,
                    held_micros=held_micros,
                )
            )
    return tuple(found)


def describe(alert: BudgetAlert) -> str:
    used_micros = alert.spent_micros + alert.held_micros
    return (
        f"{alert.percent} % of the {alert.window} budget is used: "
        f"${format_usd(used_micros)} of ${format_usd(alert.limit_micros)} is spent or held."
    )


def _explain(state: BudgetState, zone: str) -> str:
    left_micros = max(0, state.limit_micros - state.held_micros - state.spent_micros)
    again = (
        f"It starts anew at {local_time(state.resets_at_ms, zone)}; until then ask for fewer clips, or your"
        if state.resets_at_ms is not None
        else "Ask for fewer clips, or your"
    )
    return (
        f"This request costs ${format_usd(state.price_micros)}, and of the {state.window} budget of "
        f"${format_usd(state.limit_micros)} there is ${format_usd(left_micros)} left: "
        f"${format_usd(state.spent_micros)} is spent, ${format_usd(state.held_micros)} held for tasks that "
        f"have not ended. {again} platform team for more."
    )
