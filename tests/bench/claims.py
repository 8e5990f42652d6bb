"""Claiming alone: one transaction that finds whose turn it is, and where its call goes, and takes the task.

One task waiting beside a hundred thousand of a thousand tenants: the next comes from an index, so what waits
must not show in what a claim costs.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import quantiles

from gateway.db import work
from gateway.db.engine import Database, Tx
from gateway.db.work import Lease
from gateway.families.lyria2 import LYRIA2
from gateway.model import Deployment
from gateway.tasks.catalog import Catalog
from gateway.tasks.claiming import Claimer
from gateway.tasks.pipeline import Begun
from gateway.tasks.pool import Pool, Room
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench
from tests.bench.stores import STORES, Store
from tests.clock import SetClock

MANY_TASKS = 100_000
MANY_TENANTS = 1_000
_MOST_TIMES = 2.0
_BY_ONE = 400
# What a worker of eight runs meanwhile.
_RUNNING = 8

_FILL = """
INSERT INTO tenants (id, name, status, created_at_ms, weight)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {tenants})
SELECT 'ten_' || CAST(100000 + i AS TEXT), 'team ' || CAST(i AS TEXT), 'active', 1, 1 + i % 4 FROM n;

INSERT INTO api_keys (id, tenant_id, name, sha256, created_at_ms)
SELECT 'key_' || substr(id, 5), id, 'key', 's', 1 FROM tenants;

INSERT INTO tasks (id, tenant_id, key_id, key_seq, tenant_seq, route, model, state, prompt, sample_count,
  metadata, price_micros, emulated, request_id, created_at_ms, deadline_at_ms, not_before_ms, attempt_count)
WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {tasks}),
  owned AS (SELECT i, CAST(100000 + i % {tenants} + 1 AS TEXT) AS owner, i / {tenants} + 1 AS seq FROM n)
SELECT 'task_' || CAST(1000000000 + i AS TEXT), 'ten_' || owner, 'key_' || owner, seq, seq,
  'music_generate_lyria', 'lyria-002', 'queued', 'slow piano', 1, '{{}}', 60000, false, 'r',
  i, 9000000000000, 0, 0 FROM owned;

ANALYZE
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """What waits in a database before anything is measured."""

    tasks: int
    tenants: int


@dataclass(slots=True)
class _Side:
    database: Database
    claimer: Claimer

    async def claim(self) -> float:
        """Seconds for one claim; the task is put back afterwards."""
        began_s = time.perf_counter()
        claimed, _ = await self.database.write(lambda tx: self.claimer.take_next(tx, 1))
        took_s = time.perf_counter() - began_s
        for lease, _ in claimed:
            await self.database.write(lambda tx, lease=lease: _put_back(tx, lease))
        return took_s


def measure(bench: Bench) -> list[Section]:
    """A section for each kind of database."""
    return [asyncio.run(_measure(bench, name, store)) for name, store in STORES.items()]


async def _measure(bench: Bench, name: str, store: Store) -> Section:
    one = Contents(1, 1)
    many = Contents(_scaled(bench, MANY_TASKS), _scaled(bench, MANY_TENANTS))
    async with AsyncExitStack() as stack:
        sides = [await stack.enter_async_context(_filled(bench, store, each)) for each in (one, many)]
        readings: list[list[list[float]]] = [[] for _ in sides]
        for _ in range(bench.rounds):
            for side, found in zip(sides, readings, strict=True):
                found.append([await side.claim() for _ in range(_BY_ONE)])
    return _section(bench, name, (one, many), readings)


def _section(
    bench: Bench, name: str, contents: tuple[Contents, ...], readings: list[list[list[float]]]
) -> Section:
    found = Section(
        f"Claims on {name}",
        f"{bench.rounds} rounds of {_BY_ONE} one after another, the first call recorded with each; "
        f"{_RUNNING} tasks of other tenants run meanwhile where there are others",
    )
    titles = [f"{each.tasks:,} queued, {each.tenants:,} tenants" for each in contents]
    rates = [[len(latencies) / sum(latencies) for latencies in side] for side in readings]
    for title, side in zip(titles, rates, strict=True):
        found.add(Series(f"{title}, claims", "1/s", tuple(side), 0))
    for percent in (50, 99):
        values = [
            [quantiles(latencies, n=100)[percent - 1] * 1000 for latencies in side] for side in readings
        ]
        for title, side in zip(titles, values, strict=True):
            found.add(Series(f"{title}, p{percent}", "ms", tuple(side), 2))
    found.add(ratio(f"claims: {titles[0]} / {titles[1]}", rates[0], rates[1]), Aim(most=_MOST_TIMES))
    return found


@asynccontextmanager
async def _filled(bench: Bench, store: Store, contents: Contents) -> AsyncIterator[_Side]:
    deployment = Deployment("lyria", LYRIA2, "p", "l", None, 60_000, 60_000, rpm=10**9)
    names = itertools.count()

    def open_call(tx: Tx, lease: Lease, room: Room | None) -> Begun:
        attempt_id = f"attempt_{next(names)}"
        work.begin_attempt(
            tx,
            lease.task.id,
            token=lease.token,
            attempt_id=attempt_id,
            deployment="lyria",
            clips_asked=1,
            now_ms=clock.now_ms(),
        )
        return Begun(attempt_id, room or Room(deployment), deployment)

    clock = SetClock()
    pool = Pool(Catalog((deployment,)), lambda: 0.5)
    claimer = Claimer(pool, open_call, clock, lambda: f"token_{next(names)}", 60.0)
    filled = _FILL.format(tenants=contents.tenants, tasks=contents.tasks)
    async with store(bench.directory, filled.split(";")) as database:
        if contents.tasks > _RUNNING:
            await database.write(lambda tx: claimer.take_next(tx, _RUNNING))
        yield _Side(database, claimer)


def _put_back(tx: Tx, lease: Lease) -> None:
    work.requeue(tx, lease.task.id, token=lease.token, not_before_ms=0, reason="bench", now_ms=1)


def _scaled(bench: Bench, count: int) -> int:
    """A hundredth of it in a quick run, which only shows that everything works."""
    return count // 100 if bench.quick else count
