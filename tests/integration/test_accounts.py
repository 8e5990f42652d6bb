"""What an operator does with tenants and keys."""

import secrets

import pytest

from gateway.accounts import keys
from gateway.accounts.service import Accounts, Budget, Limits, Terms
from gateway.db import accounts as statements
from gateway.db.engine import Database
from gateway.db.ledger import Balance
from gateway.errors import ErrorCode, GatewayError
from gateway.model import ApiKey, BudgetWindow, KeyMode, Tenant, TenantStatus
from gateway.tasks.ids import IdMaker
from tests.clock import SetClock
from tests.databases import Store
from tests.factories import NOW_MS


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW_MS)


@pytest.fixture
def accounts(database: Database, clock: SetClock) -> Accounts:
    return Accounts(database, clock, IdMaker(clock, secrets.token_bytes), secrets.choice)


async def refusal(awaitable) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await awaitable
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    return caught.value


async def test_a_tenant_is_kept_as_it_was_made(accounts: Accounts, database: Database) -> None:
    tenant = await accounts.create_tenant("  acme  ", Limits(rpm=5, max_concurrent=2, max_queued=7, weight=3))
    assert tenant == Tenant(
        tenant.id, "acme", TenantStatus.ACTIVE, NOW_MS, rpm=5, max_concurrent=2, max_queued=7, weight=3
    )
    assert tenant.id.startswith("ten_")
    assert await accounts.list_tenants() == (tenant,)
    assert await database.read(lambda tx: statements.get_tenant(tx, tenant.id)) == tenant


async def test_tenants_are_listed_oldest_first(accounts: Accounts, clock: SetClock) -> None:
    made = []
    for name in ("c", "a", "b"):
        made.append(await accounts.create_tenant(name, Limits()))
        clock.advance(1)
    assert await accounts.list_tenants() == tuple(made)


async def test_a_tenant_needs_a_name_of_its_own(accounts: Accounts) -> None:
    await accounts.create_tenant("acme", Limits())
    assert "already" in (await refusal(accounts.create_tenant(" acme ", Limits()))).detail
    assert len(await accounts.list_tenants()) == 1


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "two\nlines", "\x1b[31mred", "null\x00"])
async def test_a_name_that_cannot_be_shown_is_refused(accounts: Accounts, name: str) -> None:
    assert "1 to 100" in (await refusal(accounts.create_tenant(name, Limits()))).detail
    tenant = await accounts.create_tenant("acme", Limits())
    await refusal(accounts.create_key(tenant.id, name, rpm=None))
    assert await accounts.list_keys(None) == ()


async def test_names_may_be_in_any_script(accounts: Accounts) -> None:
    assert (await accounts.create_tenant("Équipe 音楽", Limits())).name == "Équipe 音楽"


async def test_a_key_is_kept_without_its_secret(accounts: Accounts) -> None:
    tenant = await accounts.create_tenant("acme", Limits())
    key, text = await accounts.create_key(tenant.id, " laptop ", rpm=30)
    assert key == ApiKey(key.id, tenant.id, "laptop", keys.hash_key(text), NOW_MS, rpm=30)
    assert keys.parse(text) == keys.PresentedKey(key.id, key.sha256, KeyMode.LIVE)
    assert await accounts.list_keys(None) == (key,)


async def test_the_secret_is_nowhere_in_the_database(accounts: Accounts, store: Store) -> None:
    tenant = await accounts.create_tenant("acme", Limits())
    key, text = await accounts.create_key(tenant.id, "laptop", rpm=None)
    secret = text.rsplit("_", 1)[1]
    kept = await store.contents()
    assert any(key.sha256.encode() in content for content in kept)
    for part in (text, secret, secret[: keys.SECRET_LENGTH], secret[:16], secret[-16:]):
        assert not any(part.encode() in content for content in kept)


async def test_keys_are_listed_of_all_or_of_one_tenant(accounts: Accounts) -> None:
    first, second = [await accounts.create_tenant(name, Limits()) for name in ("a", "b")]
    of_first = [(await accounts.create_key(first.id, "k", rpm=None))[0] for _ in range(2)]
    of_second = [(await accounts.create_key(second.id, "k", rpm=None))[0]]
    assert set(await accounts.list_keys(first.id)) == set(of_first)
    assert set(await accounts.list_keys(None)) == {*of_first, *of_second}
    assert await accounts.list_keys("nobody") == ()


async def test_a_key_needs_a_tenant(accounts: Accounts) -> None:
    assert "gateway tenant list" in (await refusal(accounts.create_key("ten_x", "k", rpm=None))).detail


async def test_a_key_is_revoked_once(accounts: Accounts, clock: SetClock) -> None:
    tenant = await accounts.create_tenant("acme", Limits())
    key, _ = await accounts.create_key(tenant.id, "k", rpm=None)
    clock.advance(5)
    assert await accounts.revoke_key(key.id)
    clock.advance(5)
    assert not await accounts.revoke_key(key.id)
    (kept,) = await accounts.list_keys(None)
    assert kept.revoked_at_ms == NOW_MS + 5000


async def test_revoking_one_key_leaves_the_others(accounts: Accounts) -> None:
    tenant = await accounts.create_tenant("acme", Limits())
    first, second = [(await accounts.create_key(tenant.id, "k", rpm=None))[0] for _ in range(2)]
    await accounts.revoke_key(first.id)
    assert {key.id: key.revoked_at_ms for key in await accounts.list_keys(None)}[second.id] is None


async def test_an_unknown_key_cannot_be_revoked(accounts: Accounts) -> None:
    assert "gateway key list" in (await refusal(accounts.revoke_key("nobody"))).detail


# Money

DAY, MONTH, TOTAL = BudgetWindow.DAY, BudgetWindow.MONTH, BudgetWindow.TOTAL


async def used(accounts: Accounts, tenant_id: str) -> list[tuple[int, int]]:
    """Held and spent of the day, the month and in all."""
    budgets = await accounts.list_budgets(tenant_id)
    return [(budget.used.held_micros, budget.used.spent_micros) for budget in budgets]


async def test_a_tenants_terms_are_kept(accounts: Accounts) -> None:
    terms = Terms("America/St_Johns", 1_250_000, {DAY: 5_000_000, TOTAL: 0})
    tenant = await accounts.create_tenant("acme", Limits(), terms)
    assert (tenant.zone, tenant.price_ppm) == ("America/St_Johns", 1_250_000)
    assert await accounts.list_tenants() == (tenant,)
    assert await accounts.list_budgets(tenant.id) == (
        Budget(DAY, 5_000_000, Balance()),
        Budget(MONTH, None, Balance()),
        Budget(TOTAL, 0, Balance()),
    )


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        (Terms(zone="Mars/Olympus"), "'Mars/Olympus' is not a time zone"),
        (Terms(zone="Europe"), "not a time zone"),
        (Terms(price_ppm=-1), "multiplier"),
        (Terms(budgets={DAY: -1}), "budget"),
    ],
)
async def test_terms_that_make_no_sense_are_refused(accounts: Accounts, terms: Terms, complaint: str) -> None:
    assert complaint in (await refusal(accounts.create_tenant("acme", Limits(), terms))).detail
    assert await accounts.list_tenants() == ()


async def test_budgets_are_changed_one_by_one_and_what_was_used_stays(accounts: Accounts) -> None:
    tenant = await accounts.create_tenant("acme", Limits(), Terms(budgets={DAY: 1, MONTH: 2}))
    await accounts.adjust(tenant.id, 500, reason="moved from another", actor="test")
    await accounts.set_budgets(tenant.id, {DAY: None, TOTAL: 3})
    limits = [budget.limit_micros for budget in await accounts.list_budgets(tenant.id)]
    assert limits == [None, 2, 3]
    assert await used(accounts, tenant.id) == [(0, 500)] * 3


async def test_a_budget_below_nothing_changes_none(accounts: Accounts) -> None:
    tenant = await accounts.create_tenant("acme", Limits(), Terms(budgets={DAY: 1}))
    await refusal(accounts.set_budgets(tenant.id, {DAY: None, MONTH: -1}))
    assert [budget.limit_micros for budget in await accounts.list_budgets(tenant.id)] == [1, None, None]


async def test_money_needs_a_tenant(accounts: Accounts) -> None:
    for awaitable in (
        accounts.set_budgets("ten_x", {DAY: 1}),
        accounts.list_budgets("ten_x"),
        accounts.adjust("ten_x", 1, reason="goodwill", actor="test"),
    ):
        assert "gateway tenant list" in (await refusal(awaitable)).detail


async def test_an_adjustment_stays_in_the_ledger_with_who_and_why(
    accounts: Accounts, database: Database
) -> None:
    tenant = await accounts.create_tenant("acme", Limits(), Terms(zone="Pacific/Kiritimati"))
    await accounts.adjust(tenant.id, 70_000, reason="  moved from another ", actor="cli:ada")
    rows = await database.read(
        lambda tx: tx.exec_driver_sql(
            "SELECT kind, held_micros, spent_micros, day, month, at_ms, actor, reason FROM ledger"
        ).fetchall()
    )
    assert [tuple(row) for row in rows] == [
        ("adjust", 0, 70_000, "2027-01-15", "2027-01", NOW_MS, "cli:ada", "moved from another")
    ]
    assert await accounts.reconcile() == ()


@pytest.mark.parametrize("reason", ["", "  ", "\n\t"])
async def test_an_adjustment_needs_a_reason(accounts: Accounts, reason: str) -> None:
    tenant = await accounts.create_tenant("acme", Limits())
    error = await refusal(accounts.adjust(tenant.id, 1, reason=reason, actor="test"))
    assert "needs a reason" in error.detail
    assert await used(accounts, tenant.id) == [(0, 0)] * 3


async def test_an_adjustment_of_nothing_is_refused(accounts: Accounts) -> None:
    tenant = await accounts.create_tenant("acme", Limits())
    await refusal(accounts.adjust(tenant.id, 0, reason="goodwill", actor="test"))


async def test_a_credit_is_at_most_what_was_spent_in_all(accounts: Accounts, clock: SetClock) -> None:
    tenant = await accounts.create_tenant("acme", Limits())
    await accounts.adjust(tenant.id, 70_000, reason="moved from another", actor="test")
    clock.advance(86_400)
    error = await refusal(accounts.adjust(tenant.id, -70_001, reason="goodwill", actor="test"))
    assert "has spent $0.07 in all" in error.detail
    await accounts.adjust(tenant.id, -70_000, reason="goodwill", actor="test")
    assert await used(accounts, tenant.id) == [(0, -70_000), (0, 0), (0, 0)]
    assert await accounts.reconcile() == ()
