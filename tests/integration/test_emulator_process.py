"""The emulator as a process: it says where it is, stops when told, and does not outlive its parent."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.emulator import RunningEmulator, start_emulator


def run_until_it_ends(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway.emulator.server", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_on_a_signal(number):
    with start_emulator() as emulator:
        emulator.process.send_signal(number)
        assert emulator.process.wait(30) == 0


def test_a_frugal_one_gives_way_and_works_all_the_same():
    with start_emulator("--frugal") as emulator:
        process = psutil.Process(emulator.process.pid)
        assert process.nice() == psutil.Process().nice() + 10
        assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"
        body = {"instances": [{"prompt": "slow piano"}], "parameters": {"sample_count": 2}}
        path = "/v1/projects/p/locations/l/publishers/google/models/lyria-002:predict"
        answer = httpx.post(f"{emulator.url}{path}", json=body, timeout=60, trust_env=False).json()
        assert len(answer["predictions"]) == 2


def test_it_stops_when_its_parent_is_gone():
    with start_emulator() as emulator:
        emulator.process.stdin.close()
        assert emulator.process.wait(30) == 0


def hanging_call(emulator: RunningEmulator) -> socket.socket:
    emulator.script({"hang": True})
    host, port = emulator.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    body = b'{"instances": [{"prompt": "x"}]}'
    head = b"POST /v1/projects/p/locations/l/endpoints/7:predict HTTP/1.1\r\nHost: x\r\nContent-Length: "
    connection.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)
    emulator.wait_until_running(1)
    return connection


def test_a_hanging_call_does_not_keep_it_from_stopping():
    with start_emulator() as emulator, hanging_call(emulator):
        emulator.process.terminate()
        assert emulator.process.wait(30) == 0


def test_a_port_that_is_taken_is_said_in_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run_until_it_ends("--port", port)
    assert ended.returncode == 1
    assert ended.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert ended.stdout == ""


def test_its_start_brings_in_nothing_of_the_gateway():
    code = "import sys, gateway.emulator.server; print(*(m for m in sys.modules if m.startswith('gateway.')))"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert all(name.startswith("gateway.emulator") for name in ended.stdout.split())


def test_two_emulators_do_not_disturb_each_other(emulator):
    with start_emulator(lyria_seconds=0.5) as other:
        other.script({"status": 500})
        assert emulator.queued_faults() == 0
        assert emulator.settings()["lyria_seconds"] == 1.0
        assert other.settings()["lyria_seconds"] == 0.5
        assert httpx.get(f"{other.url}/control/calls").json()["received"] == 0
