"""A Redis of one's own: Debian's redis-server on a loopback port, without a disk. Imports nothing of gateway.

with start_redis(tmp_path) as redis:
    redis.url
    redis.kill()        # SIGKILL: connections are refused from then on
    redis.start()       # again, on the same port, empty
    redis.stop_answering()      # SIGSTOP: connections are taken, and nothing is said
    redis.answer_again()
"""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.running import free_port

_WITHIN_S = 30.0


def why_unavailable() -> str | None:
    """What keeps this machine from running a Redis; None when nothing does."""
    if shutil.which("redis-server") is None:
        return "these tests need redis-server: make setup-dev installs it on Debian"
    return None


class RunningRedis:
    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.socket_path = directory / "redis.sock"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "unixsocket": self.socket_path,
            "dir": self._directory,
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", *arguments], stdout=log, stderr=log)
        give_up_at = time.monotonic() + _WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise AssertionError((self._directory / "redis.log").read_text())
            time.sleep(0.01)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(_WITHIN_S)

    def stop_answering(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def answer_again(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """Say something to it in its own protocol; its answer as it came."""
        with socket.create_connection(("127.0.0.1", self.port), _WITHIN_S) as connection:
            parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
            connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return connection.recv(65_536).decode()

    def _answers(self) -> bool:
        try:
            return self.command("PING") == "+PONG\r\n"
        except OSError:
            return False


@contextmanager
def start_redis(directory: Path) -> Iterator[RunningRedis]:
    """A Redis, started and answering; killed at the end."""
    redis = RunningRedis(directory)
    redis.start()
    try:
        yield redis
    finally:
        redis.kill()
