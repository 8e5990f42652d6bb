"""While its database is away a gateway says so and loses nothing; afterwards it goes on by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from tests.emulator import RunningEmulator
from tests.postgres import Server
from tests.proxy import open_proxy
from tests.running import RunningGateway, start_gateway
from tests.system.patience import PATIENCE_S

AWAY_S = 4.0
SECONDS_OF_WORK = 2.0
TASKS = 6


@asynccontextmanager
async def started(
    directory: Path, emulator: RunningEmulator, **environment: str
) -> AsyncIterator[RunningGateway]:
    context = start_gateway(directory, emulator.url, **environment)
    gateway = await asyncio.to_thread(context.__enter__)
    try:
        yield gateway
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def post(client: httpx.AsyncClient, number: int) -> httpx.Response:
    headers = {"Idempotency-Key": f"task-{number}", "Prefer": "respond-async"}
    return await client.post("/api/music_generate_lyria", json={"prompt": f"piano {number}"}, headers=headers)


async def post_until_accepted(client: httpx.AsyncClient, number: int) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await post(client, number)).status_code != 202:
            assert_said_to_be_away(answer)
            await asyncio.sleep(0.1)
    return str(answer.json()["task_id"])


async def ended(client: httpx.AsyncClient, task_id: str) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await client.get(f"/api/task-status/{task_id}", headers={"Prefer": "wait=5"})
            if answer.status_code == 200 and answer.json()["finished_at"] is not None:
                return str(answer.json()["status"])
            if answer.status_code != 200:
                assert_said_to_be_away(answer)
                await asyncio.sleep(0.1)


def assert_said_to_be_away(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
    assert int(answer.headers["retry-after"]) > 0


async def test_nothing_is_lost_while_the_database_is_away(
    tmp_path: Path, emulator: RunningEmulator, postgres_server: Server
) -> None:
    await asyncio.to_thread(postgres_server.execute, "CREATE DATABASE away")
    emulator.settings(latency_s=SECONDS_OF_WORK)
    async with open_proxy(postgres_server.port) as network:
        url = postgres_server.url("away").replace(f":{postgres_server.port}/", f":{network.port}/")
        async with started(tmp_path, emulator, GATEWAY_DATABASE_URL=url, GATEWAY_LEASE_S="3") as gateway:
            key = await asyncio.to_thread(gateway.create_key)
            options = {"headers": {"X-Api-Key": key}, "timeout": PATIENCE_S, "trust_env": False}
            async with httpx.AsyncClient(base_url=gateway.url, **options) as client:
                before = [await post_until_accepted(client, number) for number in range(TASKS)]
                await asyncio.to_thread(emulator.wait_until_running, min(TASKS, 4))
                network.close()
                with suppress(TimeoutError):
                    async with asyncio.timeout(AWAY_S):
                        while True:
                            assert_said_to_be_away(await post(client, TASKS))
                            await asyncio.sleep(0.2)
                network.open()
                after = await post_until_accepted(client, TASKS)
                # Asked for before and while it was away: either is one task, whatever became of the answers.
                assert await post_until_accepted(client, 0) == before[0]
                ends = [await ended(client, task_id) for task_id in [*before, after]]
            assert ends == ["succeeded"] * (TASKS + 1)
            assert await asyncio.to_thread(gateway.command, "reconcile") == "Everything adds up.\n"
            assert (await asyncio.to_thread(emulator.calls))["paid"] >= TASKS + 1
