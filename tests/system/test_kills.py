"""A gateway killed again and again in the middle of its work: nothing is lost, doubled or miscounted.

Callers do what careful callers do: they name each request and send it again until it is answered.
"""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.running import RunningGateway, start_gateway
from tests.secrecy import issue

LYRIA = "/api/music_generate_lyria"
KILLS = 6
CALLERS = 8
REQUESTS = 60
CLIP_MICROS = 60_000
GIVE_UP_S = 120.0
TOKEN = issue("an-admin-token-of-the-kill-tests-0123456789")


def send_until_answered(gateway: RunningGateway, key: str, name: str, pause_s: float) -> dict[str, Any]:
    """The task that came of a named request, however often the gateway goes away meanwhile."""
    headers = {"X-Api-Key": key, "Prefer": "respond-async", "Idempotency-Key": name}
    give_up_at = time.monotonic() + GIVE_UP_S
    time.sleep(pause_s)
    while time.monotonic() < give_up_at:
        try:
            answer = httpx.post(
                gateway.url + LYRIA, headers=headers, json={"prompt": name}, timeout=10, trust_env=False
            )
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code == 503:  # nothing was done, or it is not known: the name finds out
            continue
        assert answer.status_code in {200, 202}, answer.text
        return dict(answer.json())
    raise AssertionError(f"no answer for {name}")


def kill_at_random(gateway: RunningGateway, rng: random.Random, done: threading.Event) -> int:
    kills = 0
    while kills < KILLS and not done.is_set():
        time.sleep(0.1 + rng.random() * 0.7)
        gateway.kill()
        gateway.start()
        kills += 1
    return kills


def ended(gateway: RunningGateway, key: str, task_id: str) -> dict[str, Any]:
    headers = {"X-Api-Key": key, "Prefer": "wait=20"}
    for _ in range(10):
        address = f"{gateway.url}/api/task-status/{task_id}"
        task: dict[str, Any] = httpx.get(address, headers=headers, timeout=60, trust_env=False).json()
        if task["finished_at"] is not None:
            return task
    raise AssertionError(f"it does not end: {task}")


@pytest.mark.slow
def test_whatever_moment_it_is_killed_at_the_books_and_the_names_are_right(
    tmp_path: Path, emulator: RunningEmulator
) -> None:
    rng = random.Random(7)
    emulator.settings(latency_s=0.1)
    environment = {"GATEWAY_LEASE_S": "2", "GATEWAY_ADMIN_TOKEN": TOKEN, "GATEWAY_MAX_ATTEMPTS": "20"}
    with start_gateway(tmp_path, emulator.url, **environment) as gateway:
        tenant_id = gateway.create_tenant("acme", "--budget-usd-total", "100")
        key = gateway.create_key(tenant_id)
        # Every name is sent by two callers, who know nothing of each other.
        names = [f"request-{number}" for number in range(REQUESTS)] * 2
        rng.shuffle(names)
        done = threading.Event()
        with ThreadPoolExecutor(CALLERS + 1) as threads:
            killer = threads.submit(kill_at_random, gateway, rng, done)
            sent = [
                threads.submit(send_until_answered, gateway, key, name, rng.random() * 0.3) for name in names
            ]
            tasks = [(name, each.result()["task_id"]) for name, each in zip(names, sent, strict=True)]
            done.set()
            assert killer.result() > 0
        ids = {name: {task_id for asked, task_id in tasks if asked == name} for name in names}
        assert {len(each) for each in ids.values()} == {1}
        states = Counter(ended(gateway, key, task_id)["status"] for (task_id,) in ids.values())
        assert states == {"succeeded": REQUESTS}
        assert gateway.command("reconcile") == "Everything adds up.\n"
        usage = httpx.get(
            f"{gateway.url}/admin/api/usage",
            params={"tenant_id": tenant_id, "group_by": ""},
            headers={"Authorization": f"Bearer {TOKEN}"},
            trust_env=False,
        ).json()["total"]
        assert (usage["requests"], usage["clips"], usage["held_micros"]) == (REQUESTS, REQUESTS, 0)
        assert usage["charged_micros"] == REQUESTS * CLIP_MICROS
        # What was paid for and lost is the provider's side of the books, and is told there.
        assert usage["attempts"] >= REQUESTS
        assert usage["provider_cost_micros"] >= usage["charged_micros"]
