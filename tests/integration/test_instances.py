"""Several instances on one database: what holds for one of them holds for all of them together."""

import asyncio
import random
import secrets
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import pytest

from gateway.db import ledger, postgres, work
from gateway.db.engine import Database, Tx
from gateway.db.locks import lock_claims, lock_tenant
from gateway.db.reconciliation import find_differences
from gateway.db.work import AttemptEnd
from gateway.errors import BudgetSpent, GatewayError, Unauthorized
from gateway.model import ApiKey, BudgetWindow, TaskState, TenantStatus
from gateway.tasks import charging
from gateway.tasks.admission import Admitted, Defaults, admit
from tests.clock import SetClock
from tests.databases import Pause, PostgresStore, Store, open_store
from tests.eventually import eventually
from tests.factories import ACT, NOW_MS, a_clip, a_task, keep_key, keep_tenant
from tests.office import TestOffice
from tests.queueing import claim_next as claim_next_task

T = TypeVar("T")

ON_BOTH_DATABASES = True

INSTANCES = 3
ASKS = 25
ROUNDS = 2

_INSTANCE = """
import asyncio, random, secrets, sys
from gateway.db import accounts
from gateway.db.opening import open_database
from gateway.errors import BudgetSpent, LimitReached
from gateway.tasks.admission import Defaults, admit
from tests.factories import a_task

async def ask(database, key):
    await asyncio.sleep(random.random() / 100)
    task = a_task(key, id=secrets.token_hex(8))
    try:
        await database.write(lambda tx: admit(tx, task, deadline_at_ms=1, defaults=Defaults(10_000, 10_000)))
    except (LimitReached, BudgetSpent):
        return 0
    return 1

async def main():
    url, asks, *keys = sys.argv[1:]
    database = await open_database(url, pool_size=5, jitter=random.random)
    for key_id in keys:
        key = (await database.read(lambda tx: accounts.get_caller(tx, key_id))).key
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(sum(await asyncio.gather(*(ask(database, key) for _ in range(int(asks))))), flush=True)
    await database.close()

asyncio.run(main())
"""


async def limited_keys(database: Database) -> list[ApiKey]:
    """One for each way to allow ten."""
    keys = []
    for limits in ({}, {"rpm": 10}, {"max_queued": 10}, {}):
        tenant = await keep_tenant(database, **limits)
        keys.append(await keep_key(database, tenant, rpm=None if keys else 10))
    budget = {BudgetWindow.DAY: 600_000}
    await database.write(lambda tx: ledger.put_budgets(tx, keys[-1].tenant_id, budget))
    return keys


async def test_processes_that_race_for_ten_get_ten(database: Database, store: Store) -> None:
    """A key's rate, a tenant's rate, a queue and a budget, each asked for seven times over by three."""
    keys = [key for _ in range(ROUNDS) for key in await limited_keys(database)]
    admitted = await asyncio.to_thread(race, store.url, [key.id for key in keys])
    assert admitted == [10] * len(keys)
    assert await store.fetch("SELECT count(*) FROM tasks") == [(10 * len(keys),)]
    assert await database.read(find_differences) == ()


def race(url: str, keys: list[str]) -> list[int]:
    """How many were admitted in all with each key; all instances begin with it together."""
    command = [sys.executable, "-c", _INSTANCE, url, str(ASKS), *keys]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    admitted = []
    with ExitStack() as stack:
        instances = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(INSTANCES)]
        for _ in keys:
            for each in instances:
                assert each.stdout.readline() == "ready\n"
            for each in instances:
                each.stdin.write("go\n")
                each.stdin.flush()
            admitted.append(sum(int(each.stdout.readline()) for each in instances))
    return admitted


class Instance:
    """One gateway's transactions, as many at once as come."""

    def __init__(self, database: Database, key: ApiKey, rng: random.Random) -> None:
        self._database = database
        self._key = key
        self._rng = rng
        self.office = TestOffice(database, SetClock())

    async def live(self) -> None:
        """A task from its acceptance to its end."""
        task = a_task(self._key)
        await self._database.write(
            lambda tx: admit(tx, task, deadline_at_ms=NOW_MS, defaults=Defaults(10_000, 10_000))
        )
        token, attempt = secrets.token_hex(8), secrets.token_hex(8)
        claim = partial(
            work.claim,
            task_id=task.id,
            token=token,
            now_ms=NOW_MS,
            expires_at_ms=NOW_MS + 1,
            within_limit=True,
        )
        assert await self._database.write(claim) is not None
        delivered = self._rng.randrange(2)
        state = TaskState.SUCCEEDED if delivered else TaskState.FAILED

        def finish(tx: Tx) -> None:
            lock_tenant(tx, task.tenant_id)
            assert work.holds(tx, task.id, token)
            work.begin_attempt(
                tx, task.id, token=token, attempt_id=attempt, deployment="d", clips_asked=1, now_ms=NOW_MS
            )
            clips = tuple(a_clip(task, index) for index in range(delivered))
            work.end_attempt(tx, task.id, AttemptEnd(attempt, "succeeded", clips), now_ms=NOW_MS)
            work.finish(tx, task.id, token=token, state=state, error=None, now_ms=NOW_MS)
            charging.conclude(tx, task, state, delivered=delivered, now_ms=NOW_MS)

        await self._database.write(finish)

    async def administer(self) -> None:
        await self.office.books.adjust(ACT, self._key.tenant_id, 5, reason="goodwill")
        await self.office.tenants.set_budgets(ACT, self._key.tenant_id, {BudgetWindow.DAY: 10**9})
        await self.office.tenants.update(ACT, self._key.tenant_id, weight=self._rng.randrange(1, 9))
        await self.office.keyring.update(ACT, self._key.id, rpm=self._rng.randrange(1000, 9999))
        await self.office.keyring.rotate(ACT, self._key.id, overlap_s=60)
        await self._database.write(lambda tx: work.expire_leases(tx, now_ms=NOW_MS))
        await self._database.read(find_differences)


async def test_everything_at_once_is_never_in_each_others_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who keeps the order of locks waits, and never in a circle."""
    told: list[object] = []
    monkeypatch.setattr(postgres, "may_pass", lambda cause, _: told.append(cause))
    databases = [await open_store(store, pool_size=4) for _ in range(2)]
    tenants = [await keep_tenant(databases[0]) for _ in range(2)]
    keys = [await keep_key(databases[0], tenant) for tenant in tenants for _ in range(2)]
    rng = random.Random(1)
    instances = [Instance(database, key, rng) for database in databases for key in keys]
    lives = [rng.choice(instances).live() for _ in range(60)]
    acts = [rng.choice(instances).administer() for _ in range(20)]
    everything = lives + acts
    rng.shuffle(everything)
    await asyncio.gather(*everything)
    assert told == []
    assert await databases[1].read(find_differences) == ()
    assert await store.fetch("SELECT count(*) FROM tasks WHERE state IN ('succeeded', 'failed')") == [(60,)]
    for each in databases:
        await each.close()


async def test_a_lease_is_not_taken_from_a_task_that_is_being_ended(postgres_store: PostgresStore) -> None:
    """It has run out, but its worker is in the very transaction that ends the task."""
    here, elsewhere = [await open_store(postgres_store) for _ in range(2)]
    key = await keep_key(here)
    task = a_task(key)
    await here.write(lambda tx: admit(tx, task, deadline_at_ms=NOW_MS, defaults=Defaults(10, 10)))
    claim = partial(work.claim, task_id=task.id, token="mine", now_ms=NOW_MS, expires_at_ms=NOW_MS + 1)
    await here.write(claim)
    ending, expired = asyncio.Event(), asyncio.Event()

    def end(tx: Tx) -> bool:
        assert work.holds(tx, task.id, "mine")
        ending.set()
        postgres.await_(expired.wait())
        return work.finish(tx, task.id, token="mine", state=TaskState.CANCELED, error=None, now_ms=NOW_MS)

    finishing = asyncio.create_task(here.write(end))
    await ending.wait()
    assert await elsewhere.write(lambda tx: work.expire_leases(tx, now_ms=NOW_MS + 60_000)) == ()
    expired.set()
    assert await finishing
    for each in (here, elsewhere):
        await each.close()


class Slow:
    """A database on which a write stays open, all done but not committed, until ``pause`` ends."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.pause = Pause()

    async def write(self, function: Callable[[Tx], T]) -> T:
        def dawdle(tx: Tx) -> T:
            done = function(tx)
            self.pause.wait(tx)
            return done

        return await self._database.write(dawdle)


async def one_behind_the_other(
    store: PostgresStore,
    first: Callable[[Slow], Coroutine[Any, Any, Any]],
    second: Callable[[Database], Coroutine[Any, Any, T]],
) -> T:
    """What the second gives that came, to another instance, while the first was not yet committed."""
    here, elsewhere = [await open_store(store) for _ in range(2)]
    slow = Slow(here)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    try:
        earlier = asyncio.create_task(first(slow))
        await slow.pause.entered.wait()
        later = asyncio.create_task(second(elsewhere))
        await eventually(lambda: later.done() or store.fetch_now(waiting) == [(1,)])
        assert not later.done()
        slow.pause.end()
        await earlier
        return await later
    finally:
        slow.pause.end()
        for each in (here, elsewhere):
            await each.close()


async def a_key(store: PostgresStore, **terms: Any) -> ApiKey:
    database = await open_store(store)
    key = await keep_key(database, await keep_tenant(database, **terms))
    await database.close()
    return key


def ask(key: ApiKey, tx: Tx) -> Admitted:
    return admit(tx, a_task(key), deadline_at_ms=NOW_MS, defaults=Defaults(10_000, 10_000))


async def test_a_key_revoked_while_somebody_waits_lets_nobody_in(postgres_store: PostgresStore) -> None:
    """What was read before the wait is not what counts."""
    key = await a_key(postgres_store)
    with pytest.raises(Unauthorized):
        await one_behind_the_other(
            postgres_store,
            lambda slow: TestOffice(slow, SetClock()).keyring.revoke(ACT, key.id),
            lambda database: database.write(partial(ask, key)),
        )


async def test_nobody_comes_in_after_a_revocation_is_done(postgres_store: PostgresStore) -> None:
    """It waits for whoever was let in before."""
    key = await a_key(postgres_store)
    assert await one_behind_the_other(
        postgres_store,
        lambda slow: slow.write(partial(ask, key)),
        lambda database: TestOffice(database, SetClock()).keyring.revoke(ACT, key.id),
    )


async def test_a_budget_lowered_while_somebody_waits_is_the_one_that_counts(
    postgres_store: PostgresStore,
) -> None:
    key = await a_key(postgres_store)
    with pytest.raises(BudgetSpent):
        await one_behind_the_other(
            postgres_store,
            lambda slow: TestOffice(slow, SetClock()).tenants.set_budgets(
                ACT, key.tenant_id, {BudgetWindow.DAY: 1}
            ),
            lambda database: database.write(partial(ask, key)),
        )


async def test_changes_of_a_tenant_are_made_one_on_top_of_the_other(postgres_store: PostgresStore) -> None:
    """Each writes the whole row: made side by side, the later would undo the earlier."""
    key = await a_key(postgres_store)
    tenant = await one_behind_the_other(
        postgres_store,
        lambda slow: TestOffice(slow, SetClock()).tenants.suspend(ACT, key.tenant_id),
        lambda database: TestOffice(database, SetClock()).tenants.update(ACT, key.tenant_id, rpm=7),
    )
    assert (tenant.status, tenant.rpm) == (TenantStatus.SUSPENDED, 7)


async def test_changes_of_a_key_are_made_one_on_top_of_the_other(postgres_store: PostgresStore) -> None:
    """A secret that was replaced must not come back with another change."""
    before = await a_key(postgres_store)
    key = await one_behind_the_other(
        postgres_store,
        lambda slow: TestOffice(slow, SetClock()).keyring.rotate(ACT, before.id, overlap_s=0),
        lambda database: TestOffice(database, SetClock()).keyring.update(ACT, before.id, rpm=7),
    )
    assert key.rpm == 7
    assert key.sha256 != before.sha256


def claim_next(tx: Tx) -> bool:
    """As a worker does it, whoever's turn it is."""
    return claim_next_task(tx, secrets.token_hex(8), lease_ms=1) is not None


def claim(task_id: str, tx: Tx, *, within_limit: bool = False) -> bool:
    token = secrets.token_hex(8)
    lock_claims(tx)
    lease = work.claim(
        tx, task_id, token=token, now_ms=NOW_MS, expires_at_ms=NOW_MS + 1, within_limit=within_limit
    )
    return lease is not None


async def test_two_workers_do_not_run_more_of_a_tenant_than_it_may(postgres_store: PostgresStore) -> None:
    key = await a_key(postgres_store, max_concurrent=1)
    database = await open_store(postgres_store)
    for _ in range(2):
        await database.write(partial(ask, key))
    await database.close()
    assert not await one_behind_the_other(
        postgres_store, lambda slow: slow.write(claim_next), lambda database: database.write(claim_next)
    )


async def test_a_task_that_comes_in_beside_a_worker_does_not_run_beyond_the_limit(
    postgres_store: PostgresStore,
) -> None:
    key = await a_key(postgres_store, max_concurrent=1)
    database = await open_store(postgres_store)
    await database.write(partial(ask, key))
    await database.close()

    def ask_and_claim(tx: Tx) -> bool:
        return claim(ask(key, tx).task.id, tx, within_limit=True)

    assert not await one_behind_the_other(
        postgres_store, lambda slow: slow.write(claim_next), lambda database: database.write(ask_and_claim)
    )


async def test_a_name_that_two_give_at_once_is_given_once(store: Store) -> None:
    databases = [await open_store(store) for _ in range(2)]
    offices = [TestOffice(each, SetClock()) for each in databases]
    create = [office.tenants.create(ACT, name=f"team {n}") for n in range(10) for office in offices]
    outcomes = await asyncio.gather(*create, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, GatewayError)]
    assert len(refused) == 10
    assert all("already" in refusal.detail for refusal in refused)
    for each in databases:
        await each.close()
