"""A gateway as its users meet it: a process on a loopback port. Imports nothing of gateway.

with start_gateway(tmp_path, emulator.url) as gateway:
    key = gateway.create_key()
    httpx.post(gateway.url + "/api/music_generate", headers={"X-Api-Key": key}, json={"prompt": "..."})
    gateway.kill()          # SIGKILL
    gateway.start()         # again, on the same port and data
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class RunningGateway:
    """One gateway process and its data directory. ``log_path`` collects what it prints."""

    def __init__(
        self, data_dir: Path, environment: dict[str, str], command: str = "serve", code: Path | None = None
    ) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        self._command = command
        self._code = code
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}  # noqa: TID251
        self.environment = {
            **inherited,
            "GATEWAY_DATA_DIR": str(data_dir),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *program: str) -> None:
        """Start it, or this module of Python's with it, and wait until `/readyz` answers 200."""
        self.run([sys.executable, "-m", *(program or ("gateway",)), self._command])

    def run(self, program: list[str]) -> None:
        """Start it by a program that does, and wait until `/readyz` answers 200."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                program, env=self.environment, stdout=log, stderr=log, cwd=self._code
            )
        give_up_at = time.monotonic() + _START_TIMEOUT_S
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > give_up_at:
                raise AssertionError(f"the gateway did not start:\n{self.log()}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(_STOP_TIMEOUT_S)

    def wait_until_killed(self) -> None:
        """Until it has ended by SIGKILL, of its own doing."""
        assert self.process is not None
        assert self.process.wait(_STOP_TIMEOUT_S) == -signal.SIGKILL

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(_STOP_TIMEOUT_S)

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def log_lines(self) -> list[dict[str, Any]]:
        """What it logged, line by line; fails where a line is not JSON."""
        # The last line may still be on its way.
        return [json.loads(line) for line in self.log().splitlines(keepends=True) if line.endswith("\n")]

    def command(self, *arguments: str) -> str:
        """Run ``gateway ...`` on the same data; its standard output. Raises when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_TIMEOUT_S,
            cwd=self._code,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create_tenant(self, name: str = "acme", *options: str) -> str:
        return str(json.loads(self.command("tenant", "create", name, *options, "--json"))["id"])

    def create_key(self, tenant_id: str | None = None, *options: str) -> str:
        """The text of a new key, of a new tenant unless one is named."""
        tenant_id = tenant_id or self.create_tenant()
        made = self.command("key", "create", "--tenant", tenant_id, "--rpm", "100000", *options, "--json")
        return str(json.loads(made)["key"])


@contextmanager
def start_gateway(
    directory: Path, vertex_url: str, command: str = "serve", *, code: Path | None = None, **environment: str
) -> Iterator[RunningGateway]:
    """A gateway on an emulator, started and ready; stopped at the end. Its code is in ``code``, or here."""
    gateway = RunningGateway(
        directory / "data",
        {
            "GATEWAY_PROJECT": "test-project",
            "GATEWAY_MUSICGEN_ENDPOINT": "projects/test-project/locations/us-central1/endpoints/7",
            "GATEWAY_VERTEX_URL": vertex_url,
            "GATEWAY_GOOGLE_AUTH": "anonymous",
            **environment,
        },
        command,
        code,
    )
    try:
        gateway.start()
        yield gateway
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            try:
                gateway.stop()
            except subprocess.TimeoutExpired:
                gateway.kill()
                raise
