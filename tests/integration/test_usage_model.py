"""Reports of usage are what plain Python makes of the same rows, and what the ledger and balances say.

Any zone, any grouping, any stretch of days, clocks that change in between (peers.md N1).
"""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.accounts.calendar import periods_at
from gateway.accounts.usage import Query, Report, Row, UsageReports
from gateway.db import accounts, ledger, tables, tasks, tenants
from gateway.db.engine import Database, Tx
from gateway.db.usage import Usage
from gateway.families.registry import KINDS
from gateway.model import ApiKey, Dimension, Entry, EntryKind, ModelKind, MusicSpec, Task, TaskState
from tests.clock import SetClock
from tests.databases import Store, copy_of_file, copy_of_template, open_store
from tests.factories import a_clip, a_key, a_task, a_tenant
from tests.postgres import Server

EXAMPLES = 60
# Half an hour beside the others, fourteen hours ahead, eleven behind, clocks that change at midnight.
ZONES = (
    *("UTC", "Europe/Berlin", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/St_Johns"),
    *("Australia/Lord_Howe", "Africa/Cairo", "America/Havana", "Africa/Casablanca", "America/Nuuk"),
)
DELIVERING = {TaskState.SUCCEEDED, TaskState.CANCELED}
HOMES = ("Europe/Berlin", "Pacific/Pago_Pago", "Pacific/Kiritimati")
FIRST, LAST = date(2026, 9, 1), date(2027, 5, 31)
# Where the clocks of most of these zones change, and a new year.
TURNS = [
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 10, 29, 21, tzinfo=UTC),
    datetime(2026, 11, 1, 4, 30, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
    datetime(2027, 3, 28, 1, tzinfo=UTC),
    datetime(2027, 4, 3, 15, tzinfo=UTC),
]
# Days whose edges are looked at: few, so that moments and reports meet at them.
EDGES = st.sampled_from([date(2026, 10, 25), date(2026, 11, 1), date(2027, 1, 1), date(2027, 3, 28)])
MOMENTS = st.one_of(
    st.integers(1_788_307_200_000, 1_811_721_600_000),
    st.builds(
        lambda turn, minutes, ms: round(turn.timestamp() * 1000) + minutes * 60_000 + ms,
        st.sampled_from(TURNS),
        st.just(0) | st.integers(-24 * 60, 24 * 60),
        st.integers(-1, 1),
    ),
    st.builds(
        lambda day, zone, ms: round(datetime.combine(day, time.min, ZoneInfo(zone)).timestamp() * 1000) + ms,
        EDGES,
        st.sampled_from(ZONES),
        st.integers(-1, 0),
    ),
)


@dataclass(frozen=True)
class Made:
    """A request and all that came of it. Each call is its state and its cost."""

    key: int
    at_ms: int
    model: ModelKind
    state: TaskState
    test: bool
    asked: int
    lengths_ms: tuple[int, ...]
    calls: tuple[tuple[str, int], ...]
    charged: bool = False

    @property
    def price_micros(self) -> int:
        return 0 if self.test else 60_000 * self.asked

    @property
    def entries(self) -> list[tuple[EntryKind, int, int]]:
        """Kind, held and spent."""
        held = [(EntryKind.HOLD, self.price_micros, 0)]
        if self.state is TaskState.SUCCEEDED:
            spent = self.price_micros // self.asked * len(self.lengths_ms)
            return [*held, (EntryKind.SETTLE, -self.price_micros, spent)]
        if self.state is TaskState.CANCELED and self.charged and self.price_micros:
            return [*held, (EntryKind.SETTLE, -self.price_micros, self.price_micros)]
        return [*held, (EntryKind.RELEASE, -self.price_micros, 0)] if self.state.terminal else held


@st.composite
def made(draw: st.DrawFn) -> Made:
    asked = draw(st.integers(1, 4))
    state = draw(st.sampled_from(TaskState))
    length = st.integers(1, 300_000)
    clips = draw(st.lists(length, min_size=state is TaskState.SUCCEEDED, max_size=asked))
    call = st.tuples(st.sampled_from(["started", "succeeded", "failed", "unknown"]), st.integers(0, 10**12))
    return Made(
        key=draw(st.integers(0, 3)),
        at_ms=draw(MOMENTS),
        model=draw(st.sampled_from(KINDS)),
        state=state,
        test=draw(st.booleans()) and draw(st.booleans()),
        asked=asked,
        lengths_ms=tuple(clips),
        # Clips come of a call.
        calls=tuple(draw(st.lists(call, min_size=len(clips) > 0, max_size=3))),
        charged=draw(st.booleans()),
    )


# The tenant, when, and by how much: never less in all than nothing, as the database demands.
ADJUSTMENTS = st.tuples(st.integers(0, 1), MOMENTS, st.integers(-1_000, 10**12))


class Shop:
    """Two tenants with two keys each."""

    def __init__(self, homes: tuple[str, str]) -> None:
        self.tenants = [a_tenant(zone=home) for home in homes]
        self.keys: list[ApiKey] = [a_key(self.tenants[n // 2]) for n in range(4)]
        self.history: list[Made] = []
        self.adjustments: list[tuple[int, int, int]] = []

    def fill(self, tx: Tx) -> None:
        for tenant in self.tenants:
            tenants.insert_tenant(tx, tenant)
            # So that any credit is less than what was spent.
            self.adjust(tx, self.tenants.index(tenant), 1_790_000_000_000, 10**6)
        for key in self.keys:
            accounts.insert_key(tx, key)

    def make(self, tx: Tx, each: Made) -> None:
        self.history.append(each)
        number = len(self.history)
        queued = each.state if each.state is not TaskState.RUNNING else TaskState.QUEUED
        task = a_task(
            self.keys[each.key],
            model=each.model,
            state=queued,
            spec=MusicSpec("x", sample_count=each.asked),
            price_micros=each.price_micros,
            created_at_ms=each.at_ms,
            test=each.test,
        )
        tasks.insert_task(tx, task, key_seq=number, tenant_seq=number, deadline_at_ms=each.at_ms)
        if each.state is TaskState.RUNNING:
            running = {"state": "running", "lease_token": "t", "lease_expires_at_ms": 0}
            tx.execute(sa.update(tables.tasks).where(tables.tasks.c.id == task.id).values(running))
        self._call(tx, task, each)
        self._enter(tx, task, each)

    def _call(self, tx: Tx, task: Task, each: Made) -> None:
        for number, (state, cost_micros) in enumerate(each.calls):
            values = {
                "id": f"{task.id}-{number}",
                "task_id": task.id,
                "number": number,
                "deployment": "d",
                "state": state,
                "started_at_ms": each.at_ms,
                "clips_asked": each.asked,
                "clips_delivered": 0,
                "cost_micros": cost_micros,
            }
            tx.execute(sa.insert(tables.attempts).values(values))
        for index, length_ms in enumerate(each.lengths_ms):
            clip = asdict(a_clip(task, duration_s=length_ms / 1000))
            del clip["index"]
            keys = {"task_id": task.id, "clip_index": index, "attempt_id": f"{task.id}-0"}
            tx.execute(sa.insert(tables.outputs).values(clip | keys))

    def _enter(self, tx: Tx, task: Task, each: Made) -> None:
        zone = self.tenants[each.key // 2].zone
        for kind, held, spent in each.entries:
            entry = Entry(
                tenant_id=task.tenant_id,
                key_id=task.key_id,
                task_id=task.id,
                kind=kind,
                held_micros=held,
                spent_micros=spent,
                periods=periods_at(each.at_ms, zone),
                # Long after: what counts is when the task was accepted.
                at_ms=each.at_ms + 30 * 86_400_000,
                actor="test",
            )
            ledger.add_entry(tx, entry)

    def adjust(self, tx: Tx, tenant: int, at_ms: int, micros: int) -> None:
        self.adjustments.append((tenant, at_ms, micros))
        periods = periods_at(at_ms, self.tenants[tenant].zone)
        tenant_id = self.tenants[tenant].id
        ledger.add_entry(
            tx, Entry(tenant_id, None, None, EntryKind.ADJUST, 0, micros, periods, at_ms, "test", "why")
        )

    def expected(
        self, tenant: int | None, first: date, last: date, zone: str, group_by: tuple[Dimension, ...]
    ) -> dict[tuple[str | None, ...], Usage]:
        """The report, as one would make it by hand."""
        found: dict[tuple[str | None, ...], Usage] = defaultdict(Usage)

        def add(tenant_id: str, key_id: str | None, model: str | None, at_ms: int, what: Usage) -> None:
            day = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)).date()
            if first <= day <= last and tenant in {None, [t.id for t in self.tenants].index(tenant_id)}:
                names = {"tenant": tenant_id, "key": key_id, "model": model, "day": day.isoformat()}
                found[tuple(names[dimension.value] for dimension in group_by)] += what

        for each in self.history:
            key = self.keys[each.key]
            add(key.tenant_id, key.id, each.model, each.at_ms, usage_of(each))
        for owner, at_ms, micros in self.adjustments:
            add(self.tenants[owner].id, None, None, at_ms, Usage(adjusted_micros=micros))
        return {group: used for group, used in found.items() if used != Usage()}


def usage_of(each: Made) -> Usage:
    money = Usage(
        held_micros=sum(held for _, held, _ in each.entries),
        spent_micros=sum(spent for _, _, spent in each.entries),
    )
    if each.test:
        return money + Usage(test_requests=1)
    delivered = each.lengths_ms if each.state in DELIVERING else ()
    return money + Usage(
        requests=1,
        **{each.state.value: 1},
        clips=len(delivered),
        audio_ms=sum(delivered),
        attempts=len(each.calls),
        unknown_attempts=sum(state == "unknown" for state, _ in each.calls),
        provider_cost_micros=sum(cost for state, cost in each.calls if state != "started"),
    )


def groups(report: Report) -> dict[tuple[str | None, ...], Usage]:
    columns = {
        Dimension.TENANT: "tenant_id",
        Dimension.KEY: "key_id",
        Dimension.MODEL: "model",
        Dimension.DAY: "day",
    }

    def group(row: Row) -> tuple[str | None, ...]:
        return tuple(getattr(row, columns[dimension]) for dimension in report.group_by)

    found = {group(row): row.usage for row in report.rows}
    assert len(found) == len(report.rows)
    return found


@contextmanager
def new_file(migrated: Path) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as directory:
        yield copy_of_file(migrated, Path(directory))


def run(make_store: Callable[[], AbstractContextManager[Store]], examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        data=st.data(),
        history=st.lists(made(), max_size=12),
        adjustments=st.lists(ADJUSTMENTS, max_size=3),
        homes=st.tuples(st.sampled_from(HOMES), st.sampled_from(HOMES)),
    )
    def reports_are_right(
        data: st.DataObject,
        history: list[Made],
        adjustments: list[tuple[int, int, int]],
        homes: tuple[str, str],
    ) -> None:
        with make_store() as store:
            asyncio.run(compare(store, Shop(homes), data, history, adjustments))

    reports_are_right()


@pytest.mark.slow
def test_reports_are_what_the_rows_add_up_to(migrated_file: Path) -> None:
    run(partial(new_file, migrated_file), EXAMPLES)


@pytest.mark.slow
def test_reports_are_what_the_rows_add_up_to_on_postgres_too(postgres_server: Server) -> None:
    run(partial(copy_of_template, postgres_server), EXAMPLES // 4)


async def compare(
    store: Store,
    shop: Shop,
    data: st.DataObject,
    history: list[Made],
    adjustments: list[tuple[int, int, int]],
) -> None:
    database = await open_store(store)
    try:
        await database.write(shop.fill)
        for each in history:
            await database.write(lambda tx, each=each: shop.make(tx, each))
        for adjustment in adjustments:
            await database.write(lambda tx, it=adjustment: shop.adjust(tx, *it))
        reports = UsageReports(database, SetClock())
        for _ in range(3):
            await compare_any(shop, reports, data)
        for tenant in range(2):
            await compare_with_balances(shop, reports, database, tenant)
    finally:
        await database.close()


async def compare_any(shop: Shop, reports: UsageReports, data: st.DataObject) -> None:
    """Whatever is asked for."""
    tenant = data.draw(st.sampled_from([None, 0, 1]))
    zone = data.draw(st.sampled_from(ZONES))
    group_by = tuple(data.draw(st.lists(st.sampled_from(Dimension), unique=True)))
    first = data.draw(EDGES | st.dates(FIRST, LAST))
    last = data.draw(
        st.builds(lambda day: max(day - timedelta(days=1), first), EDGES) | st.dates(first, LAST)
    )
    query = Query(
        None if tenant is None else shop.tenants[tenant].id,
        first.isoformat(),
        last.isoformat(),
        zone,
        group_by,
    )
    report = await reports.report(query)
    expected = shop.expected(tenant, first, last, zone, group_by)
    assert groups(report) == expected
    assert report.total == sum(expected.values(), Usage())


async def compare_with_balances(shop: Shop, reports: UsageReports, database: Database, tenant: int) -> None:
    """Each day and month of the tenant's own is its balance, and everything is its total."""
    tenant_id = shop.tenants[tenant].id
    report = await reports.report(Query(tenant_id, FIRST.isoformat(), LAST.isoformat()))
    days: dict[str, Usage] = {str(row.day): row.usage for row in report.rows}
    months: dict[str, Usage] = defaultdict(Usage)
    for day, used in days.items():
        months[day[:7]] += used
    kept: dict[str, Any] = await database.read(
        lambda tx: {
            row.period: (row.held_micros, row.spent_micros)
            for row in tx.execute(sa.select(tables.balances).where(tables.balances.c.tenant_id == tenant_id))
            if row.period == "total" or row.held_micros or row.spent_micros
        }
    )
    told = {
        period: (used.held_micros, used.charged_micros)
        for period, used in {**days, **months, "total": report.total}.items()
        if period == "total" or used.held_micros or used.charged_micros
    }
    assert told == kept
