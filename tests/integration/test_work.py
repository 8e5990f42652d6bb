"""Tasks as work: claimed fairly and once, changed by the holder of the lease only, along the arrows only."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from gateway.db import lines, tasks, work
from gateway.db.engine import Database, Tx
from gateway.db.lines import Lane, Line
from gateway.db.work import AttemptEnd, Lease
from gateway.errors import Unavailable
from gateway.families.lyria2 import LYRIA2
from gateway.model import TRANSITIONS, Task, TaskError, TaskState, TenantStatus
from tests import queueing
from tests.databases import Store, open_store
from tests.factories import NOW_MS, a_clip, keep_key, keep_task, keep_tenant
from tests.queueing import claim_next

LEASE_MS = 60_000
GONE = "a token of nobody's"


async def claim(database: Database, task: Task, token: str = "mine", now_ms: int = NOW_MS) -> Lease | None:
    return await database.write(
        lambda tx: work.claim(tx, task.id, token=token, now_ms=now_ms, expires_at_ms=now_ms + LEASE_MS)
    )


async def begin_attempt(database: Database, task: Task, attempt_id: str = "a1", token: str = "mine") -> bool:
    return await database.write(
        lambda tx: work.begin_attempt(
            tx,
            task.id,
            token=token,
            attempt_id=attempt_id,
            deployment="lyria-002",
            clips_asked=1,
            now_ms=NOW_MS,
        )
    )


async def finish(
    database: Database,
    task: Task,
    state: TaskState = TaskState.SUCCEEDED,
    token: str = "mine",
    error: TaskError | None = None,
) -> bool:
    return await database.write(
        lambda tx: work.finish(tx, task.id, token=token, state=state, error=error, now_ms=NOW_MS + 1)
    )


async def requeue(database: Database, task: Task, token: str = "mine", not_before_ms: int = NOW_MS) -> bool:
    return await database.write(
        lambda tx: work.requeue(
            tx, task.id, token=token, not_before_ms=not_before_ms, reason="drain", now_ms=NOW_MS
        )
    )


async def renew(database: Database, *leases: tuple[str, str], expires_at_ms: int) -> tuple[str, ...]:
    return await database.write(lambda tx: work.renew(tx, leases, expires_at_ms=expires_at_ms))


async def expire(database: Database, now_ms: int) -> tuple[str, ...]:
    return await database.write(lambda tx: work.expire_leases(tx, now_ms=now_ms))


async def row(database: Database, task: Task) -> Task:
    return (await database.read(lambda tx: tasks.get_tasks(tx, [task.id])))[task.id]


async def rows(database: Database, query: str) -> list[tuple]:
    return await database.read(lambda tx: [tuple(each) for each in tx.exec_driver_sql(query)])


async def everything(database: Database) -> list[list[tuple]]:
    return [
        await rows(database, f"SELECT * FROM {table} ORDER BY 1")
        for table in ("tasks", "attempts", "outputs", "task_events")
    ]


async def events(database: Database, task: Task) -> list[tuple[str, str]]:
    return await rows(database, f"SELECT kind, data FROM task_events WHERE task_id = '{task.id}' ORDER BY id")


async def test_a_claimed_task_is_running(database: Database) -> None:
    task = await keep_task(database, deadline_at_ms=NOW_MS + 5)
    lease = await claim(database, task, now_ms=NOW_MS + 1)
    expected = replace(task, state=TaskState.RUNNING, started_at_ms=NOW_MS + 1)
    assert lease == Lease(expected, "mine", NOW_MS + 5, (), 0)
    assert await row(database, task) == expected
    assert await events(database, task) == [("running", "{}")]


@pytest.mark.parametrize("state", [state for state in TaskState if state is not TaskState.QUEUED])
async def test_only_a_queued_task_is_claimed(database: Database, state: TaskState) -> None:
    task = await keep_task(database)
    await put_into(database, task, state)
    before = await everything(database)
    assert await claim(database, task, token="other") is None
    assert await everything(database) == before


async def test_an_unknown_task_is_not_claimed(database: Database) -> None:
    task = await keep_task(database)
    assert await claim(database, replace(task, id="task_unknown")) is None


async def test_a_tenants_tasks_are_claimed_in_the_order_they_were_admitted(database: Database) -> None:
    key = await keep_key(database)
    ids = ["task_c", "task_a", "task_b"]
    for id_ in ids:
        await keep_task(database, key, id=id_)
    claimed = [await database.write(lambda tx, n=n: claim_next(tx, f"{n}")) for n in range(4)]
    assert [lease.task.id for lease in claimed[:3]] == ids
    assert claimed[3] is None


async def test_tenants_take_turns_whatever_their_queues(database: Database) -> None:
    loud, calm = await keep_key(database), await keep_key(database)
    for _ in range(20):
        await keep_task(database, loud)
    for _ in range(3):
        await keep_task(database, calm)
    claimed = [await database.write(lambda tx, n=n: claim_next(tx, f"{n}")) for n in range(6)]
    assert Counter(lease.task.tenant_id for lease in claimed) == {loud.tenant_id: 3, calm.tenant_id: 3}


async def test_a_weight_is_a_share(database: Database) -> None:
    heavy = await keep_key(database, await keep_tenant(database, weight=3))
    light = await keep_key(database)
    for key in (heavy, light):
        for _ in range(10):
            await keep_task(database, key)
    claimed = [await database.write(lambda tx, n=n: claim_next(tx, f"{n}")) for n in range(8)]
    assert Counter(lease.task.tenant_id for lease in claimed) == {heavy.tenant_id: 6, light.tenant_id: 2}


async def test_no_more_run_than_a_tenant_may(database: Database) -> None:
    key = await keep_key(database, await keep_tenant(database, max_concurrent=2))
    tasks_ = [await keep_task(database, key) for _ in range(4)]
    claimed = [await database.write(lambda tx, n=n: claim_next(tx, f"{n}")) for n in range(3)]
    assert claimed[2] is None
    await finish(database, tasks_[0], token="0")
    assert (await database.write(lambda tx: claim_next(tx, "again"))).task.id == tasks_[2].id
    assert await database.write(lambda tx: claim_next(tx, "more")) is None


async def test_a_task_waits_until_it_may_start(database: Database) -> None:
    key = await keep_key(database)
    cooling, ready = await keep_task(database, key), await keep_task(database, key)
    await claim(database, cooling)
    await requeue(database, cooling, not_before_ms=NOW_MS + 1000)
    assert (await database.write(lambda tx: claim_next(tx, "1"))).task.id == ready.id
    assert await database.write(lambda tx: claim_next(tx, "2", NOW_MS + 999)) is None
    assert (await database.write(lambda tx: claim_next(tx, "3", NOW_MS + 1000))).task.id == cooling.id


async def test_queues_tell_who_waits_and_who_runs(database: Database) -> None:
    tenant = await keep_tenant(database, weight=2, max_concurrent=5)
    key = await keep_key(database, tenant)
    await claim(database, await keep_task(database, key))
    waiting = await keep_task(database, key)
    await keep_task(database, key)
    idle = await keep_key(database)
    await claim(database, await keep_task(database, idle))
    ((line, task_id),) = await database.read(queueing.in_turn)
    lane = Lane(LYRIA2, test=False)
    assert line == Line(lane, tenant.id, 2, True, 1, 500_000, waiting.created_at_ms)
    assert task_id == waiting.id


async def test_nothing_waiting_is_no_line(database: Database) -> None:
    assert await database.read(lines.list_lanes) == ()
    assert await database.read(work.count_waiting) == {}


async def test_what_waits_is_counted_by_model(database: Database) -> None:
    key = await keep_key(database)
    await keep_task(database, key)
    await keep_task(database, key)
    await claim(database, await keep_task(database, key))
    assert await database.read(work.count_waiting) == {"lyria-002": 2}


async def test_the_oldest_of_a_lane_is_known_whoever_asked_for_it(database: Database) -> None:
    await keep_task(database, created_at_ms=NOW_MS)
    key = await keep_key(database)
    await claim(database, await keep_task(database, key, created_at_ms=NOW_MS - 9_000))
    await keep_task(database, key, created_at_ms=NOW_MS - 5_000)
    await keep_task(database, key, created_at_ms=NOW_MS - 1_000)
    await keep_task(database, key, created_at_ms=NOW_MS - 7_000, test=True)
    assert await database.read(lines.find_oldest) == {
        Lane(LYRIA2, test=False): NOW_MS - 5_000,
        Lane(LYRIA2, test=True): NOW_MS - 7_000,
    }


async def test_what_a_suspended_tenant_has_waiting_makes_nothing_old(database: Database) -> None:
    tenant = await keep_tenant(database, status=TenantStatus.SUSPENDED)
    await keep_task(database, await keep_key(database, tenant))
    assert await database.read(lines.find_oldest) == {}


async def test_a_lane_where_all_have_started_has_no_oldest(database: Database) -> None:
    await claim(database, await keep_task(database))
    assert await database.read(lines.find_oldest) == {}


async def test_workers_at_once_never_share_a_task(database: Database, store: Store) -> None:
    """Two processes' worth of connections, claiming as fast as they can."""
    keys = [await keep_key(database) for _ in range(3)]
    ids = {(await keep_task(database, random.Random(n).choice(keys))).id for n in range(60)}
    other = await open_store(store)
    taken: list[str] = []
    lock = threading.Lock()

    def take(tx: Tx, token: str) -> bool:
        lease = claim_next(tx, token)
        if lease is not None:
            with lock:
                taken.append(lease.task.id)
        return lease is not None

    async def worker(mine: Database, name: str) -> None:
        number = 0
        while await mine.write(partial(take, token=f"{name}-{number}")):
            number += 1

    await asyncio.gather(*(worker(each, f"{n}") for n, each in enumerate([database, other] * 3)))
    await other.close()
    assert sorted(taken) == sorted(ids)


async def test_the_holder_of_the_lease_finishes_the_task(database: Database) -> None:
    task = await keep_task(database)
    await claim(database, task)
    assert await finish(database, task, TaskState.FAILED, error=TaskError("model_refused", "no"))
    ended = await row(database, task)
    assert (ended.state, ended.finished_at_ms) == (TaskState.FAILED, NOW_MS + 1)
    assert ended.error == TaskError("model_refused", "no")
    assert [kind for kind, _ in await events(database, task)] == ["running", "failed"]
    assert await rows(database, "SELECT lease_token, lease_expires_at_ms FROM tasks") == [(None, None)]


async def test_the_holder_of_the_lease_gives_the_task_back(database: Database) -> None:
    task = await keep_task(database)
    await claim(database, task)
    await begin_attempt(database, task)
    assert await requeue(database, task, not_before_ms=NOW_MS + 7)
    assert (await row(database, task)).state is TaskState.QUEUED
    assert await rows(database, "SELECT not_before_ms, lease_token FROM tasks") == [(NOW_MS + 7, None)]
    assert await rows(database, "SELECT state, fault FROM attempts") == [("unknown", "unknown")]
    assert (await events(database, task))[-1] == ("requeued", '{"reason":"drain"}')


@pytest.mark.parametrize("holder", ["another worker", "nobody"])
async def test_without_the_lease_nothing_changes(database: Database, holder: str) -> None:
    task = await keep_task(database)
    await claim(database, task, token="theirs")
    if holder == "nobody":
        await requeue(database, task, token="theirs")
    before = await everything(database)
    assert not await finish(database, task, token=GONE)
    assert not await requeue(database, task, token=GONE)
    assert not await begin_attempt(database, task, token=GONE)
    assert await renew(database, (task.id, GONE), expires_at_ms=NOW_MS * 2) == (GONE,)
    assert not await database.write(lambda tx: work.holds(tx, task.id, GONE))
    assert await everything(database) == before


async def test_a_lease_is_renewed_for_its_holder(database: Database) -> None:
    mine, lost = [await keep_task(database) for _ in range(2)]
    for task in (mine, lost):
        await claim(database, task)
    await expire(database, NOW_MS + LEASE_MS + 1)
    await claim(database, mine)
    leases = [(mine.id, "mine"), (lost.id, "gone")]
    assert await renew(database, *leases, expires_at_ms=NOW_MS + 2 * LEASE_MS) == ("gone",)
    assert await database.write(lambda tx: work.holds(tx, mine.id, "mine"))
    assert await expire(database, NOW_MS + 2 * LEASE_MS) == ()


async def test_a_lease_that_ran_out_puts_the_task_back(database: Database) -> None:
    dead, alive = [await keep_task(database) for _ in range(2)]
    await claim(database, dead)
    await claim(database, alive, now_ms=NOW_MS + 1)
    await begin_attempt(database, dead)
    assert await expire(database, NOW_MS + LEASE_MS) == ()
    assert await expire(database, NOW_MS + LEASE_MS + 1) == (dead.id,)
    assert (await row(database, dead)).state is TaskState.QUEUED
    assert (await row(database, alive)).state is TaskState.RUNNING
    attempt = await rows(database, "SELECT state, fault, finished_at_ms FROM attempts")
    assert attempt == [("unknown", "unknown", NOW_MS + LEASE_MS + 1)]
    assert (await events(database, dead))[-1] == ("requeued", '{"reason":"lease_expired"}')
    assert not await finish(database, dead)


async def test_a_task_put_back_is_claimed_with_what_it_has(database: Database) -> None:
    task = await keep_task(database)
    await claim(database, task)
    await begin_attempt(database, task, "a1")
    clip = a_clip(task, 1)
    await database.write(
        lambda tx: work.end_attempt(tx, task.id, AttemptEnd("a1", "succeeded", (clip,)), now_ms=NOW_MS)
    )
    await begin_attempt(database, task, "a2")
    await expire(database, NOW_MS + LEASE_MS + 1)
    lease = await claim(database, task, token="next", now_ms=NOW_MS + LEASE_MS + 2)
    assert lease.task.clips == (clip,)
    assert lease.attempts_spent == 2
    assert lease.task.attempt_count == 2
    assert lease.task.started_at_ms == NOW_MS  # when it first began
    assert (await row(database, task)).clips == (clip,)


async def test_attempts_that_reached_no_model_are_not_spent(database: Database) -> None:
    task = await keep_task(database)
    await claim(database, task)
    for number, fault in enumerate(["busy", "not_sent", "broken", "recitation", "unknown"]):
        await begin_attempt(database, task, f"a{number}")
        end = AttemptEnd(f"a{number}", "failed", (), (), fault, "model_busy", 429, "{}")
        await database.write(lambda tx, end=end: work.end_attempt(tx, task.id, end, now_ms=NOW_MS))
    await requeue(database, task)
    lease = await claim(database, task)
    assert (lease.attempts_spent, lease.task.attempt_count) == (3, 5)
    kept = await rows(database, "SELECT number, fault, error_code, upstream_status FROM attempts ORDER BY 1")
    assert kept[0] == (1, "busy", "model_busy", 429)
    assert [number for number, *_ in kept] == [1, 2, 3, 4, 5]


async def test_an_attempt_ends_once(database: Database) -> None:
    task = await keep_task(database)
    await claim(database, task)
    await begin_attempt(database, task)
    for state in ("succeeded", "failed"):
        end = AttemptEnd("a1", state, ())
        await database.write(lambda tx, end=end: work.end_attempt(tx, task.id, end, now_ms=NOW_MS))
    assert await rows(database, "SELECT state FROM attempts") == [("succeeded",)]


async def put_into(database: Database, task: Task, state: TaskState) -> None:
    if state is not TaskState.QUEUED:
        await database.write(lambda tx: queueing.put_into(tx, task.id, state))


@pytest.mark.parametrize("before", list(TaskState))
async def test_every_change_follows_an_arrow(database: Database, before: TaskState) -> None:
    """Whatever is tried, with the right token too, in whichever state."""
    changes: list[Callable[[Task], Awaitable[object]]] = [
        lambda task: claim(database, task),
        lambda task: requeue(database, task),
        lambda task: begin_attempt(database, task, task.id),
        lambda task: renew(database, (task.id, "mine"), expires_at_ms=NOW_MS),
        lambda _: expire(database, NOW_MS * 2),
        *(
            lambda task, state=state: finish(database, task, state)
            for state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELED)
        ),
    ]
    key = await keep_key(database)
    for change in changes:
        task = await keep_task(database, key)
        await put_into(database, task, before)
        await change(task)
        after = (await row(database, task)).state
        assert after is before or after in TRANSITIONS[before]


@pytest.mark.parametrize("before", list(TaskState))
async def test_the_database_refuses_what_is_no_arrow(database: Database, before: TaskState) -> None:
    """Whatever the statement: not even one that asks nothing can move a task so."""
    key = await keep_key(database)
    for after in TaskState:
        task = await keep_task(database, key)
        await put_into(database, task, before)
        token = "'t'" if after is TaskState.RUNNING else "NULL"
        change = f"UPDATE tasks SET state = '{after}', lease_token = {token} WHERE id = '{task.id}'"
        if after is before or after in TRANSITIONS[before]:
            await database.write(lambda tx, change=change: tx.exec_driver_sql(change))
            assert (await row(database, task)).state == after
        else:
            with pytest.raises(Unavailable, match="nothing was done"):
                await database.write(lambda tx, change=change: tx.exec_driver_sql(change))
            assert (await row(database, task)).state == before


@pytest.mark.parametrize("state", [state for state in TaskState if state.terminal])
def test_an_end_is_an_end(state: TaskState) -> None:
    assert TRANSITIONS[state] == frozenset()


def test_every_state_has_its_arrows() -> None:
    assert set(TRANSITIONS) == set(TaskState)
