"""The control routes: mistakes in a script are told, and everything can be taken back."""

import httpx
import pytest


def test_it_is_healthy_and_says_what_it_is(emulator):
    assert httpx.get(f"{emulator.url}/control/health").json() == {"status": "ok", "emulator": True}


def test_a_mistake_in_a_script_is_told_and_nothing_of_it_is_queued(emulator):
    answer = httpx.post(f"{emulator.url}/control/faults", json=[{"status": 500}, {"kind": "status"}])
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Unknown in a fault: kind.")
    assert emulator.queued_faults() == 0


def test_a_mistake_in_the_settings_is_told(emulator):
    answer = httpx.post(f"{emulator.url}/control/settings", json={"lyria_seconds": -1})
    assert answer.status_code == 400
    assert "lyria_seconds" in answer.json()["detail"]
    assert httpx.get(f"{emulator.url}/control/settings").json()["lyria_seconds"] == 1.0


@pytest.mark.parametrize("path", ["/control/faults", "/control/settings"])
def test_a_body_that_is_not_json_is_told(emulator, path):
    answer = httpx.post(emulator.url + path, content=b"{")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("The body is not JSON")


def test_faults_and_calls_can_be_cleared(emulator):
    emulator.script({"status": 500, "times": 3})
    assert emulator.queued_faults() == 3
    assert httpx.delete(f"{emulator.url}/control/faults").json() == {"queued": 0}
    httpx.post(f"{emulator.url}/v1/projects/p/locations/l/endpoints/7:predict", json={})
    assert emulator.calls()["received"] == 1
    assert httpx.delete(f"{emulator.url}/control/calls").json()["received"] == 0


def test_one_fault_needs_no_list(emulator):
    assert httpx.post(f"{emulator.url}/control/faults", json={"hang": True}).json() == {"queued": 1}
