"""Admission alone: one transaction that looks at every limit, writes a task and holds its price.

A nearly empty database beside one that holds a million tasks, and one tenant beside ten thousand: limits are
queries, so what a table holds must not show in what an admission costs.
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import quantiles

from gateway.db.engine import Database
from gateway.families.lyria2 import LYRIA2
from gateway.model import MusicSpec, Route, Task, TaskState
from gateway.tasks.admission import Admitted, Defaults, admit
from tests.bench.report import Aim, Section, Series, ratio
from tests.bench.rounds import Bench
from tests.bench.stores import STORES, Store

MANY_TASKS = 1_000_000
MANY_TENANTS = 10_000
_MOST_TIMES = 1.5
_AT_ONCE = 32
_BY_ONE = 300
_DAYS_MS = 30 * 86_400_000
_UNLIMITED = Defaults(rpm=10**9, max_queued=10**9)
_MICROS = 10**15

# Fills every table that an admission looks at. Both kinds of database understand it.
_FILL = """
INSERT INTO tenants (id, name, status, created_at_ms, weight)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {tenants})
SELECT 'ten_' || CAST(100000 + i AS TEXT), 'team ' || CAST(i AS TEXT), 'active', 1, 1 FROM n;

INSERT INTO api_keys (id, tenant_id, name, sha256, created_at_ms)
SELECT 'key_' || substr(id, 5), id, 'key', 's', 1 FROM tenants;

INSERT INTO budgets (tenant_id, "window", limit_micros)
SELECT id, w, {micros} FROM tenants
CROSS JOIN (SELECT 'day' AS w UNION ALL SELECT 'month' UNION ALL SELECT 'total') AS windows;

INSERT INTO tasks (id, tenant_id, key_id, key_seq, tenant_seq, route, model, state, prompt, sample_count,
  metadata, price_micros, emulated, request_id, created_at_ms, deadline_at_ms, not_before_ms, attempt_count)
WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {tasks}),
  owned AS (SELECT i, CAST(100000 + i % {tenants} + 1 AS TEXT) AS owner, i / {tenants} + 1 AS seq,
    {since_ms} + i * {every_ms} AS at_ms FROM n)
SELECT 'task_' || CAST(1000000000 + i AS TEXT), 'ten_' || owner, 'key_' || owner, seq, seq,
  'music_generate_lyria', 'lyria-002', 'succeeded', 'slow piano', 1, '{{}}', 60000, false, 'r',
  at_ms, at_ms, at_ms, 1 FROM owned;

INSERT INTO ledger (tenant_id, key_id, task_id, kind, held_micros, spent_micros, day, month, at_ms, actor,
  reason)
SELECT tenant_id, key_id, id, 'hold', 60000, 0, '2026-01-01', '2026-01', created_at_ms, 'bench', ''
FROM tasks;

INSERT INTO ledger (tenant_id, key_id, task_id, kind, held_micros, spent_micros, day, month, at_ms, actor,
  reason)
SELECT tenant_id, key_id, id, 'settle', -60000, 60000, '2026-01-01', '2026-01', created_at_ms, 'bench', ''
FROM tasks;

ANALYZE
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a database holds before anything is measured."""

    tasks: int
    tenants: int


@dataclass(frozen=True, slots=True)
class _Reading:
    """Seconds that admissions took one after another, and how many a second there were all at once."""

    latencies_s: list[float]
    per_s: float

    def percentile_ms(self, percent: int) -> float:
        return quantiles(self.latencies_s, n=100)[percent - 1] * 1000


def measure(bench: Bench) -> list[Section]:
    """A section for each kind of database."""
    return [asyncio.run(_measure(bench, name, store)) for name, store in STORES.items()]


async def _measure(bench: Bench, name: str, store: Store) -> Section:
    small, large = Contents(1, 1), Contents(_scaled(bench, MANY_TASKS), 1)
    spread = Contents(large.tasks, _scaled(bench, MANY_TENANTS))
    async with AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(_filled(bench, store, contents))
            for contents in (small, large, spread)
        ]
        readings: list[list[_Reading]] = [[] for _ in sides]
        for _ in range(bench.rounds):
            for side, found in zip(sides, readings, strict=True):
                found.append(await _read(side, bench.seconds))
    return _section(bench, name, (small, large, spread), readings)


def _section(
    bench: Bench, name: str, contents: tuple[Contents, ...], readings: list[list[_Reading]]
) -> Section:
    found = Section(
        f"Admissions on {name}",
        f"{bench.rounds} rounds of {_BY_ONE} in turn and {bench.seconds:g} s of {_AT_ONCE} at once; "
        "every limit and three budgets are looked at",
    )
    titles = [f"{each.tasks:,} tasks, {each.tenants:,} tenants" for each in contents]
    figures: tuple[tuple[str, str, Callable[[_Reading], float]], ...] = (
        ("p50", "ms", lambda reading: reading.percentile_ms(50)),
        ("p99", "ms", lambda reading: reading.percentile_ms(99)),
        ("at once", "admissions/s", lambda reading: reading.per_s),
    )
    for figure, unit, of in figures:
        values = [[of(reading) for reading in side] for side in readings]
        digits = 2 if unit == "ms" else 0
        for title, side in zip(titles, values, strict=True):
            found.add(Series(f"{title}, {figure}", unit, tuple(side), digits))
        base, *others = values
        for title, side in zip(titles[1:], others, strict=True):
            above, below = (side, base) if unit == "ms" else (base, side)
            found.add(ratio(f"{figure}: {title} / {titles[0]}", above, below), Aim(most=_MOST_TIMES))
    return found


@dataclass(slots=True)
class _Side:
    database: Database
    contents: Contents
    numbers: "itertools.count[int]"
    choice: random.Random

    def task(self) -> Task:
        owner = self.choice.randint(1, self.contents.tenants)
        return Task(
            id=f"task_new{next(self.numbers):010}",
            tenant_id=f"ten_{100000 + owner}",
            key_id=f"key_{100000 + owner}",
            route=Route.LYRIA,
            model=LYRIA2,
            state=TaskState.QUEUED,
            spec=MusicSpec("slow piano"),
            metadata={},
            price_micros=60_000,
            created_at_ms=time.time_ns() // 1_000_000,
        )

    async def admit(self) -> Admitted:
        task = self.task()
        deadline_at_ms = task.created_at_ms + 900_000
        async with self.database.turn(task.tenant_id):
            return await self.database.write(
                lambda tx: admit(tx, task, deadline_at_ms=deadline_at_ms, defaults=_UNLIMITED)
            )


async def _read(side: _Side, seconds: float) -> _Reading:
    latencies_s = []
    for _ in range(_BY_ONE):
        began_s = time.perf_counter()
        await side.admit()
        latencies_s.append(time.perf_counter() - began_s)
    began_s = time.perf_counter()
    counts = await asyncio.gather(*(_admit_until(side, began_s + seconds) for _ in range(_AT_ONCE)))
    return _Reading(latencies_s, sum(counts) / (time.perf_counter() - began_s))


async def _admit_until(side: _Side, end_s: float) -> int:
    count = 0
    while time.perf_counter() < end_s:
        await side.admit()
        count += 1
    return count


@asynccontextmanager
async def _filled(bench: Bench, store: Store, contents: Contents) -> AsyncIterator[_Side]:
    async with store(bench.directory, _statements(contents)) as database:
        yield _Side(database, contents, itertools.count(), random.Random(1))


def _statements(contents: Contents) -> list[str]:
    """Past tasks of the last thirty days, evenly: the newest are inside the window of a rate."""
    filled = _FILL.format(
        tenants=contents.tenants,
        tasks=contents.tasks,
        micros=_MICROS,
        since_ms=time.time_ns() // 1_000_000 - _DAYS_MS,
        every_ms=_DAYS_MS // contents.tasks,
    )
    return filled.split(";")


def _scaled(bench: Bench, count: int) -> int:
    """A hundredth of it in a quick run, which only shows that everything works."""
    return count // 100 if bench.quick else count
