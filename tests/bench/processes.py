"""Servers as processes: started, waited for, and stopped by whoever started them."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.running import free_port

_READY_WITHIN_S = 60.0
_STOP_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. ``url`` has no slash at its end."""

    url: str
    pid: int


@contextmanager
def start(
    command: Sequence[str], url: str, ready_path: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a server and wait for its first 200; stop it in the end. Raises when it does not come up."""
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=output) as it,
    ):
        try:
            _wait_until_ready(it, url + ready_path, log)
            yield Server(url, it.pid)
        finally:
            stop(it)


@contextmanager
def start_module(module: str, directory: Path) -> Iterator[Server]:
    """One of this package's own servers, which take a port and answer `/readyz`."""
    port = free_port()
    command = [sys.executable, "-m", f"tests.bench.{module}", str(port)]
    with start(command, f"http://127.0.0.1:{port}", "/readyz", directory / f"{module}.log") as server:
        yield server


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_WITHIN_S)


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    give_up_at = time.monotonic() + _READY_WITHIN_S
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        while not _answers(client, url):
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"{url} did not come up:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
