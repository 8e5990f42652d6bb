"""Test keys on whole processes: what reaches Google, where the emulator lives, and that nothing is left.

Google is played by an emulator that wants a token; the gateway gets its tokens with a key file, as usual.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.emulator import RunningEmulator, start_emulator
from tests.gcs import key_file
from tests.httpstub import Answer, start_stub
from tests.running import RunningGateway, start_gateway
from tests.system.patience import PATIENCE_S, until

BODY = {"prompt": "slow piano", "durationSeconds": 1}
TOKEN = b'{"access_token": "ya29.test", "expires_in": 3600, "token_type": "Bearer"}'


@pytest.fixture(scope="module")
def google() -> Iterator[RunningEmulator]:
    with start_emulator("--require-token") as running:
        yield running


@dataclass(frozen=True)
class Place:
    """A gateway on what it takes for Google, with a live and a test key of one tenant."""

    gateway: RunningGateway
    google: RunningEmulator
    tenant_id: str
    live: str
    test: str

    def post(self, key: str, path: str = "/api/music_generate", **body: Any) -> httpx.Response:
        headers = {"X-Api-Key": key}
        url = f"{self.gateway.url}{path}"
        return httpx.post(url, headers=headers, json=BODY | body, timeout=PATIENCE_S, trust_env=False)

    def ask(self, key: str, **body: Any) -> dict[str, Any]:
        response = self.post(key, **body)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def children(self) -> list[psutil.Process]:
        assert self.gateway.process is not None
        return psutil.Process(self.gateway.process.pid).children()

    def companion(self) -> psutil.Process:
        (child,) = self.children()
        return child


@contextmanager
def open_place(directory: Path, google: RunningEmulator, **environment: str) -> Iterator[Place]:
    google.reset()
    with start_stub(lambda _: Answer(200, TOKEN)) as tokens:
        (directory / "key.json").write_text(json.dumps(key_file(f"{tokens}/token")))
        environment = {
            "GATEWAY_GOOGLE_AUTH": "adc",
            "GOOGLE_APPLICATION_CREDENTIALS": str(directory / "key.json"),
            "GATEWAY_LOG_FORMAT": "json",
            **environment,
        }
        with start_gateway(directory, google.url, **environment) as gateway:
            tenant_id = gateway.create_tenant()
            live = gateway.create_key(tenant_id)
            yield Place(gateway, google, tenant_id, live, gateway.create_key(tenant_id, "--test"))


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory, google: RunningEmulator) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("place"), google) as opened:
        yield opened


@pytest.fixture
def place(_shared: Place) -> Place:
    """Running; Google has been called by nobody yet."""
    _shared.google.reset()
    return _shared


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_without_test_keys_there_is_no_emulator(tmp_path: Path, google: RunningEmulator) -> None:
    with open_place(tmp_path, google) as place:
        task = place.ask(place.live)
        assert (task["status"], task["test"], task["emulated"]) == ("succeeded", False, False)
        assert google.calls()["paid"] == 1
        assert place.children() == []


def test_a_test_key_gets_music_and_google_is_not_called(place: Place) -> None:
    task = place.ask(place.test)
    assert (task["status"], task["test"], task["emulated"]) == ("succeeded", True, True)
    assert task["warnings"] == ["Made by the built-in emulator, not by a Google model."]
    assert (task["price"]["micros"], task["price"]["charged_micros"]) == (0, 0)
    audio = httpx.get(task["audio_url"], trust_env=False)
    assert (audio.status_code, audio.content[:4]) == (200, b"RIFF")
    assert place.google.calls()["received"] == 0
    assert place.companion().is_running()


def test_both_kinds_of_keys_work_beside_each_other(place: Place) -> None:
    place.ask(place.test)
    place.ask(place.live)
    place.ask(place.test)
    assert place.google.calls()["received"] == 1


def test_an_emulator_that_was_killed_is_missed_by_nobody(place: Place) -> None:
    place.ask(place.test)
    child = place.companion()
    child.kill()
    task = place.ask(place.test)
    assert task["status"] == "succeeded"
    assert place.companion().pid != child.pid
    assert place.google.calls()["received"] == 0


def test_one_that_is_killed_at_its_work_is_replaced_and_the_task_goes_on(place: Place) -> None:
    place.ask(place.test)
    child = place.companion()
    control = httpx.Client(base_url=address_of(place), timeout=PATIENCE_S, trust_env=False)
    with control:
        control.post("/control/faults", json=[{"hang": True}]).raise_for_status()
        headers = {"X-Api-Key": place.test, "Prefer": "respond-async"}
        url = f"{place.gateway.url}/api/music_generate"
        task = httpx.post(url, headers=headers, json=BODY, trust_env=False).json()
        until(lambda: control.get("/control/calls").json()["running"] == 1)
    child.kill()
    headers = {"X-Api-Key": place.test, "Prefer": "wait=60"}
    ended = httpx.get(task["status_url"], headers=headers, timeout=PATIENCE_S, trust_env=False).json()
    assert ended["status"] == "succeeded"
    assert place.companion().pid != child.pid


def address_of(place: Place) -> str:
    """Of the companion, as the gateway's log tells it."""
    up = "the emulator for test keys is up"
    until(lambda: any(line["message"] == up for line in place.gateway.log_lines()))
    return str([line["address"] for line in place.gateway.log_lines() if line["message"] == up][-1])


def test_a_tenant_with_a_spent_budget_can_still_test(place: Place) -> None:
    gateway = place.gateway
    gateway.command("tenant", "budget", place.tenant_id, "--total", "0.06")
    lyria = "/api/music_generate_lyria"
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S, trust_env=False) as http:

        def post(key: str, **headers: str) -> httpx.Response:
            return http.post(lyria, headers={"X-Api-Key": key, **headers}, json={"prompt": "slow piano"})

        assert post(place.live).json()["price"]["charged_micros"] == 60_000
        assert post(place.live).status_code == 402
        tested = post(place.test)
    assert (tested.status_code, tested.json()["status"]) == (200, "succeeded")
    *_, total = gateway.command("tenant", "budget", place.tenant_id).splitlines()[1:]
    assert total.split() == ["total", "0.06", "0.06", "0.00", "0.00"]
    assert gateway.command("reconcile") == "Everything adds up.\n"


def test_the_log_is_json_and_knows_no_key(place: Place) -> None:
    place.ask(place.test)
    assert any("emulator for test keys is up" in line["message"] for line in place.gateway.log_lines())
    assert place.test.split("_")[3] not in place.gateway.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_emulator_ends_with_the_gateway(
    tmp_path: Path, google: RunningEmulator, number: signal.Signals
) -> None:
    with open_place(tmp_path, google) as place:
        place.ask(place.test)
        child = place.companion()
        assert place.gateway.stop(number) == 0
        assert gone(child)
        assert "Traceback" not in place.gateway.log()


def test_the_emulator_of_a_gateway_that_was_killed_ends_by_itself(
    tmp_path: Path, google: RunningEmulator
) -> None:
    with open_place(tmp_path, google) as place:
        place.ask(place.test)
        child = place.companion()
        place.gateway.kill()
        until(lambda: gone(child))


def test_each_instance_that_runs_tasks_has_its_own(tmp_path: Path, google: RunningEmulator) -> None:
    with open_place(tmp_path, google, GATEWAY_CONCURRENCY="0") as place:
        environment = {name: value for name, value in place.gateway.environment.items() if name != "PORT"}
        worker = RunningGateway(place.gateway.data_dir, environment | {"GATEWAY_CONCURRENCY": "1"})
        worker.log_path = tmp_path / "worker.log"
        worker.start()
        try:
            assert place.ask(place.test)["status"] == "succeeded"
            assert place.children() == []
            assert worker.process is not None
            (child,) = psutil.Process(worker.process.pid).children()
        finally:
            assert worker.stop() == 0
        assert gone(child)


def test_switched_off_a_test_key_reads_but_makes_nothing(tmp_path: Path, google: RunningEmulator) -> None:
    with open_place(tmp_path, google) as place:
        made = place.ask(place.test)
        place.gateway.stop()
        place.gateway.environment["GATEWAY_TEST_KEYS"] = "off"
        place.gateway.start()
        refused = place.post(place.test)
        assert (refused.status_code, refused.json()["code"]) == (403, "test_keys_off")
        read = httpx.get(made["status_url"], headers={"X-Api-Key": place.test}, trust_env=False)
        assert (read.status_code, read.json()["status"]) == (200, "succeeded")
        assert place.ask(place.live)["status"] == "succeeded"
        assert place.children() == []


def test_an_emulator_elsewhere_is_used_instead_of_one_of_our_own(
    tmp_path: Path, google: RunningEmulator, emulator: RunningEmulator
) -> None:
    with open_place(tmp_path, google, GATEWAY_TEST_EMULATOR_URL=emulator.url) as place:
        assert place.ask(place.test)["status"] == "succeeded"
        assert (emulator.calls()["paid"], google.calls()["received"]) == (1, 0)
        assert place.children() == []


def test_a_demo_starts_no_second_emulator(tmp_path: Path, emulator: RunningEmulator) -> None:
    with start_gateway(tmp_path, emulator.url) as gateway:
        key = gateway.create_key(None, "--test")
        place = Place(gateway, emulator, "", "", key)
        assert place.ask(key)["test"] is True
        assert emulator.calls()["paid"] == 1
        assert place.children() == []
