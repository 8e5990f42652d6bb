"""Prices and budgets: exact to the millionth of a dollar, on either side of every edge."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts.calendar import periods_at
from gateway.db.ledger import Balance
from gateway.errors import BudgetSpent
from gateway.model import BudgetWindow, MusicSpec, Periods, TaskState
from gateway.tasks.budget import (
    CancelCharge,
    charge_for,
    charge_for_canceled,
    check_budgets,
    describe,
    nearly_spent,
    price_for,
)
from tests.factories import NOW_MS, a_key, a_task, a_tenant

DAY, MONTH, TOTAL = BudgetWindow.DAY, BudgetWindow.MONTH, BudgetWindow.TOTAL
PERIODS = periods_at(NOW_MS, "UTC")
MICROS = st.integers(0, 10**12)


def check(
    limits: dict[BudgetWindow, int], *, held: int = 0, spent: int = 0, price: int, zone: str = "UTC"
) -> BudgetSpent | None:
    """The refusal, where every period stands at the same balance."""
    periods = periods_at(NOW_MS, zone)
    balances = {period: Balance(held, spent) for period in periods.all()}
    try:
        check_budgets(limits, balances, price_micros=price, now_ms=NOW_MS, zone=zone)
    except BudgetSpent as refusal:
        return refusal
    return None


def warnings(limits: dict[BudgetWindow, int], used: int, price: int) -> tuple[str, ...]:
    balances = {period: Balance(used // 2, used - used // 2) for period in PERIODS.all()}
    found = nearly_spent(limits, balances, PERIODS, price_micros=price, warn_percents=(80, 100))
    return tuple(map(describe, found))


# Prices


@given(MICROS, st.integers(0, 10**9))
def test_a_price_is_the_product_rounded_half_up(list_price: int, ppm: int) -> None:
    exact = Fraction(list_price * ppm, 1_000_000)
    price = price_for(a_tenant(price_ppm=ppm), list_price)
    assert Fraction(-1, 2) < price - exact <= Fraction(1, 2)


@given(MICROS)
def test_without_a_multiplier_the_price_is_the_list_price(list_price: int) -> None:
    assert price_for(a_tenant(), list_price) == list_price


@pytest.mark.parametrize(
    ("ppm", "price"), [(0, 0), (500_000, 30_000), (1_250_000, 75_000), (8, 0), (9, 1), (1_000_008, 60_000)]
)
def test_prices_of_a_six_cent_clip(ppm: int, price: int) -> None:
    assert price_for(a_tenant(price_ppm=ppm), 60_000) == price


@pytest.mark.parametrize("state", list(TaskState))
def test_only_success_costs_and_only_what_was_delivered(state: TaskState) -> None:
    task = a_task(a_key(a_tenant()), spec=MusicSpec("x", sample_count=3), price_micros=100_002)
    charges = [charge_for(task, state, delivered) for delivered in range(4)]
    assert charges == ([0, 33_334, 66_668, 100_002] if state is TaskState.SUCCEEDED else [0] * 4)


@pytest.mark.parametrize(
    ("charge", "under_way", "charges"),
    [
        (CancelCharge.FULL, True, [100_002, 100_002, 100_002]),
        (CancelCharge.FULL, False, [0, 33_334, 66_668]),
        (CancelCharge.DELIVERED, True, [0, 33_334, 66_668]),
        (CancelCharge.DELIVERED, False, [0, 33_334, 66_668]),
        (CancelCharge.FREE, True, [0, 0, 0]),
        (CancelCharge.FREE, False, [0, 0, 0]),
    ],
)
def test_what_canceling_costs(charge: CancelCharge, under_way: bool, charges: list[int]) -> None:
    task = a_task(a_key(a_tenant()), spec=MusicSpec("x", sample_count=3), price_micros=100_002)
    assert [
        charge_for_canceled(task, charge, delivered=delivered, under_way=under_way) for delivered in range(3)
    ] == charges


# Budgets


@pytest.mark.parametrize("window", list(BudgetWindow))
def test_a_budget_is_for_all_of_it_and_not_a_millionth_more(window: BudgetWindow) -> None:
    limits = {window: 1_000_000}
    assert check(limits, held=300_000, spent=640_000, price=59_999) is None
    assert check(limits, held=300_000, spent=640_000, price=60_000) is None
    assert check(limits, held=300_000, spent=640_000, price=60_001) is not None


def test_without_a_budget_everything_fits() -> None:
    assert check({}, spent=10**15, price=10**15) is None


def test_nothing_fits_into_what_is_free_only() -> None:
    assert check({TOTAL: 0}, price=0) is None
    assert check({TOTAL: 0}, price=1) is not None


def test_a_credit_makes_room() -> None:
    assert check({DAY: 100}, spent=-50, price=150) is None
    assert check({DAY: 100}, spent=-50, price=151) is not None


def test_the_refusal_says_what_is_left_and_when_it_starts_anew() -> None:
    refusal = check({MONTH: 150_000}, held=60_000, spent=60_000, price=60_000, zone="Europe/Berlin")
    assert refusal is not None
    budget = refusal.budget
    assert (budget.window, budget.limit_micros, budget.price_micros) == ("month", 150_000, 60_000)
    assert (budget.held_micros, budget.spent_micros) == (60_000, 60_000)
    assert budget.resets_at_ms == 1_801_436_400_000  # 2027-02-01T00:00+01:00
    assert refusal.retry_after_s == (1_801_436_400_000 - NOW_MS) // 1000
    for told in ("costs $0.06", "budget of $0.15", "$0.03 left", "2027-02-01T00:00+01:00"):
        assert told in refusal.detail


def test_of_several_the_one_that_lasts_longest_is_told() -> None:
    """Coming back tomorrow must not meet the month's budget."""
    limits = {DAY: 100, MONTH: 100, TOTAL: 1000}
    refusal = check(limits, spent=90, price=11)
    assert refusal is not None
    assert refusal.budget.window == "month"
    refusal = check({**limits, TOTAL: 100}, spent=90, price=11)
    assert refusal is not None
    assert (refusal.budget.window, refusal.retry_after_s) == ("total", None)


def test_a_price_above_the_whole_budget_is_not_told_to_come_back() -> None:
    refusal = check({DAY: 100}, price=101)
    assert refusal is not None
    assert (refusal.retry_after_s, refusal.budget.resets_at_ms) == (None, None)
    assert "anew" not in refusal.detail


def test_what_is_overdrawn_has_nothing_left() -> None:
    refusal = check({DAY: 100}, spent=200, price=1)
    assert refusal is not None
    assert "$0.00 left" in refusal.detail


def test_each_period_counts_for_itself() -> None:
    balances = {"2027-01-14": Balance(0, 100), PERIODS.month: Balance(0, 100), "total": Balance(0, 100)}
    check_budgets({DAY: 100}, balances, price_micros=100, now_ms=NOW_MS, zone="UTC")


@given(MICROS, MICROS, MICROS, MICROS)
def test_what_is_admitted_never_overshoots(limit: int, held: int, spent: int, price: int) -> None:
    assert (check({DAY: limit}, held=held, spent=spent, price=price) is None) == (
        held + spent + price <= limit
    )


# Warnings


@pytest.mark.parametrize(
    ("used", "price", "told"),
    [
        (0, 79_999, None),
        (0, 80_000, "80 %"),
        (79_999, 1, "80 %"),
        (85_000, 1, "80 %"),
        (0, 99_999, "80 %"),
        (99_999, 1, "100 %"),
        (0, 100_000, "100 %"),
    ],
)
def test_warnings_begin_at_a_share_and_stay(used: int, price: int, told: str | None) -> None:
    found = warnings({MONTH: 100_000}, used, price)
    assert [text.split(" of ")[0] for text in found] == ([told] if told else [])


def test_each_budget_warns_for_itself_with_its_amounts() -> None:
    assert warnings({DAY: 100_000, MONTH: 10**9, TOTAL: 150_000}, 60_000, 60_000) == (
        "100 % of the day budget is used: $0.12 of $0.10 is spent or held.",
        "80 % of the total budget is used: $0.12 of $0.15 is spent or held.",
    )


def test_periods_have_names() -> None:
    assert Periods("2027-01-15", "2027-01").all() == ("2027-01-15", "2027-01", "total")
