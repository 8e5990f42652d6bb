"""Where queued tasks stand: what is read of the queue, by whom, and how it compares with what workers do."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.db import deployments, queueview, work
from gateway.db.deployments import Health
from gateway.db.engine import Database, Tx
from gateway.db.lines import Lane
from gateway.db.queueview import LinePlace, QueueState
from gateway.db.work import AttemptEnd
from gateway.families.lyria2 import LYRIA2
from gateway.families.musicgen import MUSICGEN
from gateway.model import ApiKey, Task, TaskState, TenantStatus
from gateway.tasks.forecast import QueuePlace
from gateway.tasks.queueview import QueueView
from tests.clock import SetClock
from tests.factories import NOW_MS, a_deployment, a_task, keep_key, keep_task, keep_tenant
from tests.queueing import claim_next

LIVE = Lane(LYRIA2, test=False)
DEPLOYMENT = a_deployment()


async def keep_tasks(database: Database, key: ApiKey, count: int, **changes: Any) -> list[Task]:
    return [await keep_task(database, key, **changes) for _ in range(count)]


async def start(
    database: Database, task: Task, *, at_ms: int = NOW_MS, deployment: str = "lyria-002"
) -> None:
    """Take the task, and begin its call."""

    def write(tx: Tx) -> None:
        work.claim(tx, task.id, token=task.id, now_ms=at_ms, expires_at_ms=at_ms + 10**9)
        work.begin_attempt(
            tx, task.id, token=task.id, attempt_id=f"of-{task.id}", deployment=deployment, clips_asked=1,
            now_ms=at_ms,
        )  # fmt: skip

    await database.write(write)


async def end(database: Database, task: Task, *, at_ms: int) -> None:
    def write(tx: Tx) -> None:
        work.end_attempt(tx, task.id, AttemptEnd(f"of-{task.id}", "succeeded", ()), now_ms=at_ms)
        work.finish(tx, task.id, token=task.id, state=TaskState.SUCCEEDED, error=None, now_ms=at_ms)

    await database.write(write)


async def run(database: Database, key: ApiKey, *, took_s: float, count: int = 1, at_ms: int = NOW_MS) -> None:
    """Tasks that began at ``at_ms`` and have ended."""
    for task in await keep_tasks(database, key, count):
        await start(database, task, at_ms=at_ms)
        await end(database, task, at_ms=at_ms + round(took_s * 1000))


async def look(database: Database, now_ms: int = NOW_MS) -> QueueState:
    names = [DEPLOYMENT.name]
    return await database.read(lambda tx: queueview.read_queue(tx, names=names, paced=names, now_ms=now_ms))


async def places(database: Database, *tasks: Task) -> dict[str, LinePlace]:
    return await database.read(lambda tx: queueview.find_places(tx, [task.id for task in tasks]))


@pytest.fixture
def view(database: Database, clock: SetClock) -> QueueView:
    return QueueView(database, clock, (DEPLOYMENT,), slots=1)


# What is read


async def test_a_line_is_what_one_tenant_has_waiting_for_one_model_in_one_mode(database: Database) -> None:
    tenant = await keep_tenant(database, weight=3, max_concurrent=2)
    key = await keep_key(database, tenant)
    await keep_tasks(database, key, 2)
    await keep_task(database, key, model=MUSICGEN)
    await keep_task(database, key, test=True)
    state = await look(database)
    assert {(line.lane, line.waiting) for line in state.lines} == {
        (LIVE, 2),
        (Lane(MUSICGEN, test=False), 1),
        (Lane(LYRIA2, test=True), 1),
    }
    assert {(line.weight, line.max_concurrent, line.active) for line in state.lines} == {(3, 2, True)}


async def test_what_runs_is_no_longer_in_its_line_and_how_long_it_is_at_it_is_known(
    database: Database,
) -> None:
    key = await keep_key(database)
    first, _ = await keep_tasks(database, key, 2)
    await start(database, first)
    state = await look(database, NOW_MS + 1500)
    assert [line.waiting for line in state.lines] == [1]
    assert [(run.tenant_id, run.lane, run.at_it_ms) for run in state.running] == [(key.tenant_id, LIVE, 1500)]
    assert state.uses[DEPLOYMENT.name].called == 1


async def test_a_task_without_a_call_is_at_it_since_it_was_started(database: Database) -> None:
    task = await keep_task(database)
    await database.write(
        lambda tx: work.claim(tx, task.id, token="mine", now_ms=NOW_MS, expires_at_ms=NOW_MS + 10**9)
    )
    assert [run.at_it_ms for run in (await look(database, NOW_MS + 700)).running] == [700]


async def test_durations_are_those_of_tasks_that_ended_lately(database: Database) -> None:
    key = await keep_key(database)
    await run(database, key, took_s=9.0, at_ms=NOW_MS - 100_000)
    await run(database, key, took_s=2.0, count=60)
    assert (await look(database, NOW_MS + 10_000)).took_ms == {LIVE: (2000,) * 60}


async def test_what_ended_before_others_that_began_with_it_does_not_make_them_look_short(
    database: Database,
) -> None:
    key = await keep_key(database)
    await run(database, key, took_s=6.0, count=8, at_ms=NOW_MS - 20_000)
    await start(database, await keep_task(database, key), at_ms=NOW_MS)
    await run(database, key, took_s=0.5, count=4, at_ms=NOW_MS + 1000)
    assert (await look(database, NOW_MS + 5000)).took_ms == {LIVE: (6000,) * 8}


async def test_while_little_has_ended_whatever_has_is_taken(database: Database) -> None:
    key = await keep_key(database)
    await start(database, await keep_task(database, key), at_ms=NOW_MS)
    await run(database, key, took_s=0.5, at_ms=NOW_MS + 1000)
    assert (await look(database, NOW_MS + 5000)).took_ms == {LIVE: (500,)}


async def test_places_count_what_still_waits_in_the_same_line(database: Database) -> None:
    key, other = await keep_key(database), await keep_key(database)
    mine = await keep_tasks(database, key, 5)
    theirs = await keep_task(database, other)
    await keep_task(database, key, test=True)
    await start(database, mine[0])
    found = await places(database, mine[4], mine[0], theirs, mine[2], a_task(key))
    assert {task_id: place.number for task_id, place in found.items()} == {
        mine[2].id: 2,
        mine[4].id: 4,
        theirs.id: 1,
    }
    assert found[mine[4].id].line.tenant_id == key.tenant_id


async def test_looks_and_probes_go_along_indexes_of_what_waits_and_runs(sqlite_database: Database) -> None:
    def plans(tx: Tx) -> list[str]:
        values: dict[str, Any] = {"now_ms": 1, "before_ms": 1, "name": "lyria-002", "ids": ["a", "b"]}
        statements = [each._statement for each in (queueview._LINES, queueview._RUNNING, queueview._ENDED)]
        steps = []
        for statement in (*statements, queueview._PLACES):
            text = statement.params(**{n: values[n] for n in statement.compile().params if n in values})
            text = text.compile(dialect=tx.dialect, compile_kwargs={"literal_binds": True}).string
            steps += [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        return steps

    touching = [step for step in await sqlite_database.read(plans) if " tasks" in step or " attempts" in step]
    assert touching
    assert [step for step in touching if not step.startswith("SEARCH")] == [
        "SCAN tasks USING INDEX ix_tasks_running"
    ]


# What is told


async def test_places_are_the_order_in_which_workers_then_start(database: Database, view: QueueView) -> None:
    """One at a time, so that who runs least is always everybody."""
    kept = []
    for weight, count in ((1, 4), (3, 6), (1, 3)):
        key = await keep_key(database, await keep_tenant(database, weight=weight))
        kept += await keep_tasks(database, key, count)
    told = await asyncio.gather(*map(view.place, kept))
    by_position = sorted(zip(told, kept, strict=True), key=lambda pair: pair[0].position)
    started = []
    for number in range(len(kept)):
        lease = await database.write(lambda tx, token=f"l{number}": claim_next(tx, token))
        started.append(lease.task.id)
        await database.write(
            lambda tx, lease=lease: work.finish(
                tx, lease.task.id, token=lease.token, state=TaskState.SUCCEEDED, error=None, now_ms=NOW_MS
            )
        )
    assert [place.position for place, _ in by_position] == list(range(1, len(kept) + 1))
    assert [task.id for _, task in by_position] == started


async def test_the_estimate_comes_from_what_runs_and_what_ended(
    database: Database, view: QueueView, clock: SetClock
) -> None:
    key = await keep_key(database)
    await run(database, key, took_s=4.0, count=8, at_ms=NOW_MS - 20_000)
    running, first, second = await keep_tasks(database, key, 3)
    await start(database, running)
    clock.advance(1.5)
    assert await view.place(first) == QueuePlace(1, 2.5)
    assert await view.place(second) == QueuePlace(2, 6.5)


async def test_only_queued_tasks_have_a_place(database: Database, view: QueueView) -> None:
    task = await keep_task(database)
    await start(database, task)
    assert await view.place(task) is None
    assert await view.place(a_task(await keep_key(database), state=TaskState.RUNNING)) is None


async def test_without_any_duration_there_is_a_position_only(database: Database, view: QueueView) -> None:
    assert await view.place(await keep_task(database)) == QueuePlace(1, None)


async def test_a_suspended_tenants_tasks_come_last_at_no_known_time(
    database: Database, view: QueueView
) -> None:
    tenant = await keep_tenant(database, status=TenantStatus.SUSPENDED)
    theirs = await keep_task(database, await keep_key(database, tenant))
    key = await keep_key(database)
    await run(database, key, took_s=4.0, at_ms=NOW_MS - 10_000)
    mine = await keep_tasks(database, key, 2)
    assert await view.place(theirs) == QueuePlace(3, None)
    assert [(await view.place(task)).position for task in mine] == [1, 2]


async def test_nothing_starts_before_the_deployment_takes_calls_again(
    database: Database, view: QueueView
) -> None:
    key = await keep_key(database)
    await run(database, key, took_s=4.0, at_ms=NOW_MS - 10_000)
    task = await keep_task(database, key)
    cooling = Health(cooling_until_ms=NOW_MS + 30_000, broken_until_ms=NOW_MS + 45_000)
    await database.write(lambda tx: deployments.keep_health(tx, DEPLOYMENT.name, cooling))
    assert await view.place(task) == QueuePlace(1, 45.0)


async def test_what_deployments_may_do_bounds_how_many_start(database: Database, clock: SetClock) -> None:
    key = await keep_key(database)
    await run(database, key, took_s=4.0, count=2, at_ms=NOW_MS - 10_000)
    _, second, third = await keep_tasks(database, key, 3)

    def view(**limits: int) -> QueueView:
        return QueueView(database, clock, (a_deployment(**limits),), slots=8)

    assert await view().place(third) == QueuePlace(3, 0.0)
    assert await view(concurrency=1).place(third) == QueuePlace(3, 8.0)
    assert await view(concurrency=2).place(second) == QueuePlace(2, 0.0)
    # Two of four in this minute were called already.
    assert await view(rpm=4).place(third) == QueuePlace(3, 15.0)


async def test_a_tenant_busy_with_another_model_waits_for_those_who_run_less(
    database: Database, clock: SetClock
) -> None:
    key, other = await keep_key(database), await keep_key(database)
    elsewhere = await keep_task(database, key, model=MUSICGEN)
    await start(database, elsewhere, deployment="musicgen")
    mine = await keep_task(database, key)
    await keep_task(database, other)
    assert (await QueueView(database, clock, (DEPLOYMENT,), slots=2).place(mine)).position == 2


# How often is read


class Reads:
    """Counts what is read of a database."""

    def __init__(self, database: Database, patch: pytest.MonkeyPatch) -> None:
        self.looks = self.probes = 0
        read, read_long = database.read, database.read_long

        async def probed(function: Callable[[Tx], Any]) -> Any:
            self.probes += 1
            return await read(function)

        async def looked(function: Callable[[Tx], Any]) -> Any:
            self.looks += 1
            return await read_long(function)

        patch.setattr(database, "read", probed)
        patch.setattr(database, "read_long", looked)


@pytest.fixture
def reads(database: Database, monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(database, monkeypatch)


async def test_many_who_ask_at_once_share_a_look_and_a_few_probes(
    database: Database, view: QueueView, reads: Reads
) -> None:
    tasks = await keep_tasks(database, await keep_key(database), 20)
    reads.probes = 0
    told = await asyncio.gather(*(view.place(task) for task in tasks * 10))
    assert [place.position for place in told] == list(range(1, 21)) * 10
    assert reads.looks == 1
    assert reads.probes <= 2


async def test_a_look_is_good_for_a_moment(
    database: Database, view: QueueView, reads: Reads, clock: SetClock
) -> None:
    task = await keep_task(database)
    for _ in range(2):
        await view.place(task)
    assert reads.looks == 1
    clock.advance(0.1)
    await view.place(task)
    assert reads.looks == 2


async def test_a_look_at_much_that_waits_is_good_for_longer(
    database: Database, view: QueueView, reads: Reads, clock: SetClock
) -> None:
    task, *_ = await keep_tasks(database, await keep_key(database), 300)
    for seconds, looks in ((0.0, 1), (0.2, 1), (0.2, 2)):
        clock.advance(seconds)
        await view.place(task)
        assert reads.looks == looks


async def test_running_tasks_cost_no_look(database: Database, view: QueueView, reads: Reads) -> None:
    assert await view.place(a_task(await keep_key(database), state=TaskState.RUNNING)) is None
    assert reads.looks == reads.probes == 0


async def test_a_long_look_is_good_for_longer_but_not_for_ever(
    database: Database, view: QueueView, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, looks, read_long = await keep_task(database), 0, database.read_long

    async def slowly(function: Callable[[Tx], Any]) -> Any:
        nonlocal looks
        looks += 1
        clock.advance(0.2 if looks == 1 else 60.0)
        return await read_long(function)

    monkeypatch.setattr(database, "read_long", slowly)
    await view.place(task)
    clock.advance(1.9)
    await view.place(task)
    assert looks == 1
    clock.advance(0.2)
    await view.place(task)
    clock.advance(4.9)
    await view.place(task)
    assert looks == 2
    clock.advance(0.2)
    await view.place(task)
    assert looks == 3


async def test_lines_that_began_or_grew_since_the_look_are_counted(
    database: Database, view: QueueView, reads: Reads
) -> None:
    key = await keep_key(database)
    (first,) = await keep_tasks(database, key, 1)
    assert (await view.place(first)).position == 1
    *_, last = await keep_tasks(database, key, 4)
    newcomer = await keep_task(database)
    assert (await view.place(last)).position == 5
    assert (await view.place(newcomer)).position == 2
    assert (await view.place(last)).position == 6
    assert reads.looks == 1


async def test_without_the_database_there_is_no_place_and_no_error(
    database: Database, view: QueueView
) -> None:
    task = await keep_task(database)
    await database.close()
    assert await view.place(task) is None


async def test_who_hangs_up_does_not_take_the_look_from_others(database: Database, view: QueueView) -> None:
    task = await keep_task(database)
    impatient = asyncio.create_task(view.place(task))
    patient = asyncio.create_task(view.place(task))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).position == 1
