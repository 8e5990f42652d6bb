"""Several gateways on one PostgreSQL: what more of them add, how long a revoked key is good on another."""

import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import httpx

from tests.bench import gateways
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench
from tests.postgres import Server, start_postgres
from tests.running import RunningGateway, start_gateway

_COUNTS = (1, 2, 4)
_TASKS = 400
_QUICK_TASKS = 80
_REVOCATIONS = 10
_MOST_REVOKED_S = 5.0
_UNLIMITED = "1000000"
_TOKEN = secrets.token_urlsafe(32)


@dataclass(slots=True)
class _Rates:
    accepts: list[float] = field(default_factory=list)
    tasks: list[float] = field(default_factory=list)


def measure(bench: Bench) -> list[Section]:
    """Two sections. Everything shares the cores of one machine, PostgreSQL and the load included."""
    with start_postgres(lasting=True) as server:
        return [_scaling(bench, server), _revocation(bench, server)]


def _scaling(bench: Bench, server: Server) -> Section:
    count = _QUICK_TASKS if bench.quick else _TASKS
    rates = {processes: _Rates() for processes in _COUNTS}
    for _ in range(bench.rounds):
        for processes, found in rates.items():
            with _running(bench, server, processes) as (running, key):
                _load(running, key, count, found)
    section = Section("Processes", f"{count} tasks of one clip, posted and run at once, one PostgreSQL")
    for processes, found in rates.items():
        section.add(Series(f"{processes}: accepted", "/s", tuple(found.accepts)))
        section.add(Series(f"{processes}: finished", "tasks/s", tuple(found.tasks)))
    for processes in _COUNTS[1:]:
        section.add(ratio(f"{processes} / 1, accepted", rates[processes].accepts, rates[1].accepts))
        section.add(ratio(f"{processes} / 1, finished", rates[processes].tasks, rates[1].tasks))
    return section


def _load(running: Sequence[RunningGateway], key: str, count: int, rates: _Rates) -> None:
    share = count // len(running)
    began_s = time.monotonic()
    with ThreadPoolExecutor(len(running)) as pool:
        posted = pool.map(lambda each: gateways.submit(each, key, "slow piano", share), running)
        ids = [task_id for some in posted for task_id in some]
    rates.accepts.append(len(ids) / (time.monotonic() - began_s))
    gateways.wait_until(running[0], key, ids, "succeeded")
    rates.tasks.append(len(ids) / (time.monotonic() - began_s))


def _revocation(bench: Bench, server: Server) -> Section:
    here: list[float] = []
    there: list[float] = []
    with _running(bench, server, 2) as ((one, other), _):
        tenant_id = one.create_tenant("revoked")
        keys = [one.create_key(tenant_id) for _ in range(_REVOCATIONS)]
        with httpx.Client(trust_env=False, timeout=30.0) as client:
            # Each way round: first where it is done, then at the other instance.
            for number, key in enumerate(keys):
                asked, found = ((one, here), (other, there))[number % 2]
                found.append(_good_for_s(client, one, asked, key) * 1000)
    section = Section(
        "Revocation", f"{_REVOCATIONS} keys in use, revoked by the admin API of one of two instances"
    )
    section.add(Series("refused where it was revoked, after", "ms", tuple(here), 1))
    section.add(Series("refused at the other instance, after", "ms", tuple(there), 1))
    seconds = tuple(value / 1000 for value in there)
    section.add(Series("the same in seconds", "s", seconds, 3), Aim(most=_MOST_REVOKED_S))
    return section


def _good_for_s(client: httpx.Client, one: RunningGateway, asked: RunningGateway, key: str) -> float:
    """How long ``key`` is still taken by ``asked`` once ``one`` has said that it is revoked."""
    url, headers = f"{asked.url}/api/account", {"X-Api-Key": key}
    client.get(url, headers=headers).raise_for_status()
    client.post(
        f"{one.url}/admin/api/keys/{key.split('_')[2]}/revoke", headers={"Authorization": f"Bearer {_TOKEN}"}
    ).raise_for_status()
    revoked_s = time.monotonic()
    while client.get(url, headers=headers).is_success:
        pass
    return time.monotonic() - revoked_s


@contextmanager
def _running(bench: Bench, server: Server, count: int) -> Iterator[tuple[list[RunningGateway], str]]:
    """So many processes, each web and worker, on a database of their own, and a key."""
    directory = bench.memory_directory / "instances"
    name = f"bench_{time.monotonic_ns()}"
    server.execute(f"CREATE DATABASE {name}")
    environment = {
        "GATEWAY_DATABASE_URL": server.url(name),
        "GATEWAY_SIGNING_SECRET": "shared-by-all-the-instances-of-this-bench",
        "GATEWAY_STORAGE_URL": f"file://{directory / 'audio'}",
        "GATEWAY_ADMIN_TOKEN": _TOKEN,
        "GATEWAY_DEFAULT_MAX_QUEUED": _UNLIMITED,
        "GATEWAY_READS_PER_MINUTE": _UNLIMITED,
    }
    with ExitStack() as stack:
        running = []
        for number in range(count):
            place = directory / str(number)
            place.mkdir(parents=True)
            running.append(stack.enter_context(start_gateway(place, bench.upstream.url, **environment)))
        yield running, running[0].create_key(None, "--rpm", _UNLIMITED)
    shutil.rmtree(directory, ignore_errors=True)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")
