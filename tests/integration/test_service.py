"""What callers may do with tasks, always within their own tenant."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.bootstrap.services import Services, open_services
from gateway.db import work
from gateway.db.engine import Tx
from gateway.errors import ErrorCode, InvalidRequest, LimitReached, NotFound, Unavailable
from gateway.families.lyria2 import LYRIA2
from gateway.model import MusicSpec, Principal, Route, Task, TaskError, TaskState
from gateway.settings import Settings
from gateway.tasks import snapshots
from gateway.tasks.catalog import Catalog
from gateway.tasks.submission import Submission
from tests.clock import SetClock
from tests.databases import Store, open_store
from tests.factories import a_caller, a_clip

ON_BOTH_DATABASES = True

LYRIA = Submission(Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None)


@pytest.fixture
async def services(settings: Settings, clock: SetClock) -> AsyncIterator[Services]:
    async with open_services(settings, clock) as opened:
        yield opened


@pytest.fixture
async def principal(services: Services) -> Principal:
    return (await a_caller(services.database))[0]


async def claim(services: Services, task: Task, token: str = "mine") -> None:
    now_ms = services.clock.now_ms()
    await services.database.write(
        lambda tx: work.claim(tx, task.id, token=token, now_ms=now_ms, expires_at_ms=now_ms + 60_000)
    )


async def end(services: Services, task: Task, state: TaskState = TaskState.SUCCEEDED) -> None:
    """As this process's worker does it."""
    await services.database.write(
        lambda tx: work.finish(tx, task.id, token="mine", state=state, error=None, now_ms=1)
    )
    services.signals.ended(task.id)


async def test_a_request_becomes_a_queued_task(
    services: Services, principal: Principal, clock: SetClock
) -> None:
    submission = replace(
        LYRIA,
        spec=MusicSpec("slow piano", 3, "drums", 7),
        metadata={"project": "spring"},
        request_id="r9",
        traceparent="00-x",
    )
    task = (await services.tasks.submit(principal, submission)).task
    assert task == Task(
        id=task.id,
        tenant_id=principal.tenant_id,
        key_id=principal.key_id,
        route=Route.LYRIA,
        model=LYRIA2,
        state=TaskState.QUEUED,
        spec=MusicSpec("slow piano", 3, "drums", 7),
        metadata={"project": "spring"},
        price_micros=180_000,
        created_at_ms=clock.now_ms(),
        emulated=True,
        request_id="r9",
        traceparent="00-x",
    )
    assert await services.tasks.get(principal, task.id) == task


async def test_a_request_is_on_disk_when_it_is_accepted(
    services: Services, principal: Principal, store: Store
) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    assert await store.fetch("SELECT id, prompt FROM tasks") == [(task.id, "slow piano")]


async def test_a_request_wakes_the_worker(services: Services, principal: Principal) -> None:
    assert not services.signals.work.is_set()
    await services.tasks.submit(principal, LYRIA)
    assert services.signals.work.is_set()


async def test_the_deadline_runs_from_acceptance(
    services: Services, principal: Principal, clock: SetClock
) -> None:
    await services.tasks.submit(principal, LYRIA)
    found = await services.database.read(
        lambda tx: tx.exec_driver_sql("SELECT deadline_at_ms FROM tasks").scalar_one()
    )
    assert found == clock.now_ms() + 900_000


@pytest.mark.parametrize(
    "submission",
    [
        replace(LYRIA, model="suno"),
        replace(LYRIA, model="musicgen"),
        replace(LYRIA, route=Route.STANDARD, model="lyria-002", spec=MusicSpec("x", bitrate_kbps=64)),
    ],
)
async def test_what_no_model_here_can_do_leaves_no_trace(
    services: Services, principal: Principal, submission: Submission
) -> None:
    with pytest.raises(InvalidRequest):
        await services.tasks.submit(principal, submission)
    assert (await services.look_at_backlog()).waiting == {}


async def test_a_gateway_without_a_model_is_unavailable(services: Services, principal: Principal) -> None:
    services.tasks._catalog = Catalog(())
    with pytest.raises(Unavailable) as caught:
        await services.tasks.submit(principal, LYRIA)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


async def test_a_refused_request_is_not_counted(services: Services) -> None:
    principal, _ = await a_caller(services.database, rpm=1)
    await services.tasks.submit(principal, LYRIA)
    services.signals.work.clear()
    with pytest.raises(LimitReached):
        await services.tasks.submit(principal, LYRIA)
    assert not services.signals.work.is_set()
    text = services.metrics.render().decode()
    assert 'gateway_tasks_total{mode="live",model="lyria-002",state="queued"} 1.0' in text


async def test_another_tenants_task_is_no_task(services: Services, principal: Principal) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    stranger, _ = await a_caller(services.database)
    told = set()
    for caller, task_id in ((stranger, task.id), (stranger, "task_unknown"), (principal, "' OR 1=1")):
        with pytest.raises(NotFound) as caught:
            await services.tasks.get(caller, task_id)
        told.add((caught.value.code, caught.value.detail))
        with pytest.raises(NotFound):
            await services.tasks.wait(caller, task_id, timeout_s=5)
    assert len(told) == 1


async def test_another_key_of_the_tenant_sees_its_tasks(services: Services, principal: Principal) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    colleague = Principal(principal.tenant_id, "another key")
    assert await services.tasks.get(colleague, task.id) == task


async def test_a_task_is_remembered_until_it_changes(
    services: Services, principal: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    await services.tasks.get(principal, task.id)
    reads = []
    read = services.database.read
    monkeypatch.setattr(services.database, "read", lambda function: reads.append(1) or read(function))
    for _ in range(5):
        assert (await services.tasks.get(principal, task.id)).state is TaskState.QUEUED
    assert reads == []
    await claim(services, task)
    assert (await services.tasks.get(principal, task.id)).state is TaskState.RUNNING
    await end(services, task, TaskState.FAILED)
    assert (await services.tasks.get(principal, task.id)).state is TaskState.FAILED


async def test_what_is_remembered_of_tasks_is_bounded(
    services: Services, principal: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_LIMIT", 2)
    tasks = [(await services.tasks.submit(principal, LYRIA)).task for _ in range(5)]
    for task in tasks * 2:
        assert await services.tasks.get(principal, task.id) == task
    assert len(services.tasks._snapshots._kept) == 2


async def test_a_change_by_another_process_is_noticed(
    services: Services, principal: Principal, store: Store
) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    await services.tasks.get(principal, task.id)
    other = await open_store(store)

    def end(tx: Tx) -> None:
        work.claim(tx, task.id, token="other", now_ms=1, expires_at_ms=2)
        error = TaskError("canceled", "no")
        work.finish(tx, task.id, token="other", state=TaskState.FAILED, error=error, now_ms=1)

    await other.write(end)
    await other.close()
    async with asyncio.timeout(10):
        while (await services.tasks.get(principal, task.id)).state is TaskState.QUEUED:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # a poll a little later, as callers do
    assert (await services.tasks.get(principal, task.id)).error == TaskError("canceled", "no")


async def test_waiting_ends_with_the_task(services: Services, principal: Principal) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    waiting = asyncio.create_task(services.tasks.wait(principal, task.id, timeout_s=3600))
    await claim(services, task)
    services.signals.ended(task.id)  # put back, say: no reason to stop waiting
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await end(services, task)
    assert (await waiting).state is TaskState.SUCCEEDED


async def test_waiting_for_what_has_ended_is_short(services: Services, principal: Principal) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    await claim(services, task)
    await end(services, task)
    assert (await services.tasks.wait(principal, task.id, timeout_s=3600)).state is TaskState.SUCCEEDED


async def test_waiting_ends_when_the_time_is_up(
    services: Services, principal: Principal, clock: SetClock
) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    waiting = asyncio.create_task(services.tasks.wait(principal, task.id, timeout_s=10))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    clock.advance(10)
    services.signals.ended(task.id)
    assert (await waiting).state is TaskState.QUEUED


async def test_waiting_no_time_is_looking(services: Services, principal: Principal) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    assert (await services.tasks.wait(principal, task.id, timeout_s=0)).state is TaskState.QUEUED


async def test_waiting_ends_when_the_process_goes_away(services: Services, principal: Principal) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    waiting = asyncio.create_task(services.tasks.wait(principal, task.id, timeout_s=3600))
    await asyncio.sleep(0.05)
    services.signals.drain()
    assert (await waiting).state is TaskState.QUEUED


async def test_waiting_asks_nothing_until_something_happens(
    services: Services, principal: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    other = (await services.tasks.submit(principal, LYRIA)).task
    waiting = asyncio.create_task(services.tasks.wait(principal, task.id, timeout_s=3600))
    await asyncio.sleep(0.05)
    asked = []
    get = services.tasks.get
    monkeypatch.setattr(services.tasks, "get", lambda *of: asked.append(of) or get(*of))
    await claim(services, other)
    await end(services, other)
    await asyncio.sleep(0.05)
    assert asked == []
    await claim(services, task)
    await end(services, task)
    assert (await waiting).state is TaskState.SUCCEEDED


async def test_waiting_ends_with_a_task_that_ends_in_another_process(
    services: Services, principal: Principal, store: Store
) -> None:
    """Nothing looks now and then: it is told."""
    task = (await services.tasks.submit(principal, LYRIA)).task
    waiting = asyncio.create_task(services.tasks.wait(principal, task.id, timeout_s=3600))
    other = await open_store(store)

    def run(tx: Tx) -> None:
        work.claim(tx, task.id, token="other", now_ms=1, expires_at_ms=2)
        work.finish(tx, task.id, token="other", state=TaskState.FAILED, error=None, now_ms=1)

    await other.write(run)
    await other.close()
    async with asyncio.timeout(10):
        assert (await waiting).state is TaskState.FAILED


async def test_a_waiter_that_hangs_up_leaves_nothing_behind(services: Services, principal: Principal) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    waiting = [asyncio.create_task(services.tasks.wait(principal, task.id, timeout_s=3600)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert len(services.signals._waiters[task.id]) == 3
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert services.signals._waiters == {}


async def test_each_clip_has_a_link(services: Services, principal: Principal) -> None:
    task = (await services.tasks.submit(principal, LYRIA)).task
    task = replace(task, clips=(a_clip(task, 0), a_clip(task, 1)))
    links = await services.tasks.links(task)
    assert [clip.object_name in link.url for clip, link in zip(task.clips, links, strict=True)] == [
        True,
        True,
    ]
    assert await services.tasks.links(task) == links
    assert await services.tasks.links(replace(task, clips=())) == ()


async def test_nothing_is_accepted_that_the_database_did_not_take(
    services: Services, principal: Principal, tmp_path: Path
) -> None:
    await services.database.close()
    with pytest.raises(Unavailable):
        await services.tasks.submit(principal, LYRIA)
    assert not services.signals.work.is_set()
