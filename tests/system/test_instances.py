"""Two gateways on one PostgreSQL: to callers they are one, and when one dies the other goes on."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.listening import Event, listen
from tests.postgres import GUARDED, PASSWORD, Server
from tests.running import RunningGateway, start_gateway
from tests.system.patience import PATIENCE_S, until

SECRET = "a-signing-secret-that-all-instances-share"

Pair = tuple[RunningGateway, RunningGateway]


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, _emulator_process: RunningEmulator, postgres_server: Server
) -> Iterator[Pair]:
    postgres_server.execute(f"CREATE DATABASE pair OWNER {GUARDED}")
    audio = tmp_path_factory.mktemp("audio")
    environment = {
        "GATEWAY_DATABASE_URL": postgres_server.url("pair", user=f"{GUARDED}:{quote(PASSWORD, safe='')}"),
        "GATEWAY_SIGNING_SECRET": SECRET,
        "GATEWAY_STORAGE_URL": f"file://{audio}",
        "GATEWAY_LEASE_S": "1",
        "GATEWAY_CONCURRENCY": "2",
    }
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(
                start_gateway(tmp_path_factory.mktemp(name), _emulator_process.url, **environment)
            )
            for name in ("one", "other")
        )
        yield one, other
        for each in (one, other):
            assert "GATEWAY_SIGNING_SECRET" not in each.log()
            assert each.command("reconcile") == "Everything adds up.\n"
            for secret in (PASSWORD, quote(PASSWORD, safe="")):
                assert secret not in each.log()


@pytest.fixture(scope="module")
def key(pair: Pair) -> str:
    return pair[0].create_key()


@pytest.fixture
def callers(pair: Pair, key: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """One of each gateway, with the same key."""
    options = {"headers": {"X-Api-Key": key}, "timeout": PATIENCE_S, "trust_env": False}
    with (
        httpx.Client(base_url=pair[0].url, **options) as one,
        httpx.Client(base_url=pair[1].url, **options) as other,
    ):
        yield one, other


def ask(caller: httpx.Client) -> str:
    answer = caller.post(
        "/api/music_generate_lyria", json={"prompt": "slow piano"}, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def ended(caller: httpx.Client, task_id: str) -> dict[str, Any]:
    answer = caller.get(f"/api/task-status/{task_id}", headers={"Prefer": f"wait={int(PATIENCE_S)}"})
    assert answer.json()["finished_at"] is not None, answer.text
    return dict(answer.json())


def test_an_instance_with_a_secret_of_its_own_says_so(
    tmp_path: Path, postgres_server: Server, emulator: RunningEmulator
) -> None:
    """Links, webhooks and repeated requests would be good on this one only."""
    postgres_server.execute("CREATE DATABASE lonely")
    with start_gateway(tmp_path, emulator.url, GATEWAY_DATABASE_URL=postgres_server.url("lonely")) as running:
        assert "GATEWAY_SIGNING_SECRET" in running.log()


def runs_something(gateway: RunningGateway) -> bool:
    return "gateway_tasks_running 1.0" in httpx.get(f"{gateway.url}/metrics", trust_env=False).text


def test_what_one_accepts_the_other_can_tell_of(
    callers: tuple[httpx.Client, httpx.Client], emulator: RunningEmulator
) -> None:
    one, other = callers
    for asked, told in ((one, other), (other, one)):
        task = ended(told, ask(asked))
        assert task["status"] == "succeeded"
        assert httpx.get(task["audio_url"], trust_env=False).content[:4] == b"RIFF"


def test_together_they_run_each_task_once(
    callers: tuple[httpx.Client, httpx.Client], emulator: RunningEmulator
) -> None:
    emulator.settings(latency_s=0.05)
    ids = [ask(callers[number % 2]) for number in range(20)]
    assert {ended(callers[0], task_id)["status"] for task_id in ids} == {"succeeded"}
    assert emulator.calls()["paid"] == 20


def test_a_listener_on_one_hears_what_the_other_runs(
    pair: Pair, key: str, callers: tuple[httpx.Client, httpx.Client], emulator: RunningEmulator
) -> None:
    """Whichever runs it, one of the listeners is on the other; and each goes on where the other stopped."""
    emulator.settings(latency_s=0.3)
    task_id = ask(callers[0])

    async def hear() -> list[list[Event]]:
        async with listen(pair[0].url, task_id, key) as one, listen(pair[1].url, task_id, key) as other:
            first = await one.next()
            heard = [[first, *await one.rest()], await other.rest()]
        async with listen(pair[1].url, task_id, key, first.number) as again:
            return [*heard, [first, *await again.rest()]]

    heard = asyncio.run(hear())
    assert [event.name for event in heard[0]] == ["queued", "running", "clip", "succeeded"]
    numbers = [[event.number for event in events] for events in heard]
    assert numbers[0] == numbers[1] == numbers[2] == sorted(numbers[0])
    assert {events[-1].data["task_id"] for events in heard} == {task_id}


def test_a_key_revoked_on_one_is_refused_by_the_other(
    pair: Pair, callers: tuple[httpx.Client, httpx.Client]
) -> None:
    text = pair[0].create_key(pair[0].create_tenant("another"))
    headers = {"X-Api-Key": text}
    for caller in callers:
        assert caller.get("/api/task-status/task_x", headers=headers).status_code == 404
    pair[0].command("key", "revoke", text.split("_")[2], "--yes")
    for caller in callers:
        until(lambda caller=caller: caller.get("/api/task-status/x", headers=headers).status_code == 401)


def test_when_one_dies_the_other_finishes_its_task(
    pair: Pair, callers: tuple[httpx.Client, httpx.Client], emulator: RunningEmulator
) -> None:
    emulator.script({"delay_s": 30})
    task_id = ask(callers[0])
    until(lambda: emulator.calls()["paid"] == 1)
    (running,) = [number for number, gateway in enumerate(pair) if runs_something(gateway)]
    pair[running].kill()
    task = ended(callers[1 - running], task_id)
    assert (task["status"], task["price"]["charged_micros"]) == ("succeeded", 60_000)
    assert emulator.calls()["paid"] == 2
    pair[running].start()
