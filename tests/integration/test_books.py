"""Corrections by hand, and the ledger as its keeper reads it."""

import asyncio

import pytest

from gateway.accounts import derived
from gateway.errors import Conflict, ErrorCode, InvalidRequest, NotFound
from gateway.model import Act, Tenant
from tests.clock import SetClock
from tests.factories import ACT, NOW_MS
from tests.office import TestOffice


@pytest.fixture
async def tenant(office: TestOffice) -> Tenant:
    return await office.tenants.create(ACT, name="acme", zone="Pacific/Kiritimati")


async def spent(office: TestOffice, tenant: Tenant) -> list[int]:
    return [budget.used.spent_micros for budget in await office.tenants.list_budgets(tenant.id)]


async def refusal(awaitable) -> str:
    with pytest.raises(InvalidRequest) as caught:
        await awaitable
    return caught.value.detail


async def test_an_adjustment_stays_in_the_ledger_with_who_and_why(office: TestOffice, tenant: Tenant) -> None:
    ada = Act("cli:ada", "cli")
    await office.books.adjust(ada, tenant.id, 70_000, reason="  moved from another ")
    (row,) = await office.books.entries(tenant.id)
    entry = row.entry
    assert (entry.kind, entry.held_micros, entry.spent_micros) == ("adjust", 0, 70_000)
    assert (entry.periods.day, entry.periods.month) == ("2027-01-15", "2027-01")
    assert (entry.at_ms, entry.actor, entry.reason) == (NOW_MS, "cli:ada", "moved from another")
    assert await office.books.reconcile() == ()
    logged = (await office.acts())[-1]
    assert (logged.action, logged.act, logged.target) == ("ledger.adjust", ada, tenant.id)
    assert logged.after == {"spent_micros": 70_000, "reason": "moved from another", "entry_id": row.id}


@pytest.mark.parametrize("reason", ["", "  ", "\n\t", "x" * 501, "two\nlines"])
async def test_an_adjustment_needs_a_reason(office: TestOffice, tenant: Tenant, reason: str) -> None:
    assert "needs a reason" in await refusal(office.books.adjust(ACT, tenant.id, 1, reason=reason))
    assert await spent(office, tenant) == [0, 0, 0]


async def test_an_adjustment_of_nothing_is_refused(office: TestOffice, tenant: Tenant) -> None:
    assert "changes nothing" in await refusal(office.books.adjust(ACT, tenant.id, 0, reason="goodwill"))


async def test_a_credit_is_at_most_what_was_spent_in_all(
    office: TestOffice, tenant: Tenant, clock: SetClock
) -> None:
    await office.books.adjust(ACT, tenant.id, 70_000, reason="moved from another")
    clock.advance(86_400)
    credit = office.books.adjust(ACT, tenant.id, -70_001, reason="goodwill")
    assert "has spent $0.07 in all" in await refusal(credit)
    await office.books.adjust(ACT, tenant.id, -70_000, reason="goodwill")
    assert await spent(office, tenant) == [-70_000, 0, 0]
    assert await office.books.reconcile() == ()


async def test_a_named_adjustment_is_made_once(office: TestOffice, tenant: Tenant, clock: SetClock) -> None:
    """I6: when its answer was lost it is sent again, and must not credit twice."""
    made = await office.books.adjust(ACT, tenant.id, 70_000, reason="moved", name="n")
    clock.advance(86_400)
    again = await office.books.adjust(ACT, tenant.id, 70_000, reason=" moved ", name="n")
    assert (again.row, made.repeated, again.repeated) == (made.row, False, True)
    assert await office.books.entries(tenant.id) == (made.row,)
    assert [act.action for act in await office.acts()] == ["tenant.create", "ledger.adjust"]
    other = await office.books.adjust(ACT, tenant.id, 70_000, reason="moved", name="m")
    assert other.row.id != made.row.id
    assert await office.books.reconcile() == ()


async def test_fifty_of_one_name_at_once_make_one_entry(office: TestOffice, tenant: Tenant) -> None:
    """I3."""
    found = await asyncio.gather(
        *(office.books.adjust(ACT, tenant.id, 70_000, reason="moved", name="n") for _ in range(50))
    )
    assert sum(not each.repeated for each in found) == 1
    assert await spent(office, tenant) == [70_000] * 3


@pytest.mark.parametrize(("micros", "reason"), [(70_001, "moved"), (70_000, "moved back")])
async def test_another_adjustment_of_the_same_name_is_refused(
    office: TestOffice, tenant: Tenant, micros: int, reason: str
) -> None:
    await office.books.adjust(ACT, tenant.id, 70_000, reason="moved", name="n")
    with pytest.raises(Conflict) as caught:
        await office.books.adjust(ACT, tenant.id, micros, reason=reason, name="n")
    assert caught.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert await spent(office, tenant) == [70_000] * 3


async def test_a_name_belongs_to_its_tenant_and_a_refusal_leaves_it_free(
    office: TestOffice, tenant: Tenant
) -> None:
    assert "has spent" in await refusal(office.books.adjust(ACT, tenant.id, -1, reason="x", name="n"))
    other = await office.tenants.create(ACT, name="other")
    for whose in (tenant, other):
        assert not (await office.books.adjust(ACT, whose.id, 5, reason="x", name="n")).repeated


async def test_a_reason_that_quotes_a_name_is_not_taken_for_it(office: TestOffice, tenant: Tenant) -> None:
    quoted = derived.name_sha256("n")
    await office.books.adjust(ACT, tenant.id, 5, reason=quoted)
    assert not (await office.books.adjust(ACT, tenant.id, 5, reason=quoted, name="n")).repeated


@pytest.mark.parametrize("name", ["", "n" * 256])
async def test_a_name_has_a_length(office: TestOffice, tenant: Tenant, name: str) -> None:
    assert "Idempotency-Key" in await refusal(office.books.adjust(ACT, tenant.id, 1, reason="x", name=name))


async def test_the_audit_log_of_nobody_is_told_as_such(office: TestOffice) -> None:
    with pytest.raises(NotFound):
        await office.books.audit_log("ten_x")


async def test_entries_are_read_newest_first_and_in_pages(
    office: TestOffice, tenant: Tenant, clock: SetClock
) -> None:
    other = await office.tenants.create(ACT, name="other")
    for amount in range(1, 8):
        await office.books.adjust(ACT, tenant.id, amount, reason="test")
        await office.books.adjust(ACT, other.id, 100 * amount, reason="test")
        clock.advance(amount % 2)
    for whose, expected in (
        (tenant.id, [7, 6, 5, 4, 3, 2, 1]),
        (None, [700, 7, 600, 6, 500, 5, 400, 4, 300, 3, 200, 2, 100, 1]),
    ):
        seen = []
        while page := await office.books.entries(whose, before_id=seen[-1].id if seen else None, limit=3):
            seen += page
        assert [row.entry.spent_micros for row in seen] == expected


async def test_the_books_of_two_clocks_stay_readable(
    office: TestOffice, tenant: Tenant, clock: SetClock
) -> None:
    """A clock that was set back puts entries between others; none is lost or told twice."""
    for amount, shift_s in ((1, 0), (2, -3600), (3, 1800)):
        clock.advance(shift_s)
        await office.books.adjust(ACT, tenant.id, amount, reason="test")
    seen = []
    while page := await office.books.entries(tenant.id, before_id=seen[-1].id if seen else None, limit=1):
        seen += page
    assert [row.entry.spent_micros for row in seen] == [1, 3, 2]
