"""What an operator does with tenants, and what the audit log keeps of it."""

import pytest

from gateway.accounts.tenants import Budget
from gateway.db.ledger import Balance
from gateway.errors import Conflict, ErrorCode, GatewayError, NotFound
from gateway.model import BudgetWindow, Member, Place, Role, Tenant, TenantStatus
from tests.clock import SetClock
from tests.factories import ACT, NOW_MS
from tests.office import TestOffice, faults

DAY, MONTH, TOTAL = BudgetWindow.DAY, BudgetWindow.MONTH, BudgetWindow.TOTAL


def place(tenant: Tenant) -> Place:
    """Where a page ends whose last tenant this is."""
    return Place(tenant.created_at_ms, tenant.id)


async def test_a_tenant_is_kept_as_it_was_made(office: TestOffice) -> None:
    terms = {
        "rpm": 5,
        "max_concurrent": 2,
        "max_queued": 7,
        "weight": 3,
        "zone": "America/St_Johns",
        "price_ppm": 1_250_000,
        "allowed_models": ("lyria-002",),
        "allowed_formats": ("wav", "mp3"),
        "retention_days": 30,
        "start_within_s": 90,
        "warn_percents": (50, 90),
    }
    tenant = await office.tenants.create(ACT, name="  acme  ", **terms)
    assert tenant == Tenant(tenant.id, "acme", TenantStatus.ACTIVE, NOW_MS, **terms)
    assert tenant.id.startswith("ten_")
    assert await office.tenants.list() == (tenant,)
    assert await office.tenants.get(tenant.id) == tenant


async def test_tenants_are_listed_oldest_first_and_in_pages(office: TestOffice, clock: SetClock) -> None:
    made = []
    for name in ("c", "a", "b"):
        made.append(await office.tenants.create(ACT, name=name))
        clock.advance(1)
    assert await office.tenants.list() == tuple(made)
    assert await office.tenants.list(limit=2) == tuple(made[:2])
    assert await office.tenants.list(after=place(made[1]), limit=2) == (made[2],)
    assert await office.tenants.list(after=place(made[2])) == ()


async def test_tenants_made_in_one_millisecond_are_paged_without_loss(office: TestOffice) -> None:
    made = {(await office.tenants.create(ACT, name=str(number))).id for number in range(7)}
    seen: list[Tenant] = []
    while page := await office.tenants.list(after=place(seen[-1]) if seen else None, limit=3):
        seen += page
    assert len(seen) == 7
    assert {tenant.id for tenant in seen} == made


async def test_tenants_are_found_by_a_part_of_their_name(office: TestOffice) -> None:
    for name in ("Team Radio", "Team 100%", "Video"):
        await office.tenants.create(ACT, name=name)
    assert [t.name for t in await office.tenants.list(name_part="RADIO")] == ["Team Radio"]
    assert [t.name for t in await office.tenants.list(name_part="%")] == ["Team 100%"]


async def test_a_tenant_needs_a_name_of_its_own(office: TestOffice) -> None:
    first = await office.tenants.create(ACT, name="acme")
    other = await office.tenants.create(ACT, name="other")
    with pytest.raises(Conflict, match="already"):
        await office.tenants.create(ACT, name=" acme ")
    with pytest.raises(Conflict, match="already"):
        await office.tenants.update(ACT, other.id, name="acme")
    assert await office.tenants.update(ACT, first.id, name="acme") == first
    assert len(await office.tenants.list()) == 2


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "two\nlines", "\x1b[31mred", "null\x00"])
async def test_a_name_that_cannot_be_shown_is_refused(office: TestOffice, name: str) -> None:
    assert await faults(office.tenants.create(ACT, name=name)) == {"name"}
    tenant = await office.tenants.create(ACT, name="acme")
    assert await faults(office.tenants.update(ACT, tenant.id, name=name)) == {"name"}


async def test_names_may_be_in_any_script(office: TestOffice) -> None:
    assert (await office.tenants.create(ACT, name="Équipe 音楽")).name == "Équipe 音楽"


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": "Europe"}, "zone"),
        ({"price_ppm": -1}, "price_ppm"),
        ({"rpm": 0}, "rpm"),
        ({"max_concurrent": -3}, "max_concurrent"),
        ({"max_queued": 10**9}, "max_queued"),
        ({"weight": 0}, "weight"),
        ({"retention_days": 0}, "retention_days"),
        ({"start_within_s": 4}, "start_within_s"),
        ({"start_within_s": 86_401}, "start_within_s"),
        ({"allowed_models": ("gpt-7",)}, "allowed_models"),
        ({"allowed_formats": ("tape",)}, "allowed_formats"),
        ({"warn_percents": (80, 101)}, "warn_percents"),
        ({"budgets": {DAY: -1}}, "budgets.day"),
        ({"budgets": {DAY: 10**16}}, "budgets.day"),
    ],
)
async def test_terms_that_make_no_sense_are_refused(office: TestOffice, terms: dict, field: str) -> None:
    assert await faults(office.tenants.create(ACT, name="acme", **terms)) == {field}
    assert await office.tenants.list() == ()
    assert await office.acts() == []


async def test_every_fault_is_named_at_once(office: TestOffice) -> None:
    found = await faults(office.tenants.create(ACT, name="", zone="x", rpm=0, allowed_models=("y",)))
    assert found == {"name", "zone", "rpm", "allowed_models"}


async def test_a_change_leaves_what_it_does_not_name(office: TestOffice) -> None:
    tenant = await office.tenants.create(ACT, name="acme", rpm=5, max_queued=7)
    changed = await office.tenants.update(ACT, tenant.id, rpm=None, weight=2)
    assert (changed.rpm, changed.max_queued, changed.weight, changed.name) == (None, 7, 2, "acme")
    assert await office.tenants.get(tenant.id) == changed


async def test_a_tenant_is_suspended_and_activated_again(office: TestOffice) -> None:
    tenant = await office.tenants.create(ACT, name="acme")
    assert (await office.tenants.suspend(ACT, tenant.id)).status is TenantStatus.SUSPENDED
    assert (await office.tenants.suspend(ACT, tenant.id)).status is TenantStatus.SUSPENDED
    assert (await office.tenants.activate(ACT, tenant.id)).status is TenantStatus.ACTIVE
    assert [entry.action for entry in await office.acts()] == [
        "tenant.create",
        "tenant.suspend",
        "tenant.activate",
    ]


# Budgets


async def used(office: TestOffice, tenant_id: str) -> list[tuple[int, int]]:
    budgets = await office.tenants.list_budgets(tenant_id)
    return [(budget.used.held_micros, budget.used.spent_micros) for budget in budgets]


async def test_budgets_are_kept_with_the_moment_they_start_anew(office: TestOffice) -> None:
    tenant = await office.tenants.create(ACT, name="acme", budgets={DAY: 5_000_000, TOTAL: 0})
    day, month, total = await office.tenants.list_budgets(tenant.id)
    assert (day.window, day.limit_micros, day.used) == (DAY, 5_000_000, Balance())
    assert (month.window, month.limit_micros) == (MONTH, None)
    assert total == Budget(TOTAL, 0, Balance(), None)
    assert 0 < day.resets_at_ms - NOW_MS <= 86_400_000 < month.resets_at_ms - NOW_MS


async def test_budgets_are_changed_one_by_one_and_what_was_used_stays(office: TestOffice) -> None:
    """B13: editing a limit never resets usage."""
    tenant = await office.tenants.create(ACT, name="acme", budgets={DAY: 1, MONTH: 2})
    await office.books.adjust(ACT, tenant.id, 500, reason="moved from another")
    changed = await office.tenants.set_budgets(ACT, tenant.id, {DAY: None, TOTAL: 3})
    assert [budget.limit_micros for budget in changed] == [None, 2, 3]
    assert changed == await office.tenants.list_budgets(tenant.id)
    assert await used(office, tenant.id) == [(0, 500)] * 3


async def test_a_budget_below_nothing_changes_none(office: TestOffice) -> None:
    tenant = await office.tenants.create(ACT, name="acme", budgets={DAY: 1})
    assert await faults(office.tenants.set_budgets(ACT, tenant.id, {DAY: None, MONTH: -1})) == {
        "budgets.month"
    }
    assert [b.limit_micros for b in await office.tenants.list_budgets(tenant.id)] == [1, None, None]


# People


async def test_people_have_one_role_each_and_are_known_without_regard_to_case(office: TestOffice) -> None:
    tenant = await office.tenants.create(ACT, name="acme")
    ada = await office.tenants.put_member(ACT, tenant.id, " Ada@Example.com ", Role.VIEWER)
    assert ada == Member(tenant.id, "ada@example.com", Role.VIEWER, NOW_MS)
    promoted = await office.tenants.put_member(ACT, tenant.id, "ada@example.COM", Role.OWNER)
    bob = await office.tenants.put_member(ACT, tenant.id, "bob@example.com", Role.DEVELOPER)
    assert await office.tenants.list_members(tenant.id) == (promoted, bob)
    await office.tenants.remove_member(ACT, tenant.id, "ADA@example.com")
    assert await office.tenants.list_members(tenant.id) == (bob,)
    with pytest.raises(NotFound, match="not a member"):
        await office.tenants.remove_member(ACT, tenant.id, "ada@example.com")


@pytest.mark.parametrize(
    "email", ["", "ada", "ada@", "@example.com", "a b@example.com", "ada@host", "x" * 300]
)
async def test_an_address_that_is_none_is_refused(office: TestOffice, email: str) -> None:
    tenant = await office.tenants.create(ACT, name="acme")
    assert await faults(office.tenants.put_member(ACT, tenant.id, email, Role.OWNER)) == {"email"}


async def test_somebody_may_belong_to_several_tenants(office: TestOffice) -> None:
    for name, role in (("a", Role.OWNER), ("b", Role.VIEWER)):
        tenant = await office.tenants.create(ACT, name=name)
        await office.tenants.put_member(ACT, tenant.id, "ada@example.com", role)
        assert [m.role for m in await office.tenants.list_members(tenant.id)] == [role]


# What the log keeps


async def test_a_change_is_logged_with_what_it_changed(office: TestOffice, clock: SetClock) -> None:
    tenant = await office.tenants.create(ACT, name="acme", rpm=5, budgets={DAY: 7})
    clock.advance(1)
    await office.tenants.update(ACT, tenant.id, rpm=9, weight=2)
    await office.tenants.set_budgets(ACT, tenant.id, {DAY: 8, MONTH: 9})
    await office.tenants.put_member(ACT, tenant.id, "ada@example.com", Role.VIEWER)
    await office.tenants.put_member(ACT, tenant.id, "ada@example.com", Role.OWNER)
    await office.tenants.remove_member(ACT, tenant.id, "ada@example.com")
    created, budgeted, updated, *rest = await office.acts()
    assert (created.action, created.before, created.after["rpm"]) == ("tenant.create", None, 5)
    assert (created.act, created.tenant_id, created.target) == (ACT, tenant.id, tenant.id)
    assert budgeted.after == {"day": 7}
    assert (updated.before, updated.after) == ({"rpm": 5, "weight": 1}, {"rpm": 9, "weight": 2})
    assert updated.at_ms == NOW_MS + 1000
    assert [(e.action, e.target, e.before, e.after) for e in rest] == [
        ("tenant.budgets", tenant.id, {"day": 7, "month": None}, {"day": 8, "month": 9}),
        ("member.put", "ada@example.com", None, {"role": "viewer"}),
        ("member.put", "ada@example.com", {"role": "viewer"}, {"role": "owner"}),
        ("member.remove", "ada@example.com", {"role": "owner"}, None),
    ]


async def test_what_changes_nothing_is_not_logged(office: TestOffice) -> None:
    tenant = await office.tenants.create(ACT, name="acme", rpm=5)
    await office.tenants.update(ACT, tenant.id, rpm=5)
    await office.tenants.activate(ACT, tenant.id)
    await office.tenants.set_budgets(ACT, tenant.id, {DAY: None})
    assert len(await office.acts()) == 1


async def test_a_change_that_fails_is_not_logged(office: TestOffice) -> None:
    await office.tenants.create(ACT, name="acme")
    with pytest.raises(Conflict):
        await office.tenants.create(ACT, name="acme")
    assert len(await office.acts()) == 1


async def test_the_log_is_read_in_pages_and_by_tenant(office: TestOffice) -> None:
    tenants = [await office.tenants.create(ACT, name=name) for name in ("a", "b")]
    for weight in (2, 3, 4):
        for tenant in tenants:
            await office.tenants.update(ACT, tenant.id, weight=weight)
    newest = await office.books.audit_log(tenants[0].id, limit=2)
    older = await office.books.audit_log(tenants[0].id, before_id=newest[-1].id, limit=9)
    assert [entry.after["weight"] for entry in newest + older] == [4, 3, 2, 1]
    assert {entry.target for entry in newest + older} == {tenants[0].id}


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log"])
async def test_the_log_cannot_be_changed(office: TestOffice, statement: str) -> None:
    await office.tenants.create(ACT, name="acme")
    with pytest.raises(GatewayError) as caught:
        await office.database.write(lambda tx: tx.exec_driver_sql(statement))
    assert "append-only" in caught.value.internal
    assert [entry.act for entry in await office.acts()] == [ACT]


async def test_nobodys_id_is_told_as_such(office: TestOffice) -> None:
    for awaitable in (
        office.tenants.get("ten_x"),
        office.tenants.update(ACT, "ten_x", weight=2),
        office.tenants.suspend(ACT, "ten_x"),
        office.tenants.activate(ACT, "ten_x"),
        office.tenants.set_budgets(ACT, "ten_x", {DAY: 1}),
        office.tenants.list_budgets("ten_x"),
        office.tenants.put_member(ACT, "ten_x", "ada@example.com", Role.OWNER),
        office.tenants.remove_member(ACT, "ten_x", "ada@example.com"),
        office.tenants.list_members("ten_x"),
        office.books.adjust(ACT, "ten_x", 1, reason="goodwill"),
        office.books.entries("ten_x"),
        office.keyring.create(ACT, "ten_x", name="k"),
    ):
        with pytest.raises(NotFound, match="gateway tenant list") as caught:
            await awaitable
        assert caught.value.code is ErrorCode.NOT_FOUND
    assert await office.acts() == []
