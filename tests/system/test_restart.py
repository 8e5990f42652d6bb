"""A task survives whatever happens to the process, and is paid for as often as it really ran."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.running import RunningGateway, start_gateway
from tests.system.patience import PATIENCE_S, until

CONCURRENCY = 8


@pytest.fixture(scope="module")
def doomed(
    tmp_path_factory: pytest.TempPathFactory, _emulator_process: RunningEmulator
) -> Iterator[RunningGateway]:
    """A gateway for tests that end it and start it again. Its leases are short, and so is its grace."""
    directory = tmp_path_factory.mktemp("doomed")
    short = {"GATEWAY_LEASE_S": "1", "GATEWAY_GRACE_S": "1"}
    with start_gateway(directory, _emulator_process.url, **short) as running:
        yield running


@pytest.fixture(scope="module")
def key(doomed: RunningGateway) -> str:
    return doomed.create_key()


@pytest.fixture
def caller(doomed: RunningGateway, key: str) -> Iterator[httpx.Client]:
    headers = {"X-Api-Key": key}
    with httpx.Client(base_url=doomed.url, headers=headers, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


def ask(caller: httpx.Client, **fields: Any) -> str:
    """A Lyria task, asked for and not waited for; its id."""
    headers = {"Prefer": "respond-async"}
    body = {"prompt": "slow piano", **fields}
    response = caller.post("/api/music_generate_lyria", json=body, headers=headers)
    assert response.status_code == 202, response.text
    return str(response.json()["task_id"])


def ended(caller: httpx.Client, task_id: str) -> dict[str, Any]:
    response = caller.get(f"/api/task-status/{task_id}", headers={"Prefer": f"wait={int(PATIENCE_S)}"})
    assert response.json()["finished_at"] is not None, response.text
    return dict(response.json())


def called(emulator: RunningEmulator, times: int) -> None:
    """Wait until so many calls have reached the model: each is paid from that moment."""
    until(lambda: emulator.calls()["paid"] == times)


def test_a_task_whose_process_is_killed_in_the_middle_is_finished_by_the_next(
    doomed: RunningGateway, caller: httpx.Client, emulator: RunningEmulator
) -> None:
    emulator.script({"delay_s": 30})
    task_id = ask(caller)
    called(emulator, 1)
    doomed.kill()
    doomed.start()
    task = ended(caller, task_id)
    assert (task["status"], len(task["audio_urls"])) == ("succeeded", 1)
    # Once for the answer that nobody was there to take, once for the one that was delivered and charged.
    assert emulator.calls()["paid"] == 2
    assert task["price"]["charged_micros"] == 60_000


def test_an_answer_cut_short_by_a_kill_is_never_shown_in_part(
    doomed: RunningGateway, caller: httpx.Client, emulator: RunningEmulator
) -> None:
    before = set(stored(doomed))
    emulator.script({"chunk_bytes": 10_000, "chunk_delay_s": 0.5})
    task_id = ask(caller)
    until(lambda: [call for call in emulator.calls()["calls"] if call["http_status"] == 200])
    doomed.kill()
    doomed.start()
    task = ended(caller, task_id)
    assert task["status"] == "succeeded"
    assert emulator.calls()["paid"] == 2
    assert len(set(stored(doomed)) - before) == 1


def stored(gateway: RunningGateway) -> list[Path]:
    """Every clip that a link could lead to."""
    return list((gateway.data_dir / "audio").glob("ten_*/**/content"))


def test_clips_that_were_stored_before_the_kill_are_not_paid_again(
    doomed: RunningGateway, caller: httpx.Client, emulator: RunningEmulator
) -> None:
    """With a seed, each clip is a call of its own: the second is running when the process dies."""
    emulator.script({"delay_s": 0}, {"delay_s": 30})
    task_id = ask(caller, sampleCount=2, seed=41)
    called(emulator, 2)
    doomed.kill()
    doomed.start()
    task = ended(caller, task_id)
    assert [clip["seed"] for clip in task["outputs"]] == [41, 42]
    # The first once; the second once for nobody and once for us.
    assert [call["seed"] for call in emulator.calls()["calls"]] == [41, 42, 42]


def test_what_was_waiting_is_still_waiting_after_a_kill(
    doomed: RunningGateway, caller: httpx.Client, emulator: RunningEmulator
) -> None:
    emulator.settings(latency_s=30)
    task_ids = [ask(caller) for _ in range(CONCURRENCY + 4)]
    called(emulator, CONCURRENCY)
    doomed.kill()
    emulator.settings(latency_s=0)
    doomed.start()
    assert {ended(caller, task_id)["status"] for task_id in task_ids} == {"succeeded"}
    assert emulator.calls()["paid"] == CONCURRENCY + len(task_ids)


@pytest.mark.usefixtures("emulator")
def test_a_link_still_works_after_a_restart(doomed: RunningGateway, caller: httpx.Client) -> None:
    task = ended(caller, ask(caller))
    doomed.kill()
    doomed.start()
    assert httpx.head(task["audio_url"], trust_env=False).status_code == 200
    again = caller.get(f"/api/task-status/{task['task_id']}").json()
    assert again["outputs"][0]["sha256"] == task["outputs"][0]["sha256"]


class Waiting:
    """A caller who waits for an answer in a thread of its own."""

    def __init__(self, client: httpx.Client) -> None:
        self.response: httpx.Response | None = None
        self._client = client
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        self.response = self._client.post("/api/music_generate_lyria", json={"prompt": "slow piano"})

    def answer(self) -> httpx.Response:
        self._thread.join(PATIENCE_S)
        assert self.response is not None
        return self.response


def test_a_caller_who_waits_when_the_process_is_told_to_stop_gets_the_task(
    doomed: RunningGateway, caller: httpx.Client, emulator: RunningEmulator
) -> None:
    emulator.script({"delay_s": 30})
    waiting = Waiting(caller)
    called(emulator, 1)
    assert doomed.stop() == 0
    response = waiting.answer()
    assert response.status_code == 202
    assert response.headers["location"] == f"/api/task-status/{response.json()['task_id']}"
    doomed.start()
    assert ended(caller, response.json()["task_id"])["status"] == "succeeded"


def test_work_that_fits_into_the_grace_is_finished_and_not_paid_again(
    doomed: RunningGateway, caller: httpx.Client, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(doomed.environment, "GATEWAY_GRACE_S", "20")
    doomed.stop()
    doomed.start()
    emulator.script({"delay_s": 0.5})
    task_id = ask(caller)
    called(emulator, 1)
    assert doomed.stop() == 0
    doomed.start()
    assert ended(caller, task_id)["status"] == "succeeded"
    assert emulator.calls()["paid"] == 1


def test_no_end_of_all_these_was_a_crash_of_our_own(doomed: RunningGateway, key: str) -> None:
    assert doomed.stop() == 0
    log = doomed.log()
    assert "gateway has stopped" in log
    assert "Traceback" not in log
    assert key.split("_")[3] not in log
    assert doomed.log_lines()
