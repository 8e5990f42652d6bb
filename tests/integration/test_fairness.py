"""Tenants side by side at a real worker: a flood, weights, and one whose tasks are stuck."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import pytest

from gateway.bootstrap.services import Services, open_services
from gateway.db import work
from gateway.db.work import Lease
from gateway.model import MusicSpec, Principal, Route, Task, TaskState
from gateway.settings import Settings
from gateway.tasks.submission import Submission
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.factories import a_caller, keep_tenant

SLOTS = 2
FLOOD = 500


@pytest.fixture
async def services(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Services]:
    """A worker with two slots, which the test starts."""
    unlimited = {"concurrency": SLOTS, "default_rpm": 10**6, "default_max_queued": 10**6}
    async with open_services(settings.model_copy(update=unlimited)) as services:
        yield services
        await services.drain()


async def a_team(services: Services, **limits: int) -> Principal:
    tenant = await keep_tenant(services.database, **limits)
    return (await a_caller(services.database, tenant, rpm=10**6))[0]


async def submit(
    services: Services, team: Principal, times: int = 1, prompt: str = "slow piano"
) -> list[Task]:
    submission = Submission(Route.LYRIA, MusicSpec(prompt), None, {}, "r1", None)
    return [(await services.tasks.submit(team, submission)).task for _ in range(times)]


async def starts(services: Services) -> list[str]:
    """The tenants of all tasks that were started, in the order of their starts."""
    found = await services.database.read(
        lambda tx: tx.exec_driver_sql(
            "SELECT tasks.tenant_id FROM task_events JOIN tasks ON tasks.id = task_events.task_id "
            "WHERE kind = 'running' ORDER BY task_events.id"
        ).all()
    )
    return [tenant_id for (tenant_id,) in found]


@pytest.mark.slow
async def test_a_flood_of_one_does_not_hold_up_another(services: Services) -> None:
    flooding, other = await a_team(services), await a_team(services)
    await submit(services, flooding, FLOOD)
    services.runner.start()
    await eventually(lambda: services.metrics.running._value.get() == SLOTS)
    (task,) = await submit(services, other)
    await services.tasks.wait(other, task.id, timeout_s=60)
    order = await starts(services)
    since = order.index(other.tenant_id)
    # Those that ran when it came, and those that took their places before it was there: two service times.
    assert since <= len(order) - 1
    admitted = await started_before(services, task)
    assert since - admitted <= 2 * SLOTS


async def started_before(services: Services, task: Task) -> int:
    """How many tasks had been started when this one was accepted."""
    query = (
        "SELECT count(*) FROM task_events WHERE kind = 'running' AND id < "
        f"(SELECT id FROM task_events WHERE task_id = '{task.id}' AND kind = 'queued')"
    )
    return await services.database.read(lambda tx: tx.exec_driver_sql(query).scalar_one())


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 4])
async def test_shares_are_as_the_weights(services: Services, slots: int) -> None:
    """Of 400 starts with both teams waiting throughout, three of four are of the one that weighs three."""
    heavy, light = await a_team(services, weight=3), await a_team(services, weight=1)
    await submit(services, heavy, 310)
    await submit(services, light, 110)
    running: deque[Lease] = deque()
    for _ in range(400):
        if len(running) == slots:
            await end(services, running.popleft())
        claimed, _ = await services.database.write(lambda tx: services.runner._claimer.take_next(tx, 1))
        running += [lease for lease, _ in claimed]
    order = await starts(services)
    assert len(order) == 400
    assert order.count(heavy.tenant_id) / order.count(light.tenant_id) == pytest.approx(3, rel=0.1)


async def end(services: Services, lease: Lease) -> None:
    state, now_ms = TaskState.FAILED, services.clock.now_ms()
    await services.database.write(
        lambda tx: work.finish(tx, lease.task.id, token=lease.token, state=state, error=None, now_ms=now_ms)
    )


async def test_one_whose_tasks_are_stuck_delays_nobody(services: Services, emulator: RunningEmulator) -> None:
    """It has one slot, where it may have one; all others have the rest."""
    emulator.script({"hang": True, "prompt": "stuck", "times": 9})
    stuck, other = await a_team(services, max_concurrent=1), await a_team(services)
    await submit(services, stuck, 9, prompt="stuck")
    services.runner.start()
    await eventually(lambda: emulator.calls()["received"] == 1)
    tasks = await submit(services, other, 10)
    ended = await asyncio.gather(*(services.tasks.wait(other, task.id, timeout_s=60) for task in tasks))
    assert {task.state.value for task in ended} == {"succeeded"}
    services.runner._policy = type(services.runner._policy)(SLOTS, 60.0, 0.0)
