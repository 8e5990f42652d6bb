"""Listening: thousands of streams of events beside a few, and beside streams of a bare Starlette route."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from statistics import quantiles

import httpx
import uvloop

from tests.bench import gateways, upstream
from tests.bench.machine import cpu_s, rss_mib
from tests.bench.processes import Server, start_module
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench
from tests.running import RunningGateway

TASKS = 50
MANY, MANY_QUICK = 2_000, 500
_AT_ONCE = 100
_WITHIN_S = 120.0
_IDLE_S, _IDLE_QUICK_S = 16.0, 2.0
_MOST_KIB = 64.0
_END = b"event: succeeded\n"


@dataclass(slots=True)
class _Side:
    """Readings with one number of listeners; processor time is that of one of them."""

    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def add(self, late_s: Sequence[float], used_s: float) -> None:
        self.cpu_us.append(used_s / len(late_s) * 1e6)
        cuts = quantiles(late_s, n=100, method="inclusive")
        self.p50_ms.append(cuts[49] * 1e3)
        self.p99_ms.append(cuts[98] * 1e3)


@dataclass(slots=True)
class _Cost:
    """Of one listener here and of one of the bare route; processor time with all of them, and with none."""

    kib: float = 0.0
    bare_kib: float = 0.0
    idle_percent: float = 0.0
    nobody_percent: float = 0.0


class _Listener(asyncio.Protocol):
    """One stream. ``opened`` is done with its first block, ``ended`` with the moment its task's end came."""

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._received = b""
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[float] = loop.create_future()

    async def late_s(self) -> float:
        """From the end of the task until it was heard of, read from what came once all have heard."""
        at_s = await self.ended
        document = self._received.partition(_END)[2].partition(b"data: ")[2].partition(b"\n")[0]
        return at_s - datetime.fromisoformat(json.loads(document)["finished_at"]).timestamp()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now_s = time.time()
        if not self.opened.done() and b"event: queued\n" in data:
            self.opened.set_result(None)
        self._received += data
        if self._received.endswith(b"0\r\n\r\n") and _END in self._received and not self.ended.done():
            self.ended.set_result(now_s)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.opened, self.ended):
            if not future.done():
                future.set_exception(exc or ConnectionError("the stream ended early"))


def measure(bench: Bench) -> list[Section]:
    """One section: what being told takes with many and with few listeners, and what one costs."""
    many = MANY_QUICK if bench.quick else MANY
    settings = {
        "GATEWAY_CONCURRENCY": str(TASKS),
        "GATEWAY_STORAGE_URL": f"file://{bench.memory_directory / 'events'}",
    }
    sides, cost = {many: _Side(), TASKS: _Side()}, _Cost()
    with gateways.running(bench.directory / "events", bench.upstream, **settings) as (gateway, key):
        served = Server(gateway.url, gateways.pid(gateway))
        # What the first of them make it load is nobody's.
        uvloop.run(_round(bench, gateway, key, served, TASKS, _Side()))
        uvloop.run(_round(bench, gateway, key, served, many, _Side(), cost=cost))
        for _ in range(bench.rounds):
            for listeners, side in sides.items():
                uvloop.run(_round(bench, gateway, key, served, listeners, side))
    with start_module("bare", bench.directory) as bare:
        uvloop.run(_hold(bare, TASKS))
        cost.bare_kib = uvloop.run(_hold(bare, many))
    return [_section(bench, many, sides, cost)]


def _section(bench: Bench, many: int, sides: dict[int, _Side], cost: _Cost) -> Section:
    found = Section(
        f"{many:,} listeners to {TASKS} tasks that end at once",
        f"from `finished_at`, just before the commit, to receipt; {bench.rounds} rounds beside as many with "
        f"{TASKS} listeners; client and gateway on the same cores",
    )
    for listeners, side in sides.items():
        found.add(Series(f"{listeners:,} listeners, end to receipt, p50", "ms", tuple(side.p50_ms), 1))
        found.add(Series(f"{listeners:,} listeners, end to receipt, p99", "ms", tuple(side.p99_ms), 1))
    tasks_and_few, all_of_it = sides[TASKS].cpu_us, sides[many].cpu_us
    told_us = [(b * many - a * TASKS) / (many - TASKS) for a, b in zip(tasks_and_few, all_of_it, strict=True)]
    found.add(Series("gateway, server CPU of one more listener", "µs", tuple(told_us)))
    found.add(ratio(f"{many:,} / {TASKS}, p99", sides[many].p99_ms, sides[TASKS].p99_ms))
    found.add(Series("gateway, RSS of a listener", "KiB", (cost.kib,), 1), Aim(most=_MOST_KIB))
    found.add(Series("bare Starlette stream, RSS of a listener", "KiB", (cost.bare_kib,), 1))
    found.add(ratio("gateway / bare, RSS", (cost.kib,), (cost.bare_kib,)))
    found.add(Series(f"gateway, {many:,} idle listeners", "% of a core", (cost.idle_percent,), 2))
    found.add(Series("gateway, the same without listeners", "% of a core", (cost.nobody_percent,), 2))
    return found


async def _round(
    bench: Bench,
    gateway: RunningGateway,
    key: str,
    served: Server,
    listeners: int,
    side: _Side,
    *,
    cost: _Cost | None = None,
) -> None:
    """As many listeners to each task, and then all tasks end; what they cost, if that is asked for."""
    ids = await asyncio.to_thread(gateways.submit, gateway, key, upstream.GATED, TASKS)
    await asyncio.to_thread(gateways.wait_until, gateway, key, ids, "running")
    if cost is not None:
        cost.nobody_percent = await _busy_percent(bench, served)
    before_mib = rss_mib(served.pid)
    heads = f"HTTP/1.1\r\nHost: g\r\nX-Api-Key: {key}\r\n\r\n"
    paths = [f"/api/task-status/{ids[number % TASKS]}/events" for number in range(listeners)]
    async with asyncio.timeout(_WITHIN_S):
        opened = await _open_all(gateway.url, [f"GET {path} {heads}".encode() for path in paths])
        await asyncio.gather(*(listener.opened for listener, _ in opened))
        if cost is not None:
            cost.kib = (rss_mib(served.pid) - before_mib) * 1024 / listeners
            cost.idle_percent = await _busy_percent(bench, served)
        before_s = cpu_s(served.pid)
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.post(f"{bench.upstream.url}/release")).raise_for_status()
        await asyncio.wait([listener.ended for listener, _ in opened])
        used_s = cpu_s(served.pid) - before_s
        side.add([await listener.late_s() for listener, _ in opened], used_s)
    for _, transport in opened:
        transport.close()


async def _busy_percent(bench: Bench, served: Server) -> float:
    seconds = _IDLE_QUICK_S if bench.quick else _IDLE_S
    before_s = cpu_s(served.pid)
    await asyncio.sleep(seconds)
    return (cpu_s(served.pid) - before_s) / seconds * 100


async def _open_all(url: str, requests: Sequence[bytes]) -> list[tuple[_Listener, asyncio.BaseTransport]]:
    port, turn, loop = int(url.rpartition(":")[2]), asyncio.Semaphore(_AT_ONCE), asyncio.get_running_loop()

    async def one(request: bytes) -> tuple[_Listener, asyncio.BaseTransport]:
        async with turn:
            transport, listener = await loop.create_connection(lambda: _Listener(request), "127.0.0.1", port)
            return listener, transport

    return list(await asyncio.gather(*map(one, requests)))


async def _hold(bare: Server, listeners: int) -> float:
    """KiB for each of so many streams of the bare route."""
    before_mib = rss_mib(bare.pid)
    opened = await _open_all(bare.url, [b"GET /stream HTTP/1.1\r\nHost: b\r\n\r\n"] * listeners)
    async with asyncio.timeout(_WITHIN_S):
        await asyncio.gather(*(listener.opened for listener, _ in opened))
    kib = (rss_mib(bare.pid) - before_mib) * 1024 / listeners
    for listener, transport in opened:
        transport.close()
        with suppress(ConnectionError):
            await listener.ended
    return kib
