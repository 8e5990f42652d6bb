"""The worker: how much it runs at once, how it keeps leases, and what it leaves when it goes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.bootstrap.services import Services, open_services
from gateway.db import work
from gateway.errors import Unavailable
from gateway.model import MusicSpec, Principal, Route, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.pipeline import PipelinePolicy
from gateway.tasks.runner import RunnerPolicy
from gateway.tasks.submission import Submission
from tests.databases import Store, open_store
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.factories import a_caller, keep_tenant
from tests.fakes import FailingDatabase

ON_BOTH_DATABASES = True


class Worker:
    """A gateway whose runner is started by hand. Time is real; leases are short where the test says so."""

    def __init__(self, services: Services, emulator: RunningEmulator, principal: Principal) -> None:
        self.services = services
        self.emulator = emulator
        self.principal = principal

    def use(self, concurrency: int = 8, lease_s: float = 60.0, grace_s: float = 8.0) -> None:
        self.services.runner._policy = RunnerPolicy(concurrency, lease_s, grace_s)
        self.services.runner._claimer._lease_s = lease_s

    async def submit(self, principal: Principal | None = None, **spec: Any) -> Task:
        submission = Submission(Route.LYRIA, MusicSpec(**{"prompt": "x"} | spec), None, {}, "r1", None)
        return (await self.services.tasks.submit(principal or self.principal, submission)).task

    async def ended(self, task: Task, principal: Principal | None = None) -> Task:
        return await self.services.tasks.wait(principal or self.principal, task.id, timeout_s=30)

    async def look(self, task: Task) -> Task:
        return await self.services.tasks.get(self.principal, task.id)

    async def until_received(self, count: int) -> None:
        await eventually(lambda: self.emulator.calls()["received"] >= count)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return await self.services.database.read(lambda tx: [tuple(row) for row in tx.exec_driver_sql(query)])


@asynccontextmanager
async def open_worker(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Worker]:
    async with open_services(settings) as services:
        principal, _ = await a_caller(services.database)
        worker = Worker(services, emulator, principal)
        yield worker
        await services.runner.drain()


@pytest.fixture
async def worker(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Worker]:
    async with open_worker(settings, emulator) as opened:
        yield opened


async def test_what_is_submitted_is_run(worker: Worker) -> None:
    worker.services.runner.start()
    task = await worker.ended(await worker.submit())
    assert (task.state, len(task.clips)) == (TaskState.SUCCEEDED, 1)


async def test_what_waited_before_the_start_is_run(worker: Worker) -> None:
    task = await worker.submit()
    worker.services.runner.start()
    assert (await worker.ended(task)).state is TaskState.SUCCEEDED


async def test_no_more_run_at_once_than_allowed(worker: Worker) -> None:
    worker.use(concurrency=2)
    worker.emulator.settings(latency_s=0.1)
    tasks = [await worker.submit() for _ in range(6)]
    worker.services.runner.start()
    assert {(await worker.ended(task)).state for task in tasks} == {TaskState.SUCCEEDED}
    assert worker.emulator.calls()["peak_running"] == 2


async def test_a_concurrency_of_none_runs_nothing(worker: Worker) -> None:
    worker.use(concurrency=0)
    task = await worker.submit()
    worker.services.runner.start()
    await worker.services.runner.drain()
    assert (await worker.look(task)).state is TaskState.QUEUED


async def test_tenants_take_turns(worker: Worker) -> None:
    worker.use(concurrency=1)
    other, _ = await a_caller(worker.services.database, await keep_tenant(worker.services.database))
    loud = [await worker.submit() for _ in range(5)]
    calm = await worker.submit(other)
    worker.services.runner.start()
    await worker.ended(calm, other)
    left = [(await worker.look(task)).state for task in loud].count(TaskState.QUEUED)
    await asyncio.gather(*(worker.ended(task) for task in loud))
    assert left >= 2  # it did not have to wait for all of them


async def test_a_task_put_back_is_taken_up_again(worker: Worker) -> None:
    worker.emulator.script({"status": 500}, {"preset": "recitation"})
    worker.services.runner.start()
    task = await worker.ended(await worker.submit())
    assert (task.state, task.attempt_count) == (TaskState.SUCCEEDED, 3)


async def test_a_mistake_in_one_task_does_not_end_the_worker(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def mistake(*_: object) -> Task:
        monkeypatch.undo()
        raise ZeroDivisionError

    monkeypatch.setattr(worker.services.runner._pipeline, "run", mistake)
    broken = await worker.submit()
    worker.services.runner.start()
    await eventually(lambda: "task was put back" in caplog.text)
    assert (await worker.ended(await worker.submit())).state is TaskState.SUCCEEDED
    ((not_before_ms, created_at_ms),) = await worker.rows(
        f"SELECT not_before_ms, created_at_ms FROM tasks WHERE id = '{broken.id}'"
    )
    assert not_before_ms >= created_at_ms + 5000
    assert (await worker.look(broken)).state is TaskState.QUEUED


async def test_a_database_that_fails_within_a_task_puts_it_back(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = worker.services.runner._pipeline
    pipeline._database = FailingDatabase(worker.services.database, after=0, failures=1)
    task = await worker.submit(sample_count=2, seed=1)
    worker.services.runner.start()
    await eventually(lambda: "task was put back: disk I/O error" in caplog.text)
    await eventually(lambda: not worker.services.runner._active)
    assert (await worker.look(task)).state is TaskState.QUEUED
    assert (
        worker.emulator.calls()["received"] == 1
    )  # the second call could not be recorded, so it was not made


async def test_a_task_that_cannot_be_put_back_is_left_to_its_lease(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker.emulator.script({"hang": True})
    task = await worker.submit()
    worker.use(grace_s=0)
    worker.services.runner.start()
    await worker.until_received(1)
    database = FailingDatabase(worker.services.database, after=0, failures=99)
    monkeypatch.setattr(worker.services.runner, "_database", database)
    await worker.services.runner.drain()
    assert "its lease will run out" in caplog.text
    assert (await worker.look(task)).state is TaskState.RUNNING


async def test_claiming_goes_on_after_the_database_was_away(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = await worker.submit()
    database = FailingDatabase(worker.services.database, after=0, failures=1)
    monkeypatch.setattr(worker.services.runner, "_database", database)
    worker.services.runner.start()
    assert (await worker.ended(task)).state is TaskState.SUCCEEDED
    assert "claiming failed: disk I/O error" in caplog.text


async def test_claiming_goes_on_after_a_mistake(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistake(*_: object) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.tasks.claiming.in_turn", mistake)
    task = await worker.submit()
    worker.services.runner.start()
    assert (await worker.ended(task)).state is TaskState.SUCCEEDED
    assert "claiming failed" in caplog.text


async def test_leases_are_kept_while_work_lasts(worker: Worker) -> None:
    worker.use(lease_s=0.6)
    worker.emulator.settings(latency_s=1.5)
    worker.services.runner.start()
    task = await worker.ended(await worker.submit())
    assert (task.state, task.attempt_count) == (TaskState.SUCCEEDED, 1)
    assert worker.emulator.calls()["received"] == 1


async def test_a_lease_that_was_taken_away_ends_the_work(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    worker.use(lease_s=0.3)
    worker.emulator.script({"hang": True})
    task = await worker.submit()
    worker.services.runner.start()
    await worker.until_received(1)
    await worker.services.database.write(
        lambda tx: tx.exec_driver_sql("UPDATE tasks SET lease_token = 'somebody else'")
    )
    await eventually(lambda: not worker.services.runner._active)
    assert await worker.rows("SELECT state, lease_token FROM tasks") == [("running", "somebody else")]
    assert await worker.rows("SELECT state FROM attempts") == [("started",)]
    assert task.id not in await worker.rows("SELECT task_id FROM outputs")


async def test_a_loss_found_at_the_end_is_said_and_dropped(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.emulator.settings(latency_s=0.3)
    await worker.submit()
    worker.services.runner.start()
    await worker.until_received(1)
    await worker.services.database.write(
        lambda tx: tx.exec_driver_sql("UPDATE tasks SET lease_token = 'somebody else'")
    )
    await eventually(lambda: "another worker has the task" in caplog.text)
    assert await worker.rows("SELECT count(*) FROM outputs") == [(0,)]


async def test_a_process_that_was_stopped_for_longer_than_a_lease_goes_on(worker: Worker) -> None:
    """A laptop that slept, a container that was frozen: the call it waits for is not paid for twice."""
    worker.emulator.settings(latency_s=0.5)
    task = await worker.submit()
    worker.services.runner.start()
    await worker.until_received(1)
    await worker.services.database.write(
        lambda tx: tx.exec_driver_sql("UPDATE tasks SET lease_expires_at_ms = 1")
    )
    await worker.services.runner._expire()
    ended = await worker.ended(task)
    assert (ended.state, ended.attempt_count) == (TaskState.SUCCEEDED, 1)
    assert worker.emulator.calls()["received"] == 1


async def test_a_task_lost_and_claimed_anew_here_keeps_its_new_lease(worker: Worker) -> None:
    """The work under the old lease ends later, and must not take the new one with it."""
    worker.use(lease_s=0.9)
    worker.emulator.script({"delay_s": 0.5}, {"delay_s": 2.0})
    task = await worker.submit()
    worker.services.runner.start()
    await worker.until_received(1)
    await worker.services.database.write(
        lambda tx: tx.exec_driver_sql(
            "UPDATE tasks SET state = 'queued', lease_token = NULL, lease_expires_at_ms = NULL"
        )
    )
    worker.services.signals.work.set()
    ended = await worker.ended(task)
    assert (ended.state, ended.attempt_count) == (TaskState.SUCCEEDED, 2)
    assert worker.emulator.calls()["received"] == 2


async def test_a_dead_workers_task_is_taken_over(worker: Worker, store: Store) -> None:
    """Another process claimed it, began a call, and was never heard of again."""
    task = await worker.submit()
    now_ms = worker.services.clock.now_ms()

    def die(tx: Any) -> None:
        work.claim(tx, task.id, token="dead", now_ms=now_ms, expires_at_ms=now_ms - 1)
        work.begin_attempt(
            tx,
            task.id,
            token="dead",
            attempt_id="a1",
            deployment="lyria-002",
            clips_asked=1,
            now_ms=now_ms,
        )

    other = await open_store(store)
    await other.write(die)
    await other.close()
    worker.services.runner.start()
    ended = await worker.ended(task)
    assert (ended.state, ended.attempt_count) == (TaskState.SUCCEEDED, 2)
    assert await worker.rows("SELECT state FROM attempts ORDER BY number") == [("unknown",), ("succeeded",)]


async def test_two_workers_on_one_database_run_each_task_once(
    worker: Worker, settings: Settings, emulator: RunningEmulator
) -> None:
    async with open_services(settings) as second:
        tasks = [await worker.submit() for _ in range(20)]
        worker.services.runner.start()
        second.runner.start()
        states = {(await worker.ended(task)).state for task in tasks}
        await second.runner.drain()
    assert states == {TaskState.SUCCEEDED}
    assert emulator.calls()["paid"] == 20


async def test_draining_finishes_what_fits(worker: Worker) -> None:
    worker.use(concurrency=1, grace_s=20)
    worker.emulator.settings(latency_s=0.3)
    running, waiting = await worker.submit(), await worker.submit()
    worker.services.runner.start()
    await worker.until_received(1)
    await worker.services.runner.drain()
    assert (await worker.look(running)).state is TaskState.SUCCEEDED
    assert (await worker.look(waiting)).state is TaskState.QUEUED
    assert worker.emulator.calls()["received"] == 1


async def test_draining_gives_back_the_rest_at_once(worker: Worker) -> None:
    worker.use(grace_s=0.1)
    worker.emulator.script({"hang": True})
    task = await worker.submit()
    worker.services.runner.start()
    await worker.until_received(1)
    await worker.services.runner.drain()
    assert (await worker.look(task)).state is TaskState.QUEUED
    assert await worker.rows("SELECT lease_token, not_before_ms <= created_at_ms + 60000 FROM tasks") == [
        (None, 1)
    ]
    assert await worker.rows("SELECT state FROM attempts") == [("unknown",)]
    assert (await worker.rows("SELECT data FROM task_events ORDER BY id"))[-1] == ('{"reason":"drain"}',)
    assert worker.services.runner._active == {}


async def test_draining_keeps_the_clips_that_are_there(worker: Worker, settings: Settings) -> None:
    worker.use(grace_s=0)
    worker.emulator.script({}, {}, {"hang": True})
    task = await worker.submit(sample_count=4, seed=1)
    worker.services.runner.start()
    await worker.until_received(3)
    await worker.services.runner.drain()
    assert [clip.seed for clip in (await worker.look(task)).clips] == [1, 2]
    async with open_services(settings) as successor:
        successor.runner.start()
        ended = await successor.tasks.wait(worker.principal, task.id, timeout_s=30)
        await successor.runner.drain()
    assert [clip.seed for clip in ended.clips] == [1, 2, 3, 4]
    assert [call["seed"] for call in worker.emulator.calls()["calls"]] == [1, 2, 3, 3, 4]


async def test_draining_in_the_middle_of_a_claim_loses_nothing(worker: Worker) -> None:
    task = await worker.submit()
    worker.use(grace_s=20)
    worker.services.runner.start()
    await asyncio.sleep(0)  # the claim is on its way
    await worker.services.runner.drain()
    state = (await worker.look(task)).state
    assert state in {TaskState.QUEUED, TaskState.SUCCEEDED}
    assert await worker.rows("SELECT count(*) FROM tasks WHERE state = 'running'") == [(0,)]


async def test_draining_in_the_middle_of_a_claim_that_fails_ends_all_the_same(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()

    class SlowThenAway:
        async def write(self, function: object) -> None:
            await release.wait()
            raise Unavailable("not now")

    await worker.submit()
    monkeypatch.setattr(worker.services.runner, "_database", SlowThenAway())
    worker.services.runner.start()
    await asyncio.sleep(0.01)
    draining = asyncio.create_task(worker.services.runner.drain())
    await asyncio.sleep(0.01)
    release.set()
    await asyncio.wait_for(draining, 20)


async def test_draining_what_never_started_is_fine(worker: Worker) -> None:
    await worker.services.runner.drain()


async def test_waiters_hear_of_each_change_and_of_the_end_with_the_task(worker: Worker) -> None:
    task = await worker.submit()
    with worker.services.signals.watch(task.id) as watch:
        worker.services.runner.start()
        heard = [await watch.wait(30)]
        while heard[-1] is None:
            heard.append(await watch.wait(30))
    assert heard == [None, await worker.look(task)]
    assert heard[-1].state is TaskState.SUCCEEDED


async def test_what_runs_is_shown(worker: Worker) -> None:
    worker.emulator.script({"hang": True})
    worker.use(grace_s=0)
    await worker.submit()
    worker.services.runner.start()
    await worker.until_received(1)
    assert "gateway_tasks_running 1.0" in worker.services.metrics.render().decode()
    await worker.services.runner.drain()
    assert "gateway_tasks_running 0.0" in worker.services.metrics.render().decode()


async def test_log_lines_name_the_task(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")
    worker.services.runner._pipeline._policy = PipelinePolicy(1, 5)
    worker.emulator.script({"status": 500})
    worker.services.runner.start()
    assert (await worker.ended(await worker.submit())).state is TaskState.FAILED
    await eventually(lambda: "task is failed" in caplog.text)
    failed = next(record for record in caplog.records if "call to lyria-002 failed" in record.message)
    assert (failed.code, failed.fault, failed.status) == ("model_unavailable", "broken", 500)
