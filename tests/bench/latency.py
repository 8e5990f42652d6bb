"""What the gateway adds to an instant small answer, from POST to finished task, one call at a time."""

import json

from tests.bench import gateways, litellm, upstream
from tests.bench.processes import Server
from tests.bench.report import Aim, Section, Series
from tests.bench.rounds import Bench, Reading, alternate, cpu, read, warm_up
from tests.bench.wrk import Load

_MOST_MS = 5.0
_PREDICT = Load(
    "POST",
    ["/v1/projects/p/locations/l/publishers/google/models/lyria-002:predict"],
    {"Content-Type": "application/json"},
    json.dumps({"instances": [{"prompt": upstream.TINY}], "parameters": {"sample_count": 1}}),
)


def measure(bench: Bench) -> list[Section]:
    """One section. The same client calls the gateway, LiteLLM, and for each what stands behind it."""
    in_memory = f"file://{bench.memory_directory / 'latency'}"
    with (
        litellm.running(bench.upstream, bench.directory) as proxy,
        gateways.running(bench.directory / "disk", bench.upstream) as (on_disk, disk_key),
        gateways.running(bench.directory / "memory", bench.upstream, GATEWAY_STORAGE_URL=in_memory) as (
            in_ram,
            ram_key,
        ),
    ):
        sides = [
            (bench.upstream, _PREDICT),
            (Server(on_disk.url, gateways.pid(on_disk)), _waiting(disk_key)),
            (Server(in_ram.url, gateways.pid(in_ram)), _waiting(ram_key)),
            (bench.upstream, litellm.LOAD),
            (proxy, litellm.LOAD),
        ]
        for server, load in sides:
            warm_up(bench, server.url, load, connections=1)
        readings = alternate(bench.rounds, *(_reader(bench, server, load) for server, load in sides))
    return [_section(bench, readings)]


def _waiting(key: str) -> Load:
    return gateways.music_load(key, upstream.TINY, respond_async=False)


def _reader(bench: Bench, server: Server, load: Load):
    return lambda: read(bench, server.url, server.pid, load, connections=1)


def _section(bench: Bench, readings: list[list[Reading]]) -> Section:
    predict, on_disk, in_ram, chat, proxy = readings
    found = Section(
        "Added latency",
        f"1 connection, {bench.rounds} x {bench.seconds:g} s each, LiteLLM {litellm.version()}",
    )
    found.add(_added("gateway, added p50", on_disk, predict), Aim(most=_MOST_MS))
    found.add(_added("gateway with audio in memory, added p50", in_ram, predict))
    found.add(_added("LiteLLM, added p50", proxy, chat))
    found.add(_p50("upstream alone, p50", predict))
    found.add(_p99("gateway, p99", on_disk))
    found.add(_p99("LiteLLM, p99", proxy))
    found.add(cpu("gateway", on_disk))
    found.add(cpu("LiteLLM", proxy))
    return found


def _added(name: str, through: list[Reading], direct: list[Reading]) -> Series:
    pairs = zip(through, direct, strict=True)
    return Series(name, "ms", tuple((a.answers.p50_s - b.answers.p50_s) * 1e3 for a, b in pairs), 2)


def _p50(name: str, readings: list[Reading]) -> Series:
    return Series(name, "ms", tuple(r.answers.p50_s * 1e3 for r in readings), 2)


def _p99(name: str, readings: list[Reading]) -> Series:
    return Series(name, "ms", tuple(r.answers.p99_s * 1e3 for r in readings), 2)
