"""``gateway demo``: one command, one curl line to paste, music; and nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.bootstrap.services import open_services
from gateway.cli.demo import _announce, _demo_key, _with_models
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from tests.factories import ACT
from tests.running import free_port

_PATIENCE_S = 60.0


def until(condition: Callable[[], bool], complaint: Callable[[], str]) -> None:
    give_up_at = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(complaint())
        time.sleep(0.05)


class Demo:
    """A demo in a process group of its own, as a shell starts it."""

    def __init__(self, data_dir: Path, port: int) -> None:
        # Not a log (`tests.secrecy` looks for keys in those): it is for the eyes of who starts the demo.
        self._log_path = data_dir.parent / f"demo-{port}.out"
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "demo"],
                env={
                    **{name: value for name, value in os.environ.items() if "PROXY" not in name.upper()},  # noqa: TID251
                    "GATEWAY_DATA_DIR": str(data_dir),
                    "PORT": str(port),
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: "Ctrl-C" in self.output() or self.process.poll() is not None, self.output)
        (self.emulator,) = psutil.Process(self.process.pid).children()

    def output(self) -> str:
        return self._log_path.read_text()

    def said(self, pattern: str) -> str:
        match = re.search(pattern, self.output(), re.MULTILINE | re.DOTALL)
        assert match, self.output()
        return match[1]

    @property
    def key(self) -> str:
        return self.said(r"^  API key   (\S+)$")

    @property
    def url(self) -> str:
        return self.said(r"^  Gateway   (\S+)$")

    @property
    def curl_line(self) -> str:
        return self.said(r"^(  curl .*?)\n\n")

    def interrupt(self) -> int:
        """Ctrl-C reaches the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(_PATIENCE_S)


@contextmanager
def start_demo(data_dir: Path) -> Iterator[Demo]:
    running = Demo(data_dir, free_port())
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(_PATIENCE_S)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_pasted_line_gives_music_and_a_second_start_keeps_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with start_demo(data_dir) as first:
        assert "EMULATOR, not from a Google model" in first.output()
        assert str(data_dir) in first.output()
        done = subprocess.run(
            ["bash", "-c", f"{first.curl_line} --silent --noproxy '*'"],
            capture_output=True,
            text=True,
            check=True,
        )
        task = json.loads(done.stdout)
        assert task["status"] == "succeeded"
        assert task["emulated"] is True
        audio = httpx.get(task["audio_url"], trust_env=False)
        assert (audio.status_code, audio.content[:4], audio.content[8:12]) == (200, b"RIFF", b"WAVE")
        key = first.key
        assert first.interrupt() == 0
        assert gone(first.emulator)
    with start_demo(data_dir) as second:
        assert second.key == key
        again = httpx.get(
            f"{second.url}/api/task-status/{task['task_id']}", headers={"X-Api-Key": key}, trust_env=False
        )
        assert again.json()["status"] == "succeeded"
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(_PATIENCE_S) == 0
        assert gone(second.emulator)
    assert "Traceback" not in first.output() + second.output()


def test_a_killed_demo_takes_its_emulator_along(tmp_path: Path) -> None:
    with start_demo(tmp_path / "data") as running:
        running.process.kill()
        running.process.wait(_PATIENCE_S)
        until(lambda: gone(running.emulator), lambda: "the emulator lives on")


async def test_a_configured_model_needs_no_emulator(settings: Settings) -> None:
    async with _with_models(settings) as complete:
        assert complete is settings


async def test_without_a_model_an_emulator_stands_in(tmp_path: Path) -> None:
    async with _with_models(Settings(data_dir=tmp_path)) as complete:
        assert complete.emulated
        assert [deployment.name for deployment in complete.deployments()] == [
            "musicgen",
            "lyria-002",
            "lyria-3-clip-preview",
            "lyria-3-pro-preview",
        ]
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{complete.vertex_url}/control/health")).json()["emulator"] is True
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(complete.vertex_url)


async def test_an_emulator_that_does_not_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConfigurationError, match="did not start"):
        async with _with_models(Settings(data_dir=tmp_path)):
            pass


async def test_the_key_is_made_once(settings: Settings) -> None:
    path = settings.data_dir / "demo-key"
    async with open_services(settings) as services:
        key = await _demo_key(path, services)
        assert await _demo_key(path, services) == key
        assert len(await services.keyring.list(None)) == 1
        assert [tenant.name for tenant in await services.tenants.list()] == ["demo"]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_key_that_was_revoked_is_replaced(settings: Settings) -> None:
    path = settings.data_dir / "demo-key"
    async with open_services(settings) as services:
        first = await _demo_key(path, services)
        (kept,) = await services.keyring.list(None)
        await services.keyring.revoke(ACT, kept.id)
        services.authenticator.forget(kept.id)
        second = await _demo_key(path, services)
        assert second != first
        await services.authenticator.authenticate(second)
        assert len(await services.tenants.list()) == 1


@pytest.mark.parametrize("text", ["", "\n", "not a key"])
async def test_a_key_file_that_was_cut_short_is_made_anew(settings: Settings, text: str) -> None:
    path = settings.data_dir / "demo-key"
    path.write_text(text)
    async with open_services(settings) as services:
        await services.tenants.create(ACT, name="demo")
        await services.authenticator.authenticate(await _demo_key(path, services))


async def test_a_key_finds_its_place_where_nothing_else_is_kept_there(
    settings: Settings, tmp_path: Path
) -> None:
    async with open_services(settings) as services:
        key = await _demo_key(tmp_path / "nowhere" / "demo-key", services)
    assert (tmp_path / "nowhere" / "demo-key").read_text() == f"{key}\n"


async def test_a_demo_on_a_real_project_names_it(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_services(settings) as services:
        await _announce(settings.model_copy(update={"google_auth": "adc"}), services)
    output = capsys.readouterr().out
    assert "Project   test-project" in output
    assert "EMULATOR" not in output
