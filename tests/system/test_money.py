"""Money as an operator sees it: a burst on real sockets, a kill in the middle of it, and the books after."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.emulator import RunningEmulator
from tests.running import RunningGateway, start_gateway

LYRIA = "/api/music_generate_lyria"
REQUESTS = 200
AT_ONCE = 50
FITTING = 10


def burst(gateway: RunningGateway, key: str) -> list[httpx.Response]:
    """As many posts as connections allow, each after a moment of its own."""
    rng = random.Random(1)
    pauses_s = [rng.random() / 20 for _ in range(REQUESTS)]
    headers = {"X-Api-Key": key, "Prefer": "respond-async"}
    limits = httpx.Limits(max_connections=AT_ONCE)
    with (
        httpx.Client(
            base_url=gateway.url, timeout=60, trust_env=False, headers=headers, limits=limits
        ) as http,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):

        def post(pause_s: float) -> httpx.Response:
            time.sleep(pause_s)
            return http.post(LYRIA, json={"prompt": "slow piano"})

        return list(threads.map(post, pauses_s))


def ended(gateway: RunningGateway, key: str, task_id: str) -> dict[str, Any]:
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as http:
        for _ in range(10):
            headers = {"X-Api-Key": key, "Prefer": "wait=20"}
            task: dict[str, Any] = http.get(f"/api/task-status/{task_id}", headers=headers).json()
            if task["finished_at"] is not None:
                return task
    raise AssertionError(f"it does not end: {task}")


def test_a_budget_for_ten_is_spent_on_ten_whatever_is_killed(
    tmp_path: Path, emulator: RunningEmulator
) -> None:
    with start_gateway(tmp_path, emulator.url, GATEWAY_LEASE_S="3") as gateway:
        tenant_id = gateway.create_tenant("acme", "--budget-usd-total", "0.60")
        key = gateway.create_key(tenant_id)
        emulator.script({"delay_s": 0.5, "times": FITTING})
        answers = burst(gateway, key)
        gateway.kill()
        assert sorted(answer.status_code for answer in answers) == [202] * FITTING + [402] * (
            REQUESTS - FITTING
        )
        assert {a.json()["budget"]["window"] for a in answers if a.status_code == 402} == {"total"}
        assert gateway.command("reconcile") == "Everything adds up.\n"
        gateway.start()
        tasks = [ended(gateway, key, a.json()["task_id"]) for a in answers if a.status_code == 202]
        assert [task["price"]["charged_micros"] for task in tasks] == [60_000] * FITTING
        assert gateway.command("reconcile") == "Everything adds up.\n"
        *_, total = gateway.command("tenant", "budget", tenant_id).splitlines()[1:]
        assert total.split()[:4] == ["total", "0.60", "0.60", "0.00"]
