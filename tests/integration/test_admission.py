"""Limits hold to the request: however many come at once, whatever the clock does; refusals cost nothing."""

import asyncio
import random
from dataclasses import replace

import pytest

from gateway.db import accounts, tasks
from gateway.db.engine import Database
from gateway.errors import ErrorCode, Forbidden, LimitReached, Unauthorized, Unavailable
from gateway.model import ApiKey, Task, TaskState, TenantStatus
from gateway.tasks.admission import Admitted, Defaults, admit
from tests.clock import SetClock
from tests.databases import BURSTS
from tests.factories import a_task, keep_key, keep_tenant
from tests.queueing import put_into

GENEROUS = Defaults(rpm=100_000, max_queued=100_000)


class Door:
    """Admission as the service does it: one write transaction per request, stamped with the clock."""

    def __init__(self, database: Database, clock: SetClock, defaults: Defaults = GENEROUS) -> None:
        self._database = database
        self._clock = clock
        self._defaults = defaults

    async def ask(self, key: ApiKey, **changes) -> Admitted:
        task = a_task(key, created_at_ms=self._clock.now_ms(), **changes)
        return await self._database.write(
            lambda tx: admit(tx, task, deadline_at_ms=task.created_at_ms + 900_000, defaults=self._defaults)
        )

    async def ask_at_once(self, keys: list[ApiKey], rng: random.Random) -> list[Admitted | BaseException]:
        async def one(key: ApiKey) -> Admitted:
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            return await self.ask(key)

        return await asyncio.gather(*(one(key) for key in keys), return_exceptions=True)


@pytest.fixture
def door(database: Database, clock: SetClock) -> Door:
    return Door(database, clock)


def admitted(outcomes: list[Admitted | BaseException]) -> list[Task]:
    return [outcome.task for outcome in outcomes if isinstance(outcome, Admitted)]


def refused(outcomes: list[Admitted | BaseException]) -> list[LimitReached]:
    return [outcome for outcome in outcomes if isinstance(outcome, LimitReached)]


async def rows(database: Database, table: str = "tasks") -> int:
    return await database.read(lambda tx: tx.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


async def refusal_of(door: Door, key: ApiKey) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await door.ask(key)
    return caught.value


@pytest.mark.parametrize("limit", ["key", "tenant", "queued"])
async def test_two_hundred_at_once_against_ten_admit_exactly_ten(
    database: Database, backend: str, door: Door, clock: SetClock, limit: str
) -> None:
    limits = {"key": {}, "tenant": {"rpm": 10}, "queued": {"max_queued": 10}}[limit]
    rng = random.Random(limit)
    for _ in range(BURSTS[backend]):
        before = await rows(database), await rows(database, "task_events")
        tenant = await keep_tenant(database, **limits)
        keys = [await keep_key(database, tenant, rpm=10 if limit == "key" else None) for _ in range(2)]
        used = keys[:1] if limit == "key" else keys
        outcomes = await door.ask_at_once([rng.choice(used) for _ in range(200)], rng)
        assert len(admitted(outcomes)) == 10
        assert len(refused(outcomes)) == 190
        assert {refusal.limit.name for refusal in refused(outcomes)} == {limit}
        assert (await rows(database), await rows(database, "task_events")) == (before[0] + 10, before[1] + 10)


async def test_a_burst_slides_through_the_window_whole(
    database: Database, door: Door, clock: SetClock
) -> None:
    """In any sixty seconds, whichever, no more than the limit was made."""
    key = await keep_key(database, rpm=7)
    rng = random.Random(7)
    made: list[int] = []
    for _ in range(150):
        clock.advance(rng.choice([0, 0.001, 0.5, 3, 11, 29.999, 30]))
        outcomes = await door.ask_at_once([key] * rng.randrange(1, 5), rng)
        made += [clock.now_ms()] * len(admitted(outcomes))
        inside = [at for at in made if at > clock.now_ms() - 60_000]
        assert len(inside) <= 7
        assert len(inside) == 7 or not refused(outcomes)
    assert len(made) > 50


@pytest.mark.parametrize("owner", ["key", "tenant"])
async def test_retry_after_is_the_first_second_that_succeeds(
    database: Database, door: Door, clock: SetClock, owner: str
) -> None:
    tenant = await keep_tenant(database, rpm=3 if owner == "tenant" else None)
    key = await keep_key(database, tenant, rpm=3 if owner == "key" else None)
    for pause_s in (0, 7.25, 20):
        clock.advance(pause_s)
        await door.ask(key)
    refusal = await refusal_of(door, key)
    assert refusal.code is ErrorCode.RATE_LIMITED
    assert refusal.retry_after_s == 33  # the first was made 27.25 s ago
    assert refusal.limit.remaining == 0
    clock.advance(refusal.retry_after_s - 1)
    assert (await refusal_of(door, key)).retry_after_s == 1
    clock.advance(1)
    await door.ask(key)


async def test_the_window_opens_to_the_millisecond(database: Database, door: Door, clock: SetClock) -> None:
    key = await keep_key(database, rpm=1)
    await door.ask(key)
    clock.advance(59.999)
    assert (await refusal_of(door, key)).retry_after_s == 1
    clock.advance(0.001)
    await door.ask(key)


async def test_refusals_use_up_nothing(database: Database, door: Door, clock: SetClock) -> None:
    key = await keep_key(database, rpm=1)
    await door.ask(key)
    for _ in range(59):
        clock.advance(1)
        await refusal_of(door, key)
    clock.advance(1)
    await door.ask(key)
    assert await rows(database) == 2


async def test_what_remains_is_told_with_each_admission(
    database: Database, door: Door, clock: SetClock
) -> None:
    key = await keep_key(database, rpm=3)
    told = []
    for _ in range(3):
        rate = (await door.ask(key)).rate
        told.append((rate.name, rate.quota, rate.window_s, rate.remaining, rate.reset_s))
        clock.advance(10)
    assert told == [("key", 3, 60, 2, 60), ("key", 3, 60, 1, 50), ("key", 3, 60, 0, 40)]
    clock.advance(40)  # the first two have left
    rate = (await door.ask(key)).rate
    assert (rate.remaining, rate.reset_s) == (1, 10)


async def test_keys_of_a_tenant_have_rates_of_their_own_and_share_the_tenants(
    database: Database, door: Door
) -> None:
    tenant = await keep_tenant(database, rpm=3)
    first, second = [await keep_key(database, tenant, rpm=2) for _ in range(2)]
    await door.ask(first)
    await door.ask(first)
    assert (await refusal_of(door, first)).limit.name == "key"
    await door.ask(second)
    assert (await refusal_of(door, second)).limit.name == "tenant"


async def test_another_tenant_is_unharmed(database: Database, door: Door) -> None:
    tenants = [await keep_tenant(database, rpm=2, max_queued=2) for _ in range(2)]
    loud, calm = [await keep_key(database, tenant) for tenant in tenants]
    outcomes = await door.ask_at_once([loud] * 50, random.Random(1))
    assert len(admitted(outcomes)) == 2
    await door.ask(calm)
    await door.ask(calm)


async def test_limits_not_named_are_the_defaults(database: Database, clock: SetClock) -> None:
    door = Door(database, clock, Defaults(rpm=2, max_queued=3))
    tenant = await keep_tenant(database)
    key, other = await keep_key(database, tenant), await keep_key(database, tenant)
    await door.ask(key)
    await door.ask(key)
    assert (await refusal_of(door, key)).limit.quota == 2
    await door.ask(other)
    assert (await refusal_of(door, other)).code is ErrorCode.QUEUE_FULL


async def test_a_full_queue_opens_when_a_task_starts(database: Database, door: Door) -> None:
    key = await keep_key(database, await keep_tenant(database, max_queued=1))
    task = (await door.ask(key)).task
    refusal = await refusal_of(door, key)
    assert refusal.code is ErrorCode.QUEUE_FULL
    assert refusal.retry_after_s
    await database.write(
        lambda tx: tx.exec_driver_sql(
            f"UPDATE tasks SET state='running', lease_token='t' WHERE id = '{task.id}'"
        )
    )
    await door.ask(key)


async def test_a_queue_is_counted_right_whatever_order_its_ids_have(database: Database, door: Door) -> None:
    """Ids made in one millisecond, or after a clock was set back, do not sort as they were admitted."""
    key = await keep_key(database, await keep_tenant(database, max_queued=5))
    for id_ in ("task_e", "task_d", "task_a", "task_c", "task_b"):
        await door.ask(key, id=id_)
    assert (await refusal_of(door, key)).code is ErrorCode.QUEUE_FULL


async def test_an_old_task_that_waits_again_does_not_fill_the_queue(database: Database, door: Door) -> None:
    key = await keep_key(database, await keep_tenant(database, max_queued=3))
    first, *others = [(await door.ask(key)).task for _ in range(3)]
    await database.write(lambda tx: put_into(tx, first.id, TaskState.RUNNING))
    for task in others:
        await database.write(lambda tx, id_=task.id: put_into(tx, id_, TaskState.FAILED))
    for _ in range(7):
        task = (await door.ask(key)).task
        await database.write(lambda tx, id_=task.id: put_into(tx, id_, TaskState.FAILED))
    await database.write(lambda tx: put_into(tx, first.id, TaskState.QUEUED))
    await door.ask(key)
    await door.ask(key)
    assert (await refusal_of(door, key)).code is ErrorCode.QUEUE_FULL


async def test_a_key_revoked_since_it_was_checked_is_refused(database: Database, door: Door) -> None:
    key = await keep_key(database)
    await database.write(lambda tx: accounts.revoke_key(tx, key.id, now_ms=1))
    with pytest.raises(Unauthorized, match="revoked"):
        await door.ask(key)
    assert await rows(database) == 0


async def test_a_suspended_tenant_is_refused(database: Database, door: Door) -> None:
    key = await keep_key(database, await keep_tenant(database, status=TenantStatus.SUSPENDED))
    with pytest.raises(Forbidden, match="suspended"):
        await door.ask(key)
    assert await rows(database) == 0


async def test_an_unknown_key_is_refused(database: Database, door: Door) -> None:
    key = await keep_key(database)
    with pytest.raises(Unauthorized):
        await door.ask(replace(key, id="nobody"))
    assert await rows(database) == 0


@pytest.mark.parametrize("owner", ["key", "tenant"])
async def test_a_clock_set_back_lets_nobody_in_twice(
    database: Database, door: Door, clock: SetClock, owner: str
) -> None:
    tenant = await keep_tenant(database, rpm=10 if owner == "tenant" else None)
    key = await keep_key(database, tenant, rpm=10 if owner == "key" else None)
    for _ in range(5):
        await door.ask(key)
    clock.advance(-5)
    outcomes = await door.ask_at_once([key] * 50, random.Random(2))
    assert len(admitted(outcomes)) == 5
    refusal = refused(outcomes)[-1]
    assert refusal.retry_after_s == 65
    clock.advance(refusal.retry_after_s - 1)
    assert (await refusal_of(door, key)).retry_after_s == 1
    clock.advance(1)
    await door.ask(key)


async def test_a_clock_that_was_far_ahead_locks_nobody_out(
    database: Database, door: Door, clock: SetClock
) -> None:
    key = await keep_key(database, rpm=2)
    clock.advance(86_400)
    await door.ask(key)
    await door.ask(key)
    clock.advance(-86_400)
    await door.ask(key)
    rate = (await door.ask(key)).rate
    assert rate.remaining == 0
    assert rate.reset_s <= 60
    assert (await refusal_of(door, key)).retry_after_s == 60


async def test_an_admission_that_the_database_cannot_take_leaves_no_trace(
    database: Database, door: Door
) -> None:
    key = await keep_key(database)
    task = (await door.ask(key)).task
    with pytest.raises(Unavailable):
        await door.ask(key, id=task.id)
    assert await rows(database) == await rows(database, "task_events") == 1
    assert isinstance(await door.ask(key), Admitted)


async def test_the_admitted_task_is_the_row(database: Database, door: Door) -> None:
    key = await keep_key(database)
    task = (await door.ask(key, metadata={"project": "spring"}, traceparent="00-1")).task
    found = await database.read(lambda tx: tasks.get_tasks(tx, [task.id, "task_unknown"]))
    assert found == {task.id: task}
