"""The gateway under test, as its operators run it: `gateway serve`, one process, on the instant upstream."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.bench.processes import Server
from tests.bench.wrk import Load
from tests.running import RunningGateway, start_gateway

MUSIC_PATH = "/api/music_generate_lyria"
_UNLIMITED = "1000000"
_SUBMITTERS = 16
_READY_WITHIN_S = 300.0


@contextmanager
def running(directory: Path, upstream: Server, **environment: str) -> Iterator[tuple[RunningGateway, str]]:
    """A gateway on an empty directory, and a key for it. Limits of its callers are out of the way."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    limits = ("GATEWAY_DEFAULT_MAX_QUEUED", "GATEWAY_READS_PER_MINUTE")
    settings = {**dict.fromkeys(limits, _UNLIMITED), **environment}
    with start_gateway(directory, upstream.url, **settings) as gateway:
        yield gateway, gateway.create_key(None, "--rpm", _UNLIMITED)
    shutil.rmtree(directory, ignore_errors=True)


def pid(gateway: RunningGateway) -> int:
    assert gateway.process is not None
    return gateway.process.pid


def music_load(key: str, prompt: str, *, respond_async: bool) -> Load:
    """POSTs for one clip each."""
    headers = {"Content-Type": "application/json", "X-Api-Key": key}
    if respond_async:
        headers["Prefer"] = "respond-async"
    return Load("POST", [MUSIC_PATH], headers, json.dumps({"prompt": prompt}))


def submit(gateway: RunningGateway, key: str, prompt: str, count: int, samples: int = 1) -> list[str]:
    """Task ids, accepted and not waited for."""
    body = {"prompt": prompt, "sampleCount": samples}
    headers = {"X-Api-Key": key, "Prefer": "respond-async"}

    async def one(client: httpx.AsyncClient, turn: asyncio.Semaphore) -> str:
        async with turn:
            response = await client.post(MUSIC_PATH, json=body, headers=headers)
        return str(response.raise_for_status().json()["task_id"])

    async def all_of_them() -> list[str]:
        turn = asyncio.Semaphore(_SUBMITTERS)
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=30.0) as client:
            return list(await asyncio.gather(*(one(client, turn) for _ in range(count))))

    return asyncio.run(all_of_them())


def wait_until(gateway: RunningGateway, key: str, ids: Sequence[str], state: str) -> None:
    """Until each of the tasks is in ``state``. Raises when that takes minutes, or one ends otherwise."""
    give_up_at = time.monotonic() + _READY_WITHIN_S
    with httpx.Client(
        base_url=gateway.url, trust_env=False, timeout=30.0, headers={"X-Api-Key": key}
    ) as client:
        for task_id in ids:
            while (found := client.get(f"/api/task-status/{task_id}").json()["status"]) != state:
                if found not in {"queued", "running"} or time.monotonic() > give_up_at:
                    raise RuntimeError(f"{task_id} is {found}, not {state}:\n{gateway.log()[-2000:]}")
                time.sleep(0.05)
