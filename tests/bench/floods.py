"""A model that sends a gigabyte in place of a clip: how much of it is taken, and what that costs."""

import re
import time
from dataclasses import dataclass, field

import httpx

from tests.bench import gateways, upstream
from tests.bench.machine import MIB, forget_peak, peak_rss_mib, rss_mib
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench
from tests.running import RunningGateway

_WITHIN_S = 300.0
_IDLE_S = 2.0
_MOST_ADDED_MIB = 64.0
#: Of a whole answer, on the wire: `gateway.upstream.client`.
_LIMIT_MIB = 256.0
_MOST_TAKEN_MIB = _LIMIT_MIB + 1
_MOST_TIMES = 1.1


@dataclass(slots=True)
class _Side:
    peak_mib: list[float] = field(default_factory=list)
    taken_mib: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def measure(bench: Bench) -> list[Section]:
    """One section: a gigabyte, and beside it an answer of 33 MB that is as it should be."""
    flood, whole = _Side(), _Side()
    settings = {"GATEWAY_MAX_ATTEMPTS": "1", "GATEWAY_WAIT_S": "120"}
    with gateways.running(bench.directory / "floods", bench.upstream, **settings) as (gateway, key):
        _call(gateway, key, upstream.TINY, 1, "succeeded", _Side())
        time.sleep(_IDLE_S)
        idle_mib = rss_mib(gateways.pid(gateway))
        for _ in range(bench.rounds):
            _call(gateway, key, upstream.BIG, 4, "succeeded", whole)
            _call(gateway, key, upstream.FLOOD, 1, "failed", flood)
    found = Section(
        "An answer of a gigabyte",
        f"its length not said, cut off at {_LIMIT_MIB:g} MiB; {bench.rounds} rounds, one call each",
    )
    found.add(Series("idle RSS once it has made music", "MiB", (idle_mib,)))
    found.add(Series("taken of a gigabyte", "MiB", tuple(flood.taken_mib), 1), Aim(most=_MOST_TAKEN_MIB))
    found.add(Series("time until it is refused", "s", tuple(flood.seconds), 1))
    over_idle = tuple(peak - idle_mib for peak in flood.peak_mib)
    found.add(Series("a gigabyte, peak RSS over idle", "MiB", over_idle), Aim(most=_MOST_ADDED_MIB))
    of_whole = tuple(peak - idle_mib for peak in whole.peak_mib)
    found.add(Series("an answer of 33 MB, peak RSS over idle", "MiB", of_whole))
    found.add(ratio("a gigabyte / 33 MB, peak RSS", flood.peak_mib, whole.peak_mib), Aim(most=_MOST_TIMES))
    return [found]


def _call(gateway: RunningGateway, key: str, prompt: str, clips: int, ends: str, side: _Side) -> None:
    pid = gateways.pid(gateway)
    forget_peak(pid)
    before_bytes, began_s = _received_bytes(gateway), time.perf_counter()
    body = {"prompt": prompt, "sampleCount": clips}
    response = httpx.post(
        gateway.url + gateways.MUSIC_PATH,
        json=body,
        headers={"X-Api-Key": key},
        trust_env=False,
        timeout=_WITHIN_S,
    )
    task = response.json()
    if task["status"] != ends:
        raise RuntimeError(f"{task['task_id']} is {task['status']}: {task['error']}")
    side.seconds.append(time.perf_counter() - began_s)
    side.peak_mib.append(peak_rss_mib(pid))
    side.taken_mib.append((_received_bytes(gateway) - before_bytes) / MIB)


def _received_bytes(gateway: RunningGateway) -> float:
    text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    found = re.findall(r"^gateway_received_bytes_total{.*} (\S+)$", text, re.MULTILINE)
    return sum(float(value) for value in found)
