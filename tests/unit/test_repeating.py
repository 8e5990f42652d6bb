"""Loops that outlive any one mistake, and chores that are done once more at the end."""

import asyncio
import logging

import pytest

from gateway.errors import Unavailable
from gateway.tasks.repeating import Chore, Chores, attempt, repeat, stop
from tests.clock import SetClock


class Work:
    """Fails with each of these first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.done = 0
        self._progress = asyncio.Event()

    async def until_done(self, times: int) -> None:
        while self.done < times:
            self._progress.clear()
            await self._progress.wait()

    async def __call__(self) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.done += 1
        self._progress.set()


async def test_it_is_done_again_and_again_at_its_pace() -> None:
    clock, work = SetClock(), Work()
    running = asyncio.create_task(repeat(clock, "working", 7.0, work))
    await work.until_done(3)
    await stop([running])
    assert clock.slept_s[:3] == [7.0, 7.0, 7.0]
    assert running.cancelled()


async def test_a_mistake_is_logged_and_the_next_round_starts_afresh(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, work = SetClock(), Work(Unavailable("public", internal="disk full"), ValueError("a mistake"))
    running = asyncio.create_task(repeat(clock, "working", 7.0, work))
    await work.until_done(1)
    await stop([running])
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "working failed: disk full"),
        (logging.ERROR, "working failed"),
    ]
    assert clock.slept_s[:4] == [7.0, 1.0, 7.0, 1.0]


async def test_being_stopped_is_no_mistake() -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    running = asyncio.create_task(attempt(SetClock(), "waiting", for_ever))
    await asyncio.sleep(0)
    await stop([running])
    assert running.cancelled()


async def test_nothing_to_stop_is_fine() -> None:
    await stop([])


async def test_chores_run_until_they_end_and_some_once_more() -> None:
    clock, often, last = SetClock(), Work(), Work()
    chores = Chores(clock, (Chore("often", 1.0, often), Chore("last", 10**9, last, at_end=True)))
    chores.start()
    await often.until_done(2)
    before = last.done
    await chores.end()
    done = often.done
    await asyncio.sleep(0)
    assert last.done == before + 1
    assert often.done == done


async def test_chores_that_never_started_can_end() -> None:
    last = Work()
    await Chores(SetClock(), (Chore("last", 1.0, last, at_end=True),)).end()
    assert last.done == 1
