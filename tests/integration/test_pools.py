"""Deployments as one supply, with real calls: where they go, and what all workers know of their trouble."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.db import deployments
from gateway.db.deployments import Health
from gateway.db.lines import Lane
from gateway.families.lyria2 import LYRIA2
from gateway.model import TaskState
from gateway.settings import Settings
from tests.emulator import RunningEmulator
from tests.workshop import Workshop, open_workshop

LIVE = Lane(LYRIA2, test=False)
POOL = """
deployments:
  - {name: one, model: lyria-002, project: p, location: us-central1}
  - {name: two, model: lyria-002, project: p, location: europe-west4}
"""
ALONE = "deployments: [{name: one, model: lyria-002, project: p, location: us-central1}]"


@pytest.fixture(params=[POOL])
async def shop(
    request: pytest.FixtureRequest, settings: Settings, emulator: RunningEmulator, tmp_path: Path
) -> AsyncIterator[Workshop]:
    path = tmp_path / "deployments.yaml"
    path.write_text(request.param)
    changed = settings.model_copy(update={"deployments_file": path})
    async with open_workshop(changed, emulator) as shop:
        yield shop


def alone(test):  # noqa: ANN001, ANN201 - a decorator of tests
    """With one deployment and no other."""
    return pytest.mark.parametrize("shop", [ALONE], indirect=True)(test)


async def where(shop: Workshop) -> list[str]:
    return [
        name for (name,) in await shop.rows("SELECT deployment FROM attempts ORDER BY started_at_ms, number")
    ]


async def health(shop: Workshop, name: str) -> Health:
    return await shop.services.database.read(lambda tx: deployments.get_health(tx, name))


async def test_calls_take_turns_among_deployments(shop: Workshop) -> None:
    for _ in range(4):
        assert (await shop.finish(await shop.submit())).state is TaskState.SUCCEEDED
        shop.clock.advance(1)
    assert sorted(await where(shop)) == ["one", "one", "two", "two"]


async def test_a_busy_one_leaves_its_call_to_another_at_once(shop: Workshop) -> None:
    shop.emulator.script({"preset": "capacity", "retry_after": 30})
    task = await shop.submit()
    assert await shop.step(task) is TaskState.QUEUED
    assert await shop.pause_s(task) == 0
    assert await shop.step(task) is TaskState.SUCCEEDED
    assert len(set(await where(shop))) == 2


async def test_a_misconfigured_one_is_broken_and_another_does_it(shop: Workshop) -> None:
    shop.emulator.script({"preset": "not_found"})
    task = await shop.finish(await shop.submit())
    assert task.state is TaskState.SUCCEEDED
    first, second = await where(shop)
    assert (await health(shop, first)).broken_until_ms is not None
    assert second != first


@alone
async def test_while_it_cools_down_nobody_calls_it_and_no_attempt_is_lost(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.emulator.script({"preset": "quota", "retry_after": 20})
    task = await shop.submit()
    assert await shop.step(task) is TaskState.QUEUED
    assert await shop.pause_s(task) >= 20
    other = await shop.submit()
    assert await shop.step(other) is TaskState.QUEUED
    assert shop.emulator.calls()["received"] == 1
    # A little more than it was told, and each a different little.
    assert re.search(r"deployment one is busy; it cools down for 2[01]\.\d s", caplog.text)
    shop.clock.advance(25)
    assert await shop.step(task) is TaskState.SUCCEEDED
    assert await shop.step(other) is TaskState.SUCCEEDED
    assert await health(shop, "one") == deployments.WELL


@alone
async def test_a_broken_one_is_probed_by_one_call(shop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    shop.emulator.script({"preset": "internal", "times": 5})
    tasks = [await shop.submit() for _ in range(5)]
    for task in tasks:
        assert await shop.step(task) is TaskState.QUEUED
    assert (await health(shop, "one")).broken_until_ms is not None
    shop.clock.advance(2)
    assert await shop.step(tasks[0]) is TaskState.QUEUED
    assert shop.emulator.calls()["received"] == 5
    shop.clock.advance(60)
    assert await shop.step(tasks[0]) is TaskState.SUCCEEDED
    assert await health(shop, "one") == deployments.WELL
    assert await shop.step(tasks[1]) is TaskState.SUCCEEDED
    assert "deployment one is broken, 5 faults in a row; it is probed in " in caplog.text
    assert "deployment one is well again" in caplog.text


@alone
async def test_one_that_stands_alone_and_is_misconfigured_fails_its_tasks_at_once(shop: Workshop) -> None:
    shop.emulator.script({"preset": "not_found", "times": 2})
    for _ in range(2):
        task = await shop.finish(await shop.submit())
        assert (task.state, task.error.code) == (TaskState.FAILED, "model_misconfigured")
    assert (await health(shop, "one")).broken_until_ms is None


@alone
async def test_calls_for_test_keys_take_nothing_of_a_quota(shop: Workshop) -> None:
    limited = replace(shop.services.runner._claimer._pool._catalog.deployments[0], rpm=1)
    shop.services.runner._claimer._pool._catalog.deployments = (limited,)
    pool = shop.services.runner._claimer._pool
    await shop.finish(await shop.submit())
    now_ms = shop.clock.now_ms()
    read = shop.services.database.read
    assert await read(lambda tx: pool.find_room(tx, LIVE, now_ms=now_ms)) is None
    assert await read(lambda tx: pool.wait_s(tx, LIVE, now_ms=now_ms)) == 60
    assert await read(lambda tx: pool.find_room(tx, replace(LIVE, test=True), now_ms=now_ms)) is not None
