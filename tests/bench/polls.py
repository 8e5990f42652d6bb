"""Polling: an authenticated look at a task, against a bare Starlette route that answers a constant."""

from tests.bench import gateways, upstream
from tests.bench.processes import Server, start_module
from tests.bench.report import Aim, Section, ratio
from tests.bench.rounds import Bench, alternate, cpu, rates, read, warm_up
from tests.bench.wrk import Load

CONNECTIONS = 32
_FINISHED, _RUNNING = 2_000, 64
_LEAST = 0.5


def measure(bench: Bench) -> list[Section]:
    """Two sections: finished tasks, and tasks that run while they are polled."""
    settings = {
        "GATEWAY_CONCURRENCY": str(_RUNNING),
        # What the tasks are made of is not measured here.
        "GATEWAY_STORAGE_URL": f"file://{bench.memory_directory / 'polls'}",
    }
    with (
        gateways.running(bench.directory / "polls", bench.upstream, **settings) as (gateway, key),
        start_module("bare", bench.directory) as bare,
    ):
        served = Server(gateway.url, gateways.pid(gateway))
        finished = gateways.submit(gateway, key, upstream.TINY, _FINISHED)
        gateways.wait_until(gateway, key, finished, "succeeded")
        first = _compare(bench, served, bare, key, finished, f"{_FINISHED:,} finished tasks")
        running = gateways.submit(gateway, key, upstream.HELD, _RUNNING)
        gateways.wait_until(gateway, key, running, "running")
        return [first, _compare(bench, served, bare, key, running, f"{_RUNNING} running tasks")]


def _compare(bench: Bench, served: Server, bare: Server, key: str, ids: list[str], of_what: str) -> Section:
    load = Load("GET", [f"/api/task-status/{task_id}" for task_id in ids], {"X-Api-Key": key})
    for server in (served, bare):
        warm_up(bench, server.url, load, connections=CONNECTIONS)
    ours, theirs = alternate(
        bench.rounds,
        lambda: read(bench, served.url, served.pid, load, connections=CONNECTIONS),
        lambda: read(bench, bare.url, bare.pid, load, connections=CONNECTIONS),
    )
    found = Section(
        f"Polls of {of_what}", f"{CONNECTIONS} connections, {bench.rounds} x {bench.seconds:g} s each"
    )
    found.add(rates("gateway, GET /api/task-status", ours))
    found.add(rates("bare Starlette route", theirs))
    found.add(
        ratio("gateway / bare", [r.answers.per_s for r in ours], [r.answers.per_s for r in theirs]),
        Aim(least=_LEAST),
    )
    found.add(cpu("gateway", ours))
    found.add(cpu("bare", theirs))
    found.add(ratio("bare / gateway, server CPU", [r.cpu_us for r in theirs], [r.cpu_us for r in ours]))
    return found
