"""From process start to the first 200, against a bare Starlette application on the same server."""

import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench import environments, gateways
from tests.bench.machine import cpu_s, rss_mib
from tests.bench.processes import stop
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench
from tests.running import free_port

_MOST_TIMES = 3.0
_MOST_IDLE_MIB = 110.0
_IDLE_S = 5.0
_READY_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.004
_ROUNDS_FACTOR = 3


@dataclass(slots=True)
class _Starts:
    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def measure(bench: Bench) -> list[Section]:
    """One section. Both sides have their bytecode: each is started once before it counts."""
    rounds = bench.rounds * _ROUNDS_FACTOR
    ours, theirs, first = _Starts(), _Starts(), _Starts()
    bare_port = free_port()
    # As installed, without what only tests need: some libraries import extras where they find them.
    python = str(environments.shipped())
    bare = [python, "-m", "tests.bench.bare", str(bare_port)]
    serve = [python, "-m", "gateway", "serve"]
    directory = bench.directory / "start"
    with gateways.running(directory, bench.upstream) as (gateway, _):
        gateway.stop()
        environment, port = gateway.environment, gateway.port
        _start(bare, bare_port, None, _Starts())
        for _ in range(rounds):
            _start(serve, port, environment, ours)
            _start(bare, bare_port, None, theirs)
        for _ in range(bench.rounds):
            shutil.rmtree(gateway.data_dir)
            _start(serve, port, environment, first)
        idle_mib = [_idle_mib(serve, port, environment) for _ in range(2)]
    found = Section("Start", f"{rounds} starts each, bytecode compiled, until GET /readyz is answered")
    found.add(_ms("gateway, database there", ours.seconds))
    found.add(_ms("bare Starlette and uvicorn", theirs.seconds))
    found.add(ratio("gateway / bare", ours.seconds, theirs.seconds), Aim(most=_MOST_TIMES))
    found.add(_ms("gateway, CPU until then", ours.cpu_s))
    found.add(_ms("bare, CPU until then", theirs.cpu_s))
    found.add(ratio("gateway / bare, CPU", ours.cpu_s, theirs.cpu_s))
    found.add(_ms("gateway, first start with migration", first.seconds))
    found.add(Series("gateway, idle RSS", "MiB", tuple(idle_mib)), Aim(most=_MOST_IDLE_MIB))
    return [found]


def _start(command: Sequence[str], port: int, environment: Mapping[str, str] | None, starts: _Starts) -> None:
    began_s = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_200(process, port)
        starts.seconds.append(time.perf_counter() - began_s)
        starts.cpu_s.append(cpu_s(process.pid))
    finally:
        stop(process)


def _idle_mib(command: Sequence[str], port: int, environment: Mapping[str, str]) -> float:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_200(process, port)
        time.sleep(_IDLE_S)
        return rss_mib(process.pid)
    finally:
        stop(process)


def _wait_for_200(process: "subprocess.Popen[bytes]", port: int) -> None:
    """With plain sockets: an HTTP client would cost the machine more than what it waits for."""
    give_up_at_s = time.monotonic() + _READY_WITHIN_S
    while not _is_ready(port):
        if process.poll() is not None or time.monotonic() > give_up_at_s:
            raise RuntimeError(f"port {port} was never answered on")
        time.sleep(_LOOK_EVERY_S)


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_READY_WITHIN_S) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def _ms(name: str, seconds: Sequence[float]) -> Series:
    return Series(name, "ms", tuple(s * 1e3 for s in seconds))
