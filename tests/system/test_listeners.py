"""Thousands who listen to one process: each hears of its task's end, and what they cost is little."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.emulator import RunningEmulator
from tests.listening import Event, Stream, listen
from tests.running import RunningGateway, start_gateway
from tests.system.patience import PATIENCE_S, until

LISTENERS = 2_000
TASKS = 50
AT_ONCE = 100
FILES = 6_000
# Of memory for each, the server's connection included: several times what was seen.
MOST_KIB = 128


@contextmanager
def files_allowed(count: int) -> Iterator[None]:
    """So many open files for this process and those that it starts meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= count, f"this test needs {count} open files"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, _emulator_process: RunningEmulator
) -> Iterator[RunningGateway]:
    """It runs nothing."""
    directory: Path = tmp_path_factory.mktemp("listeners")
    limits = {"GATEWAY_READS_PER_MINUTE": "0", "GATEWAY_CONCURRENCY": "0"}
    with (
        files_allowed(FILES),
        start_gateway(directory, _emulator_process.url, **limits) as running,
    ):
        yield running


def ask(gateway: RunningGateway, key: str, count: int) -> list[str]:
    with httpx.Client(base_url=gateway.url, headers={"X-Api-Key": key}, trust_env=False) as http:
        answers = [
            http.post(
                "/api/music_generate_lyria",
                json={"prompt": "slow piano"},
                headers={"Prefer": "respond-async"},
            )
            for _ in range(count)
        ]
    return [str(answer.raise_for_status().json()["task_id"]) for answer in answers]


async def open_all(stack: AsyncExitStack, gateway: RunningGateway, key: str, ids: list[str]) -> list[Stream]:
    """A listener for each of the ids, connected."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(task_id: str) -> Stream:
        async with turn:
            return await stack.enter_async_context(listen(gateway.url, task_id, key))

    return list(await asyncio.gather(*map(one, ids)))


def open_streams(gateway: RunningGateway) -> float:
    lines = httpx.get(f"{gateway.url}/metrics", trust_env=False).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("gateway_event_streams ")))


def story(events: list[Event]) -> list[Event]:
    """What happened to the task itself: that its place is another one has no number."""
    return [event for event in events if event.number is not None]


def rss_kib(gateway: RunningGateway) -> float:
    assert gateway.process is not None
    return psutil.Process(gateway.process.pid).memory_info().rss / 1024


@pytest.mark.slow
async def test_two_thousand_listeners_hear_how_fifty_tasks_end_in_another_process(
    gateway: RunningGateway, emulator: RunningEmulator
) -> None:
    key = gateway.create_key()
    ids = await asyncio.to_thread(ask, gateway, key, TASKS)
    async with AsyncExitStack() as stack:
        # What the first listeners make the process load is not theirs.
        first = await open_all(stack, gateway, key, ids)
        before_kib = rss_kib(gateway)
        others = await open_all(stack, gateway, key, ids * ((LISTENERS - TASKS) // TASKS))
        assert {(await stream.next()).name for stream in [*first, *others]} == {"queued"}
        assert (rss_kib(gateway) - before_kib) / len(others) < MOST_KIB
        assert open_streams(gateway) == LISTENERS
        with start_gateway(gateway.data_dir.parent, emulator.url, GATEWAY_CONCURRENCY="8"):
            async with asyncio.timeout(PATIENCE_S):
                heard = await asyncio.gather(*(stream.rest() for stream in [*first, *others]))
    told = list(map(story, heard))
    assert {tuple(event.name for event in events) for events in told} == {("running", "clip", "succeeded")}
    assert {events[-1].data["task_id"] for events in told} == set(ids)
    assert len({tuple(event.number for event in events) for events in told}) == TASKS
    await asyncio.to_thread(until, lambda: open_streams(gateway) == 0)


async def test_after_a_restart_listeners_go_on_where_they_were(
    gateway: RunningGateway, emulator: RunningEmulator
) -> None:
    key = gateway.create_key(gateway.create_tenant("another"))
    (task_id,) = await asyncio.to_thread(ask, gateway, key, 1)
    async with listen(gateway.url, task_id, key) as stream:
        queued = await stream.next()
        stopped = asyncio.create_task(asyncio.to_thread(gateway.stop))
        assert await stream.next() is None
        assert await stopped == 0
    gateway.environment["GATEWAY_CONCURRENCY"] = "1"
    await asyncio.to_thread(gateway.start)
    async with listen(gateway.url, task_id, key, queued.number) as stream:
        events = story(await stream.rest())
        assert [event.name for event in events] == ["running", "clip", "succeeded"]
    async with listen(gateway.url, task_id, key, events[-1].number) as stream:
        assert stream.status == 204
