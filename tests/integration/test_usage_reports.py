"""Reports of usage: which days are meant, what is said of others, in which order, and by which index."""

import sqlite3
from contextlib import closing
from datetime import date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.accounts import usage
from gateway.accounts.calendar import offsets, start_of_day_ms
from gateway.accounts.usage import Query, Report, UsageReports
from gateway.db.engine import Database
from gateway.db.migrate import migrate
from gateway.db.usage import Selection, _statements
from gateway.errors import ErrorCode, InvalidRequest, NotFound
from gateway.families.registry import KINDS
from gateway.model import ApiKey, Dimension, Tenant
from tests.clock import SetClock
from tests.factories import ACT, NOW_MS, keep_key, keep_task, keep_tenant
from tests.office import TestOffice

# NOW_MS is 2027-01-15, 08:00 in UTC.
TODAY = date(2027, 1, 15)
DAY_MS = 86_400_000


@pytest.fixture
def reports(database: Database, clock: SetClock) -> UsageReports:
    return UsageReports(database, clock)


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await keep_tenant(database, id="ten_1", name="radio", zone="Pacific/Kiritimati")


@pytest.fixture
async def key(database: Database, tenant: Tenant) -> ApiKey:
    return await keep_key(database, tenant, id="k1", name="podcast")


def days(report: Report) -> tuple[str, str]:
    return report.first_day.isoformat(), report.last_day.isoformat()


async def refused(reports: UsageReports, query: Query) -> tuple[str, str, str]:
    with pytest.raises(InvalidRequest) as caught:
        await reports.report(query)
    (field,) = caught.value.fields
    return field.field, field.code, field.detail


# Which days


async def test_without_a_word_it_is_thirty_days_of_the_tenants_own(
    reports: UsageReports, tenant: Tenant
) -> None:
    """Fourteen hours ahead, ten in the evening of the same day."""
    report = await reports.report(Query(tenant.id))
    assert (report.zone, *days(report)) == ("Pacific/Kiritimati", "2026-12-17", "2027-01-15")
    assert report.from_ms == start_of_day_ms(date(2026, 12, 17), tenant.zone)
    assert report.to_ms == start_of_day_ms(date(2027, 1, 16), tenant.zone)
    assert report.group_by == (Dimension.DAY,)


@pytest.mark.parametrize(
    ("zone", "last"),
    [("Pacific/Kiritimati", "2027-01-16"), ("Pacific/Pago_Pago", "2027-01-15"), ("UTC", "2027-01-15")],
)
async def test_today_is_that_of_the_zone(
    reports: UsageReports, clock: SetClock, tenant: Tenant, zone: str, last: str
) -> None:
    clock.advance(3 * 3600)
    assert days(await reports.report(Query(tenant.id, zone=zone)))[1] == last


async def test_all_tenants_are_reported_in_utc(reports: UsageReports, tenant: Tenant) -> None:
    report = await reports.report(Query(None))
    assert (report.zone, report.tenant_id) == ("UTC", None)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2026-11-01", "2026-11-30", ("2026-11-01", "2026-11-30")),
        ("2026-11-22", "2026-11-22", ("2026-11-22", "2026-11-22")),
        ("2027-01-01", None, ("2027-01-01", "2027-01-15")),
        (None, "2026-12-31", ("2026-12-02", "2026-12-31")),
        ("2027-02-01", "2027-02-28", ("2027-02-01", "2027-02-28")),
        ("2026-01-15", "2027-02-18", ("2026-01-15", "2027-02-18")),  # 400
    ],
)
async def test_both_days_are_included(
    reports: UsageReports, tenant: Tenant, first: str | None, last: str | None, expected: tuple[str, str]
) -> None:
    assert days(await reports.report(Query(tenant.id, first, last))) == expected


@pytest.mark.parametrize(
    ("first", "last", "zone", "field", "code"),
    [
        ("2026-11-31", None, None, "from", "wrong_type"),
        (None, "20261101", None, "to", "wrong_type"),
        ("", None, None, "from", "wrong_type"),
        (None, "", None, "to", "wrong_type"),
        (None, None, "", "tz", "unknown_zone"),
        ("yesterday", None, None, "from", "wrong_type"),
        ("1969-12-31", None, None, "from", "wrong_type"),
        (None, "9999-12-31", None, "to", "wrong_type"),
        ("２０２６-11-01", None, None, "from", "wrong_type"),  # noqa: RUF001 - digits all the same, to Python
        ("2026-11-02", "2026-11-01", None, "from", "out_of_range"),
        ("2027-01-16", None, "UTC", "from", "out_of_range"),
        ("2026-01-15", "2027-02-19", None, "from", "out_of_range"),  # 401
        (None, None, "Europe/Atlantis", "tz", "unknown_zone"),
        (None, None, "../../etc/passwd", "tz", "unknown_zone"),
    ],
)
async def test_days_and_zones_that_are_none_are_refused(
    reports: UsageReports, tenant: Tenant, first: str, last: str, zone: str, field: str, code: str
) -> None:
    assert (await refused(reports, Query(tenant.id, first, last, zone)))[:2] == (field, code)


async def test_a_refusal_says_what_to_do(reports: UsageReports, tenant: Tenant) -> None:
    _, _, detail = await refused(reports, Query(tenant.id, "2025-01-01", "2027-01-01"))
    assert detail == "is 731 days before the end; ask for at most 400."
    _, _, detail = await refused(reports, Query(tenant.id, "2026-11-02", "2026-11-01"))
    assert detail == "is after 2026-11-01, the last day; both are included."


@pytest.mark.parametrize("zone", [None, "UTC"])
async def test_a_tenant_that_is_nobodys_is_not_found(reports: UsageReports, zone: str | None) -> None:
    with pytest.raises(NotFound) as caught:
        await reports.report(Query("ten_x", zone=zone))
    assert caught.value.code is ErrorCode.NOT_FOUND


# What to group by


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("day", [Dimension.DAY]),
        ("key, day", [Dimension.KEY, Dimension.DAY]),
        ("day,day,key,day", [Dimension.DAY, Dimension.KEY]),
        ("", []),
        (" ", []),
    ],
)
def test_groups_are_named_in_order(text: str, expected: list[Dimension]) -> None:
    assert usage.parse_group_by(text, tuple(Dimension)) == tuple(expected)


@pytest.mark.parametrize("text", ["days", "day,", ",", "DAY", "day;key", "tenant"])
def test_a_group_that_is_none_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        usage.parse_group_by(text, (Dimension.DAY, Dimension.KEY))
    (field,) = caught.value.fields
    assert (field.field, field.code) == ("group_by", "unknown_value")
    assert field.detail == "takes day, key, separated by commas."


# Rows


async def test_rows_are_named_and_in_the_order_of_their_groups(
    reports: UsageReports, database: Database, tenant: Tenant, clock: SetClock
) -> None:
    """By the names people know; of two keys with one name by their ids; adjustments last."""
    for key_id, name in (("k3", "beta"), ("k1", "beta"), ("k2", "alpha")):
        key = await keep_key(database, tenant, id=key_id, name=name)
        for ago in (1, 0):
            await keep_task(database, key, created_at_ms=NOW_MS - ago * DAY_MS)
    await TestOffice(database, clock).books.adjust(ACT, tenant.id, 5, reason="why")
    report = await reports.report(
        Query(tenant.id, zone="UTC", group_by=(Dimension.TENANT, Dimension.KEY, Dimension.DAY))
    )
    assert [(row.tenant_name, row.key_name, row.key_id, row.day) for row in report.rows] == [
        ("radio", "alpha", "k2", "2027-01-14"),
        ("radio", "alpha", "k2", "2027-01-15"),
        ("radio", "beta", "k1", "2027-01-14"),
        ("radio", "beta", "k1", "2027-01-15"),
        ("radio", "beta", "k3", "2027-01-14"),
        ("radio", "beta", "k3", "2027-01-15"),
        ("radio", None, None, "2027-01-15"),
    ]
    assert report.rows[-1].usage.adjusted_micros == report.total.charged_micros == 5


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("Africa/Cairo", "2026-10-29T20:59:59.999+00:00", "2026-10-29"),
        # It would be midnight, and is eleven again.
        ("Africa/Cairo", "2026-10-29T21:00:00+00:00", "2026-10-29"),
        ("Africa/Cairo", "2026-10-29T22:00:00+00:00", "2026-10-30"),
        ("America/Havana", "2026-11-01T04:00:00+00:00", "2026-11-01"),
        ("America/Havana", "2026-11-01T05:00:00+00:00", "2026-11-01"),
        ("Pacific/Pago_Pago", "2026-11-01T10:59:59.999+00:00", "2026-10-31"),
        ("Pacific/Kiritimati", "2026-10-31T10:00:00+00:00", "2026-11-01"),
    ],
)
async def test_a_moment_is_in_the_day_that_clocks_show_there(
    reports: UsageReports, database: Database, key: ApiKey, zone: str, moment: str, day: str
) -> None:
    at_ms = round(datetime.fromisoformat(moment).timestamp() * 1000)
    await keep_task(database, key, created_at_ms=at_ms)
    report = await reports.report(Query(key.tenant_id, "2026-10-01", "2026-11-30", zone))
    assert [row.day for row in report.rows] == [day]
    (alone,) = (await reports.report(Query(key.tenant_id, day, day, zone))).rows
    assert alone.usage.requests == 1


async def test_what_was_not_grouped_by_is_not_told(
    reports: UsageReports, database: Database, key: ApiKey
) -> None:
    for model in KINDS:
        await keep_task(database, key, model=model)
    (row,) = (await reports.report(Query(key.tenant_id, group_by=()))).rows
    assert (row.tenant_id, row.key_id, row.model, row.day) == (None, None, None, None)
    assert row.usage.requests == len(KINDS)


async def test_without_usage_there_are_no_rows(reports: UsageReports, tenant: Tenant) -> None:
    for group_by in ((), (Dimension.DAY,)):
        report = await reports.report(Query(tenant.id, group_by=group_by))
        assert report.rows == ()
        assert report.total.requests == 0


async def test_others_are_not_in_a_tenants_report(
    reports: UsageReports, database: Database, key: ApiKey
) -> None:
    other = await keep_key(database, await keep_tenant(database, name="other"))
    for one in (key, other, other):
        await keep_task(database, one)
    assert (await reports.report(Query(key.tenant_id))).total.requests == 1
    everybody = await reports.report(Query(None, group_by=(Dimension.TENANT,)))
    assert [(row.tenant_name, row.usage.requests) for row in everybody.rows] == [("other", 2), ("radio", 1)]


async def test_a_report_of_too_many_rows_is_refused(
    reports: UsageReports, database: Database, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MOST_ROWS", 2)
    for ago in range(2):
        await keep_task(database, key, created_at_ms=NOW_MS - ago * DAY_MS)
    assert len((await reports.report(Query(key.tenant_id))).rows) == 2
    await keep_task(database, key, created_at_ms=NOW_MS - 3 * DAY_MS)
    field, code, detail = await refused(reports, Query(key.tenant_id))
    assert (field, code) == ("group_by", "out_of_range")
    assert "more than 2 rows" in detail


async def test_a_report_is_one_transaction(
    reports: UsageReports, database: Database, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written meanwhile, its figures are of one moment; and it keeps no poll waiting."""
    counted = []
    read = database.read_long

    async def counting(function):
        counted.append(function)
        return await read(function)

    monkeypatch.setattr(database, "read_long", counting)
    monkeypatch.delattr(Database, "read")
    await reports.report(Query(key.tenant_id, group_by=tuple(Dimension)))
    assert len(counted) == 1


# Indexes


@pytest.mark.parametrize("tenant_id", ["ten_1", None])
@pytest.mark.parametrize("group_by", [(), (Dimension.DAY,), tuple(Dimension)])
def test_no_table_is_gone_through(
    tmp_path: Path, tenant_id: str | None, group_by: tuple[Dimension, ...]
) -> None:
    """Of SQLite's plans; what is read grows with the days asked for, not with the years before them."""
    zone = "Europe/Berlin"
    from_ms, to_ms = start_of_day_ms(date(2026, 6, 1), zone), start_of_day_ms(TODAY, zone)
    selection = Selection(tenant_id, from_ms, to_ms, offsets(from_ms, to_ms, zone))
    assert len(selection.offsets) == 2
    migrate(tmp_path / "gateway.db")
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as raw:
        for statement in _statements(selection, group_by):
            text = str(
                statement.compile(
                    dialect=sa.dialects.sqlite.dialect(), compile_kwargs={"literal_binds": True}
                )
            )
            plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {text}")]
            assert [step for step in plan if step.startswith("SCAN")] == [], plan
            searched = [step for step in plan if "tasks" in step or "ledger_1" in step]
            assert any("tenant_id=? AND created_at_ms>?" in step or "task_id=? AND kind=?" in step
                       for step in searched), plan  # fmt: skip
