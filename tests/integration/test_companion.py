"""The emulator beside the gateway: one real child process, started when needed, missed, and taken along."""

import asyncio
import sys
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest

from gateway.companion import Companion, Emulator, _announced_url, _stop, start_emulator
from gateway.errors import AttemptFault, ConfigurationError, ErrorCode, UpstreamError
from tests.clock import SetClock
from tests.eventually import eventually


@pytest.fixture
async def companion(clock: SetClock) -> AsyncIterator[Companion]:
    made = Companion(clock)
    yield made
    await made.close()


def children() -> list[psutil.Process]:
    """Companions of this process; the emulators of other tests are not frugal ones."""
    return [child for child in psutil.Process().children() if "--frugal" in child.cmdline()]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def kill_child(companion: Companion) -> None:
    """SIGKILL, and wait until the loop has heard of it."""
    (child,) = children()
    child.kill()
    assert companion._current is not None
    emulator = companion._current.result()
    await eventually(lambda: emulator.ended)


async def is_emulator(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        return bool((await client.get(f"{url}/control/health")).json()["emulator"])


# One that is started


async def test_an_emulator_tells_where_it_listens_until_it_is_stopped() -> None:
    emulator = await start_emulator()
    assert await is_emulator(emulator.url)
    assert not emulator.ended
    await emulator.stop()
    assert emulator.ended
    assert emulator.process.returncode == 0


async def test_an_emulator_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ConfigurationError, match="cannot be started"):
        await start_emulator()


async def test_words_for_its_command_line_are_passed_on() -> None:
    with pytest.raises(ConfigurationError, match="did not start"):
        await start_emulator("--no-such-option")


class Stubborn:
    """A process that says nothing and listens to nothing."""

    def __init__(self) -> None:
        self.stdin = None
        self.killed = False
        self.stdout = self

    async def readline(self) -> bytes:
        raise TimeoutError

    def kill(self) -> None:
        self.killed = True

    async def wait(self) -> int:
        if not self.killed:
            raise TimeoutError
        return -9


async def test_a_silent_emulator_is_not_waited_for_for_ever() -> None:
    with pytest.raises(ConfigurationError):
        await _announced_url(Stubborn())


async def test_an_emulator_that_does_not_listen_is_killed() -> None:
    process = Stubborn()
    await _stop(process)
    assert process.killed


# One that is kept


async def test_nothing_runs_until_it_is_needed(companion: Companion) -> None:
    assert children() == []
    assert await is_emulator(await companion.url())
    assert len(children()) == 1


async def test_all_who_need_it_at_once_share_one(companion: Companion) -> None:
    urls = await asyncio.gather(*(companion.url() for _ in range(20)))
    assert len(set(urls)) == 1
    assert await companion.url() == urls[0]
    assert len(children()) == 1


async def test_one_that_ended_is_replaced(companion: Companion, clock: SetClock) -> None:
    first = await companion.url()
    await kill_child(companion)
    clock.advance(1)
    second = await companion.url()
    assert second != first
    assert await is_emulator(second)
    assert len(children()) == 1


async def test_closing_ends_it_for_good(companion: Companion) -> None:
    await companion.url()
    (child,) = children()
    await companion.close()
    assert gone(child)
    await companion.close()
    with pytest.raises(UpstreamError) as caught:
        await companion.url()
    assert "stopping" in (caught.value.internal or "")
    assert children() == []


async def test_closing_while_it_starts_leaves_nothing_behind(companion: Companion) -> None:
    waiting = asyncio.create_task(companion.url())
    await eventually(lambda: len(children()) == 1)
    await companion.close()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    await eventually(lambda: children() == [])


async def test_what_was_never_needed_is_closed_as_well(companion: Companion) -> None:
    await companion.close()
    assert children() == []


async def test_who_stops_waiting_does_not_take_it_from_the_others(companion: Companion) -> None:
    impatient, patient = [asyncio.create_task(companion.url()) for _ in range(2)]
    await eventually(lambda: len(children()) == 1)
    impatient.cancel()
    assert await is_emulator(await patient)
    assert impatient.cancelled()


async def test_replacing_it_leaves_no_file_open(companion: Companion, clock: SetClock) -> None:
    async def replaced() -> int:
        clock.advance(3600)
        await companion.url()
        await kill_child(companion)
        return psutil.Process().num_fds()

    await replaced()
    first = await replaced()
    await replaced()
    assert await replaced() <= first


# One that will not run


class Failing:
    """Starts that are counted, and fail."""

    def __init__(self) -> None:
        self.count = 0

    async def start(self) -> Emulator:
        self.count += 1
        raise ConfigurationError("The emulator did not start.")


async def refusal(companion: Companion) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await companion.url()
    return caught.value


async def test_a_call_without_an_emulator_was_not_sent(clock: SetClock) -> None:
    error = await refusal(Companion(clock, Failing().start))
    assert (error.fault, error.code) == (AttemptFault.NOT_SENT, ErrorCode.MODEL_UNAVAILABLE)
    assert "test keys is not running" in error.detail
    assert "did not start" in (error.internal or "")


async def test_starts_that_fail_lie_further_and_further_apart(clock: SetClock) -> None:
    failing = Failing()
    companion = Companion(clock, failing.start)
    pauses = []
    for count in range(1, 10):
        await refusal(companion)
        assert failing.count == count
        early = await refusal(companion)
        assert failing.count == count
        assert early.retry_after_s is not None
        pauses.append(early.retry_after_s)
        clock.advance(early.retry_after_s)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_time_forgives(clock: SetClock) -> None:
    companion = Companion(clock, Failing().start)
    for _ in range(4):
        await refusal(companion)
        clock.advance(100)
    clock.advance(600)
    await refusal(companion)
    assert (await refusal(companion)).retry_after_s == 1


async def test_a_failed_start_is_not_the_last(clock: SetClock) -> None:
    failing = Failing()

    async def start() -> Emulator:
        return await (failing.start() if failing.count == 0 else start_emulator())

    companion = Companion(clock, start)
    await refusal(companion)
    clock.advance(1)
    assert await is_emulator(await companion.url())
    await companion.close()
