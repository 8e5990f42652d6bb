"""A task that finds a free slot and nobody waiting is claimed in the transaction that writes it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.bootstrap.services import Services, open_services
from gateway.db import work
from gateway.errors import LimitReached
from gateway.model import MusicSpec, Principal, Route, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.runner import RunnerPolicy
from gateway.tasks.submission import Submission
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.factories import a_caller, keep_tenant

ON_BOTH_DATABASES = True

MUSIC = Submission(Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None)


@pytest.fixture
async def worker(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Services]:
    """A gateway whose runner has looked and found nothing."""
    async with open_services(settings) as services:
        services.runner.start()
        await eventually(lambda: services.runner._idle)
        yield services
        await services.runner.drain()


@pytest.fixture
async def principal(worker: Services) -> Principal:
    return (await a_caller(worker.database))[0]


async def commits(services: Services, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written from now on, a name for each transaction; what is repeated by the clock left out."""
    made: list[str] = []
    write = services.database.write

    def named(function):
        name = getattr(function, "__qualname__", "") or function.func.__qualname__
        if "_expire" not in name and "_renew" not in name:
            made.append(name.rpartition(".")[2])
        return write(function)

    monkeypatch.setattr(services.database, "write", named)
    return made


async def finished(services: Services, principal: Principal, task: Task) -> Task:
    return await services.tasks.wait(principal, task.id, timeout_s=30)


async def test_a_task_costs_two_commits(
    worker: Services, principal: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await commits(worker, monkeypatch)
    admitted = await worker.tasks.submit(principal, MUSIC, wait_s=30)
    assert admitted.task.state is TaskState.SUCCEEDED
    assert made == ["_admit_and_claim", "write"]


async def test_who_posts_and_waits_is_handed_the_task_as_it_ended(
    worker: Services, principal: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither word of the admission nor of the end makes the caller read the row."""
    monkeypatch.setattr(worker.tasks, "get", None)
    admitted = await worker.tasks.submit(principal, MUSIC, wait_s=30)
    assert admitted.task.state is TaskState.SUCCEEDED


async def test_who_waits_for_a_running_task_reads_it_once(
    worker: Services, principal: Principal, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.script({"delay_s": 0.3})
    task = (await worker.tasks.submit(principal, MUSIC)).task
    asked = []
    get = worker.tasks.get
    monkeypatch.setattr(worker.tasks, "get", lambda *of: asked.append(of) or get(*of))
    assert (await finished(worker, principal, task)).state is TaskState.SUCCEEDED
    assert len(asked) == 1


async def test_it_has_been_through_every_state(worker: Services, principal: Principal) -> None:
    task = (await worker.tasks.submit(principal, MUSIC, wait_s=30)).task
    rows = await worker.database.read(
        lambda tx: tx.exec_driver_sql("SELECT task_id, kind FROM task_events ORDER BY id").all()
    )
    assert [tuple(row) for row in rows] == [
        (task.id, kind) for kind in ("queued", "running", "clip", "succeeded")
    ]
    assert task == await worker.tasks.get(principal, task.id)


async def test_the_call_is_on_record_before_the_caller_is_told(
    worker: Services, principal: Principal, emulator: RunningEmulator
) -> None:
    emulator.script({"hang": True})
    task = (await worker.tasks.submit(principal, MUSIC)).task
    rows = await worker.database.read(
        lambda tx: tx.exec_driver_sql("SELECT task_id, state, number FROM attempts").all()
    )
    assert [tuple(row) for row in rows] == [(task.id, "started", 1)]


async def test_what_is_refused_keeps_no_slot(worker: Services, principal: Principal) -> None:
    worker.runner._policy = RunnerPolicy(1, 60, 8)
    limited = (await a_caller(worker.database, rpm=1))[0]
    await worker.tasks.submit(limited, MUSIC, wait_s=30)
    for _ in range(3):
        with pytest.raises(LimitReached):
            await worker.tasks.submit(limited, MUSIC)
    assert (await worker.tasks.submit(principal, MUSIC, wait_s=30)).task.state is TaskState.SUCCEEDED


async def test_a_caller_that_hangs_up_loses_nothing(worker: Services, principal: Principal) -> None:
    # Else that would be what it hangs up on, and nothing was accepted yet.
    await worker.tasks._availability.broken()
    calling = asyncio.create_task(worker.tasks.submit(principal, MUSIC))
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)

    async def states() -> list[str]:
        return await worker.database.read(
            lambda tx: list(tx.exec_driver_sql("SELECT state FROM tasks").scalars())
        )

    async with asyncio.timeout(30):
        while await states() != ["succeeded"]:  # noqa: ASYNC110 - the worker is what is waited for
            await asyncio.sleep(0.02)


async def test_a_burst_never_runs_more_than_allowed(
    worker: Services, principal: Principal, emulator: RunningEmulator
) -> None:
    worker.runner._policy = RunnerPolicy(3, 60, 8)
    emulator.settings(latency_s=0.05)
    tasks = await asyncio.gather(*(worker.tasks.submit(principal, MUSIC) for _ in range(12)))
    assert {(await finished(worker, principal, each.task)).state for each in tasks} == {TaskState.SUCCEEDED}
    assert emulator.calls()["peak_running"] == 3


async def test_a_tenant_at_its_limit_waits(worker: Services, emulator: RunningEmulator) -> None:
    tenant = await keep_tenant(worker.database, max_concurrent=1)
    caller = (await a_caller(worker.database, tenant))[0]
    emulator.settings(latency_s=0.2)
    first, second = [(await worker.tasks.submit(caller, MUSIC)).task for _ in range(2)]
    states = [(await worker.tasks.get(caller, task.id)).state for task in (first, second)]
    assert states == [TaskState.RUNNING, TaskState.QUEUED]
    assert (await finished(worker, caller, second)).state is TaskState.SUCCEEDED
    assert emulator.calls()["peak_running"] == 1


async def test_who_waits_already_goes_first(
    worker: Services, principal: Principal, emulator: RunningEmulator
) -> None:
    worker.runner._policy = RunnerPolicy(1, 60, 8)
    emulator.settings(latency_s=0.1)
    tasks = [(await worker.tasks.submit(principal, MUSIC)).task for _ in range(4)]
    ended = [await finished(worker, principal, task) for task in tasks]
    starts = [task.started_at_ms or 0 for task in ended]
    assert starts == sorted(starts)


async def test_nothing_is_taken_once_it_drains(worker: Services, principal: Principal) -> None:
    await worker.runner.drain()
    task = (await worker.tasks.submit(principal, MUSIC)).task
    assert (await worker.tasks.get(principal, task.id)).state is TaskState.QUEUED
    assert worker.signals.work.is_set()


async def test_a_claim_within_the_limit_counts_what_runs(worker: Services) -> None:
    await worker.runner.drain()
    tenant = await keep_tenant(worker.database, max_concurrent=2)
    caller = (await a_caller(worker.database, tenant))[0]
    tasks = [(await worker.tasks.submit(caller, MUSIC)).task for _ in range(3)]
    leases = await worker.database.write(
        lambda tx: [
            work.claim(tx, task.id, token=task.id, now_ms=1, expires_at_ms=2, within_limit=True)
            for task in tasks
        ]
    )
    assert [lease is not None for lease in leases] == [True, True, False]
