"""Sixteen four-clip answers at once: what they cost in memory, and how fast they get through."""

import asyncio
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.bench import gateways, upstream
from tests.bench.machine import MIB, cpu_s, forget_peak, peak_rss_mib, rss_mib
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench
from tests.running import RunningGateway

STREAMS, CLIPS = 16, 4
_MOST_ADDED_MIB = 64.0
_LEAST_RATIO = 0.5
_IDLE_S = 5.0
_WITHIN_S = 300.0
_PREDICT_PATH = "/v1/projects/p/locations/l/publishers/google/models/lyria-002:predict"


@dataclass(slots=True)
class _Side:
    """Readings of one way through."""

    mib_per_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)


def measure(bench: Bench) -> list[Section]:
    """Two sections: audio kept in memory, so that the gateway is measured, and audio kept on the disk."""
    size_mib = STREAMS * upstream.big_answer_bytes() / MIB
    sections = []
    for where, directory in (("in memory", bench.memory_directory), ("on the disk", bench.directory)):
        audio = directory / "audio"
        sections.append(_compare(bench, audio, size_mib, f"audio kept {where}"))
        shutil.rmtree(audio, ignore_errors=True)
    return sections


def _compare(bench: Bench, audio: Path, size_mib: float, where: str) -> Section:
    ours, theirs = _Side(), _Side()
    settings = {"GATEWAY_CONCURRENCY": str(STREAMS), "GATEWAY_STORAGE_URL": f"file://{audio}"}
    with gateways.running(bench.directory / "memory", bench.upstream, **settings) as (gateway, key):
        time.sleep(_IDLE_S)
        idle_mib = rss_mib(gateways.pid(gateway))
        # The libraries for sound are loaded with the first clip.
        gateways.wait_until(gateway, key, gateways.submit(gateway, key, upstream.TINY, 1), "succeeded")
        loaded_mib = rss_mib(gateways.pid(gateway))
        for _ in range(bench.rounds):
            _through_gateway(gateway, key, size_mib, ours)
            _empty(audio)
            _through_httpx(bench, size_mib, theirs)
    found = Section(
        f"{STREAMS} answers of {CLIPS} clips at once, {where}",
        f"{size_mib / STREAMS:.1f} MiB of JSON each, {bench.rounds} rounds; audio in {_file_system(audio)}",
    )
    added = tuple(peak - idle_mib for peak in ours.peak_mib)
    found.add(Series("gateway, idle RSS", "MiB", (idle_mib,)))
    found.add(Series("gateway, idle RSS once it has made music", "MiB", (loaded_mib,)))
    found.add(Series("gateway, peak RSS over idle", "MiB", added), Aim(most=_MOST_ADDED_MIB))
    above_loaded = tuple(peak - loaded_mib for peak in ours.peak_mib)
    found.add(Series("gateway, peak RSS over that with music", "MiB", above_loaded))
    found.add(Series("gateway, body received, decoded, measured and stored", "MiB/s", tuple(ours.mib_per_s)))
    found.add(Series("httpx, body received and dropped", "MiB/s", tuple(theirs.mib_per_s)))
    found.add(ratio("gateway / httpx", ours.mib_per_s, theirs.mib_per_s), Aim(least=_LEAST_RATIO))
    found.add(Series("gateway, server CPU of one round", "s", tuple(ours.cpu_s), 2))
    found.add(Series("httpx, client CPU of one round", "s", tuple(theirs.cpu_s), 2))
    found.add(ratio("httpx / gateway, CPU", theirs.cpu_s, ours.cpu_s))
    return found


def _through_gateway(gateway: RunningGateway, key: str, size_mib: float, side: _Side) -> None:
    pid = gateways.pid(gateway)
    forget_peak(pid)
    before_s, started_s = cpu_s(pid), time.perf_counter()
    asyncio.run(_wait_for_all(gateway.url, key))
    side.mib_per_s.append(size_mib / (time.perf_counter() - started_s))
    side.cpu_s.append(cpu_s(pid) - before_s)
    side.peak_mib.append(peak_rss_mib(pid))


async def _wait_for_all(url: str, key: str) -> None:
    body = {"prompt": upstream.BIG, "sampleCount": CLIPS}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=_WITHIN_S) as client:
        calls = (
            client.post(gateways.MUSIC_PATH, json=body, headers={"X-Api-Key": key}) for _ in range(STREAMS)
        )
        for response in await asyncio.gather(*calls):
            task = response.raise_for_status().json()
            if task["status"] != "succeeded" or len(task["outputs"]) != CLIPS:
                raise RuntimeError(f"{task['task_id']} is {task['status']}: {task['error']}")


def _through_httpx(bench: Bench, size_mib: float, side: _Side) -> None:
    command = [sys.executable, "-m", "tests.bench.discard", bench.upstream.url + _PREDICT_PATH, upstream.BIG]
    done = subprocess.run(
        [*command, str(STREAMS)], capture_output=True, text=True, check=True, timeout=_WITHIN_S
    )
    received_bytes, seconds, used_s = done.stdout.split()
    if int(received_bytes) / MIB < size_mib * 0.99:
        raise RuntimeError(f"httpx received {received_bytes} bytes")
    side.mib_per_s.append(int(received_bytes) / MIB / float(seconds))
    side.cpu_s.append(float(used_s))


def _empty(audio: Path) -> None:
    """Room for the next round. The gateway's own folders stay."""
    for tenant in audio.glob("ten_*"):
        shutil.rmtree(tenant)


def _file_system(path: Path) -> str:
    """The type of the file system a path is on, by the longest mount point above it."""
    best = ("", "?")
    with suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mount, kind, *_ = line.split()
            if path.resolve().is_relative_to(mount) and len(mount) > len(best[0]):
                best = (mount, kind)
    return best[1]
