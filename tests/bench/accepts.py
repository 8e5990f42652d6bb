"""Accepting: a 202 after the task is on disk, against LiteLLM checking a key and forwarding a call."""

import re

import httpx

from tests.bench import gateways, litellm, upstream
from tests.bench.processes import Server
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench, Reading, alternate, cpu, p50, rates, read, warm_up

CONNECTIONS = 32
_LEAST_PER_S = 500.0
_LEAST_RATIO = 10.0
_WORKERS = "8"


def measure(bench: Bench) -> list[Section]:
    """Two sections: an instance that only serves, and one that runs the tasks as well."""
    with litellm.running(bench.upstream, bench.directory) as proxy:
        warm_up(bench, proxy.url, litellm.LOAD, connections=CONNECTIONS)
        return [
            _compare(bench, proxy, "0", "the worker in another process"),
            _compare(bench, proxy, _WORKERS, f"the worker beside, running {_WORKERS} tasks at once"),
        ]


def _compare(bench: Bench, proxy: Server, concurrency: str, how: str) -> Section:
    finished_per_s: list[float] = []
    ours, theirs = alternate(
        bench.rounds,
        lambda: _accept(bench, concurrency, finished_per_s),
        lambda: read(bench, proxy.url, proxy.pid, litellm.LOAD, connections=CONNECTIONS),
    )
    found = Section(
        f"Durable accepts, {how}",
        f"{CONNECTIONS} connections, {bench.rounds} x {bench.seconds:g} s each, LiteLLM {litellm.version()}",
    )
    found.add(rates("gateway, 202 after commit", ours), Aim(least=_LEAST_PER_S))
    found.add(p50("gateway", ours))
    if concurrency != "0":
        found.add(Series("gateway, tasks finished meanwhile", "tasks/s", tuple(finished_per_s)))
    found.add(rates("LiteLLM, 200", theirs))
    found.add(p50("LiteLLM", theirs))
    found.add(
        ratio("gateway / LiteLLM", [r.answers.per_s for r in ours], [r.answers.per_s for r in theirs], 1),
        Aim(least=_LEAST_RATIO),
    )
    found.add(cpu("gateway", ours))
    found.add(cpu("LiteLLM", theirs))
    found.add(ratio("LiteLLM / gateway, server CPU", [r.cpu_us for r in theirs], [r.cpu_us for r in ours], 1))
    return found


def _accept(bench: Bench, concurrency: str, finished_per_s: list[float]) -> Reading:
    """On a gateway of its own: what a worker has left to do must not fall on the other side's round."""
    directory = bench.directory / "accepts"
    with gateways.running(directory, bench.upstream, GATEWAY_CONCURRENCY=concurrency) as (gateway, key):
        load = gateways.music_load(key, upstream.TINY, respond_async=True)
        warm_up(bench, gateway.url, load, connections=CONNECTIONS)
        before = _finished(gateway.url)
        reading = read(bench, gateway.url, gateways.pid(gateway), load, connections=CONNECTIONS)
        finished_per_s.append((_finished(gateway.url) - before) / reading.answers.seconds)
        gateway.kill()
    return reading


def _finished(url: str) -> float:
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    found = re.findall(r'^gateway_tasks_total{.*state="succeeded"} (\S+)$', text, re.MULTILINE)
    return sum(float(value) for value in found)
