"""Killed at any step of a task's life, it ends right, is charged once and paid for once too often at most."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.doomed import JOINING_POINTS, POINTS
from tests.emulator import RunningEmulator
from tests.httpstub import Answer, Call, start_stub
from tests.running import RunningGateway, start_gateway
from tests.system.patience import PATIENCE_S, until


@dataclass
class Hook:
    """A receiver of webhooks, and what it was told."""

    url: str = ""
    told: list[Call] = field(default_factory=list)

    def answer(self, call: Call) -> Answer:
        self.told.append(call)
        return Answer(200)


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    hook = Hook()
    with start_stub(hook.answer) as url:
        hook.url = f"{url}/hook"
        yield hook


@pytest.fixture(scope="module")
def doomed(
    tmp_path_factory: pytest.TempPathFactory, _emulator_process: RunningEmulator
) -> Iterator[RunningGateway]:
    settings = {"GATEWAY_LEASE_S": "1", "GATEWAY_GRACE_S": "1", "GATEWAY_WEBHOOK_ALLOW": "127.0.0.0/8"}
    directory = tmp_path_factory.mktemp("doomed")
    with start_gateway(directory, _emulator_process.url, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def key(doomed: RunningGateway) -> str:
    return doomed.create_key()


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_task_survives_a_kill(
    point: str, doomed: RunningGateway, key: str, hook: Hook, emulator: RunningEmulator
) -> None:
    task = killed_at(point, doomed, key, hook, "/api/music_generate_lyria", {})
    assert task["price"]["charged_micros"] == 60_000
    # One call more than was needed at most: that of the process that died.
    assert 1 <= emulator.calls()["paid"] <= 2
    check(task, doomed, hook)


@pytest.mark.slow
@pytest.mark.parametrize("point", JOINING_POINTS)
def test_a_task_of_two_calls_survives_a_kill(
    point: str, doomed: RunningGateway, key: str, hook: Hook, emulator: RunningEmulator
) -> None:
    """What was paid for before the process died is not paid for again."""
    emulator.settings(lyria_seconds=32.768)
    request = {"model": "lyria-002", "durationSeconds": 60, "seed": 1, "outputFormat": "flac"}
    task = killed_at(point, doomed, key, hook, "/api/music_generate", request)
    assert task["price"]["charged_micros"] == 120_000
    assert 2 <= emulator.calls()["paid"] <= 3
    check(task, doomed, hook)
    assert task["outputs"][0]["seconds"] == 60


def killed_at(
    point: str, doomed: RunningGateway, key: str, hook: Hook, path: str, request: dict[str, Any]
) -> dict[str, Any]:
    """The task, after its gateway was killed once and started again."""
    hook.told.clear()
    answers: list[dict[str, Any]] = []
    doomed.stop()
    doomed.start("tests.doomed", point)
    body = {"prompt": "slow piano", "webhook_url": hook.url, **request}
    caller = threading.Thread(target=ask_until_answered, args=(point, doomed, key, path, body, answers))
    caller.start()
    doomed.wait_until_killed()
    doomed.start()
    caller.join(PATIENCE_S)
    (task,) = answers
    assert (task["status"], len(task["outputs"])) == ("succeeded", 1)
    return task


def check(task: dict[str, Any], doomed: RunningGateway, hook: Hook) -> None:
    # Each task has one hold and one ending, of what it delivered.
    doomed.command("reconcile")
    check_audio(task)
    check_webhooks(hook.told, task)


def ask_until_answered(
    point: str,
    gateway: RunningGateway,
    key: str,
    path: str,
    body: dict[str, Any],
    answers: list[dict[str, Any]],
) -> None:
    """As a caller does that names its request: again and again until there is an answer."""
    headers = {"X-Api-Key": key, "Idempotency-Key": f'"{point}"'}

    def answered() -> bool:
        try:
            response = httpx.post(
                f"{gateway.url}{path}",
                headers=headers,
                json=body,
                timeout=PATIENCE_S,
                trust_env=False,
            )
        except httpx.TransportError:
            return False
        if response.status_code == 200:
            answers.append(response.json())
        return response.status_code == 200

    until(answered)


def check_audio(task: dict[str, Any]) -> None:
    """What the task names is there and whole; what it does not name, nobody can come by."""
    (output,) = task["outputs"]
    audio = httpx.get(output["url"], trust_env=False, timeout=PATIENCE_S)
    assert (audio.status_code, len(audio.content)) == (200, output["bytes"])


def check_webhooks(told: list[Call], task: dict[str, Any]) -> None:
    """At least once, and always of the one end that there was."""
    until(lambda: told)
    events = [json.loads(call.body) for call in told]
    assert {(event["type"], event["data"]["task_id"]) for event in events} == {
        ("task.succeeded", task["task_id"])
    }
    assert len({call.headers["webhook-id"] for call in told}) == 1
