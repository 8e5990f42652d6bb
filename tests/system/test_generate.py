"""`gateway generate`, as somebody at a terminal uses it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.running import RunningGateway


def run(gateway: RunningGateway, key: str, directory: Path, *options: str) -> "subprocess.Popen[str]":
    environment = {"PATH": os.environ["PATH"], "no_proxy": "*", "GATEWAY_URL": gateway.url}  # noqa: TID251 - the machine's
    if key:
        environment["GATEWAY_API_KEY"] = key
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "generate", *options],
        env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(running: "subprocess.Popen[str]") -> tuple[int, str, str]:
    said, told = running.communicate(timeout=60)
    return running.returncode, said, told


def test_music_lands_in_a_file(
    gateway: RunningGateway, key: str, emulator: RunningEmulator, tmp_path: Path
) -> None:
    code, said, told = ended(run(gateway, key, tmp_path, "slow piano", "--seconds", "1", "-o", "piano.flac"))
    assert (code, said) == (0, "piano.flac\n"), told
    assert (tmp_path / "piano.flac").read_bytes()[:4] == b"fLaC"
    assert "succeeded" in told
    code, _, told = ended(run(gateway, key, tmp_path, "slow piano", "--seconds", "1", "-o", "piano.flac"))
    assert code == 2
    assert "--force" in told
    assert emulator.calls()["paid"] == 1


def test_several_versions_are_several_files(
    gateway: RunningGateway, key: str, emulator: RunningEmulator, tmp_path: Path
) -> None:
    options = ("slow piano", "--seconds", "1", "--samples", "2", "-o", "a.wav", "--json")
    code, said, told = ended(run(gateway, key, tmp_path, *options))
    assert code == 0, told
    assert json.loads(said)["files"] == ["a-1.wav", "a-2.wav"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.wav", "a-2.wav"]


@pytest.mark.parametrize(
    ("given", "options", "code", "words"),
    [
        (False, ("x",), 2, "GATEWAY_API_KEY"),
        (True, ("x", "--seconds", "1000"), 1, "durationSeconds"),
        (True, ("x", "-o", "a.xyz"), 1, "outputFormat"),
    ],
)
def test_what_will_not_do_is_said(
    gateway: RunningGateway,
    key: str,
    tmp_path: Path,
    given: bool,
    options: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    got, _, told = ended(run(gateway, key if given else "", tmp_path, *options))
    assert got == code
    assert words in told
    assert key not in told


def test_who_interrupts_it_cancels_the_task(
    gateway: RunningGateway, key: str, emulator: RunningEmulator, tmp_path: Path
) -> None:
    emulator.settings(latency_s=30)
    running = run(gateway, key, tmp_path, "slow piano", "--seconds", "1")
    assert running.stderr is not None
    task_id = running.stderr.readline().partition(",")[0]
    while "made" not in running.stderr.readline():
        pass
    running.send_signal(signal.SIGINT)
    code, _, told = ended(running)
    assert code == 1
    assert "Canceled" in told
    status = httpx.get(
        f"{gateway.url}/api/task-status/{task_id}", headers={"X-Api-Key": key}, trust_env=False
    )
    assert status.json()["status"] == "canceled"
