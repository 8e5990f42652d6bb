"""Budgets at the door: exact in a burst, beside the other limits, and refusals leave nothing behind."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from gateway.accounts.calendar import periods_at
from gateway.db import ledger
from gateway.db.engine import Database
from gateway.db.ledger import Balance
from gateway.db.reconciliation import find_differences
from gateway.errors import BudgetSpent, LimitReached
from gateway.model import ApiKey, BudgetWindow, MusicSpec, Task, Tenant
from gateway.tasks.admission import Admitted, Defaults, Verdict, admit, consider
from gateway.tasks.budget import describe
from tests.clock import SetClock
from tests.databases import BURSTS
from tests.factories import a_task, keep_key, keep_tenant

TABLES = ("tasks", "task_events", "ledger")
DEFAULTS = Defaults(rpm=100_000, max_queued=100_000)
Outcome = Admitted | BaseException


class Door:
    """Admission as the service does it: a write transaction for each request."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = SetClock()

    def task(self, key: ApiKey, clips: int = 1) -> Task:
        """At list price: six cents a clip."""
        return a_task(
            key,
            created_at_ms=self.clock.now_ms(),
            spec=MusicSpec("slow piano", sample_count=clips),
            price_micros=clips * 60_000,
        )

    async def ask(self, key: ApiKey, clips: int = 1) -> Admitted:
        task = self.task(key, clips)
        return await self.database.write(
            lambda tx: admit(tx, task, deadline_at_ms=task.created_at_ms + 1, defaults=DEFAULTS)
        )

    async def consider(self, key: ApiKey, clips: int = 1) -> Verdict:
        task = self.task(key, clips)
        return await self.database.read(lambda tx: consider(tx, task, defaults=DEFAULTS))

    async def ask_at_once(self, keys: Sequence[ApiKey], rng: random.Random) -> list[Outcome]:
        async def one(key: ApiKey, pauses: int) -> Admitted:
            for _ in range(pauses):
                await asyncio.sleep(0)
            return await self.ask(key)

        asked = (one(key, rng.randrange(6)) for key in keys)
        return await asyncio.gather(*asked, return_exceptions=True)

    async def budget(self, tenant: Tenant, **limits: int) -> None:
        named = {BudgetWindow(name): micros for name, micros in limits.items()}
        await self.database.write(lambda tx: ledger.put_budgets(tx, tenant.id, named))

    async def balances(self, tenant: Tenant) -> dict[str, Balance]:
        periods = periods_at(self.clock.now_ms(), tenant.zone)
        return await self.database.read(lambda tx: ledger.get_balances(tx, tenant.id, periods))

    async def rows(self) -> list[int]:
        def count(table: str) -> str:
            return f"SELECT count(*) FROM {table}"

        return await self.database.read(
            lambda tx: [tx.exec_driver_sql(count(table)).scalar_one() for table in TABLES]
        )


@pytest.fixture
def door(database: Database) -> Door:
    return Door(database)


def admitted(outcomes: list[Outcome]) -> int:
    return sum(isinstance(outcome, Admitted) for outcome in outcomes)


def refused_by(outcomes: list[Outcome]) -> set[str]:
    names = {
        o.budget.window
        if isinstance(o, BudgetSpent)
        else o.limit.name
        if isinstance(o, LimitReached)
        else "?"
        for o in outcomes
        if not isinstance(o, Admitted)
    }
    assert "?" not in names, outcomes
    return names


@pytest.mark.parametrize("window", list(BudgetWindow))
async def test_two_hundred_at_once_against_a_budget_for_ten_admit_exactly_ten(
    database: Database, backend: str, door: Door, window: BudgetWindow
) -> None:
    rng = random.Random(window.value)
    for _ in range(BURSTS[backend]):
        tenant = await keep_tenant(database, zone="Europe/Berlin")
        # To the millionth, or with less than another price over.
        await door.budget(tenant, **{window.value: 600_000 + rng.choice([0, 1, 59_999])})
        keys = [await keep_key(database, tenant) for _ in range(3)]
        before = await door.rows()
        outcomes = await door.ask_at_once([rng.choice(keys) for _ in range(200)], rng)
        assert admitted(outcomes) == 10
        assert refused_by(outcomes) == {window.value}
        assert await door.rows() == [count + 10 for count in before]
        assert set((await door.balances(tenant)).values()) == {Balance(600_000, 0)}
    assert await database.read(find_differences) == ()


@pytest.mark.parametrize("tightest", ["key", "tenant", "queued", "month"])
async def test_among_several_limits_the_tightest_holds_to_the_request(
    database: Database, backend: str, door: Door, tightest: str
) -> None:
    """The others allow a few more; what one limit refuses uses up none of the rest."""
    rng = random.Random(tightest)
    for _ in range(BURSTS[backend]):
        most = {
            name: 10 if name == tightest else rng.randrange(11, 14)
            for name in ("key", "tenant", "queued", "month")
        }
        tenant = await keep_tenant(database, rpm=most["tenant"], max_queued=most["queued"])
        await door.budget(tenant, month=most["month"] * 60_000)
        key = await keep_key(database, tenant, rpm=most["key"])
        before = await door.rows()
        outcomes = await door.ask_at_once([key] * 200, rng)
        assert admitted(outcomes) == 10
        assert refused_by(outcomes) == {tightest}
        assert await door.rows() == [count + 10 for count in before]
        assert (await door.balances(tenant))["total"] == Balance(600_000, 0)
    assert await database.read(find_differences) == ()


async def test_what_does_not_fit_may_be_asked_smaller(database: Database, door: Door) -> None:
    tenant = await keep_tenant(database)
    await door.budget(tenant, day=180_000)
    key = await keep_key(database, tenant)
    await door.ask(key)
    with pytest.raises(BudgetSpent):
        await door.ask(key, clips=3)
    await door.ask(key, clips=2)
    with pytest.raises(BudgetSpent):
        await door.ask(key)


async def test_a_new_day_has_its_budget_anew_at_the_tenants_midnight(database: Database, door: Door) -> None:
    tenant = await keep_tenant(database, zone="Pacific/Kiritimati")
    await door.budget(tenant, day=60_000, month=10**9)
    key = await keep_key(database, tenant)
    await door.ask(key)
    with pytest.raises(BudgetSpent) as caught:
        await door.ask(key)
    retry_after_s = caught.value.retry_after_s
    assert retry_after_s == 2 * 3600  # it is 22:00 there
    door.clock.advance(retry_after_s - 0.001)
    with pytest.raises(BudgetSpent):
        await door.ask(key)
    door.clock.advance(0.001)
    await door.ask(key)
    assert (await door.balances(tenant))["2027-01"] == Balance(120_000, 0)


@pytest.mark.parametrize(
    ("ppm", "held"), [(0, 0), (333_333, 60_000), (333_342, 60_003), (2_000_000, 360_000)]
)
async def test_the_multiplier_is_in_the_price_that_is_held_told_and_written(
    database: Database, door: Door, ppm: int, held: int
) -> None:
    """Rounded for one clip, so that each clip of a request costs the same."""
    tenant = await keep_tenant(database, price_ppm=ppm)
    key = await keep_key(database, tenant)
    task = (await door.ask(key, clips=3)).task
    assert task.price_micros == held
    assert (await door.balances(tenant))["total"] == Balance(held, 0)
    assert await database.read(find_differences) == ()


async def test_other_tenants_are_not_touched(database: Database, door: Door) -> None:
    poor, rich = [await keep_tenant(database) for _ in range(2)]
    await door.budget(poor, total=0)
    with pytest.raises(BudgetSpent):
        await door.ask(await keep_key(database, poor))
    await door.ask(await keep_key(database, rich))


async def test_warnings_come_with_the_request_that_brings_a_budget_there(
    database: Database, door: Door
) -> None:
    tenant = await keep_tenant(database)
    await door.budget(tenant, month=300_000)
    key = await keep_key(database, tenant)
    told = [[describe(alert).split(" of ")[0] for alert in (await door.ask(key)).alerts] for _ in range(5)]
    assert told == [[], [], [], ["80 %"], ["100 %"]]


async def test_considering_says_what_admission_would_and_does_nothing(database: Database, door: Door) -> None:
    tenant = await keep_tenant(database, price_ppm=500_000)
    await door.budget(tenant, total=60_000)
    key = await keep_key(database, tenant, rpm=2)
    for _ in range(5):
        verdict = await door.consider(key)
        assert (verdict.refusal, verdict.task.price_micros, verdict.alerts) == (None, 30_000, ())
    assert await door.rows() == [0, 0, 0]
    await door.ask(key)
    assert tuple(map(describe, (await door.consider(key)).alerts)) == (
        "100 % of the total budget is used: $0.06 of $0.06 is spent or held.",
    )
    assert isinstance((await door.consider(key, clips=2)).refusal, BudgetSpent)
    await door.ask(key)
    refused = await door.consider(key)
    assert isinstance(refused.refusal, LimitReached)
    assert refused.task.price_micros == 30_000
    assert await door.rows() == [2, 2, 2]
