"""A report as CSV and as JSON: one set of columns, and no text that a spreadsheet would run."""

import csv
import io
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts import export
from gateway.accounts.usage import Report, Row
from gateway.db.usage import MEASURES, Usage
from gateway.model import Dimension

NOV_1_MS, DEC_1_MS = 1_793_487_600_000, 1_796_079_600_000
USED = Usage(
    requests=15,
    succeeded=1,
    failed=2,
    canceled=3,
    expired=4,
    queued=2,
    running=3,
    test_requests=7,
    clips=4,
    audio_ms=131_200,
    attempts=9,
    unknown_attempts=1,
    held_micros=300_000,
    spent_micros=240_000,
    adjusted_micros=-50_001,
    provider_cost_micros=172_000,
)
FIGURES = {
    "requests": 15,
    "succeeded": 1,
    "failed": 2,
    "canceled": 3,
    "expired": 4,
    "queued": 2,
    "running": 3,
    "test_requests": 7,
    "clips": 4,
    "audio_seconds": 131.2,
    "attempts": 9,
    "unknown_attempts": 1,
    "held_micros": 300_000,
    "spent_micros": 240_000,
    "adjusted_micros": -50_001,
    "charged_micros": 189_999,
    "charged_usd": "0.189999",
}
COSTS = {"provider_cost_micros": 172_000, "provider_cost_usd": "0.172"}
ALL = (Dimension.TENANT, Dimension.KEY, Dimension.MODEL, Dimension.DAY)
ROW = Row(USED, "ten_1", "Team Radio", "k1", "podcast", "lyria-002", "2026-11-22")


def a_report(*rows: Row, group_by: tuple[Dimension, ...] = ALL) -> Report:
    return Report(
        tenant_id=None,
        zone="Europe/Berlin",
        first_day=date(2026, 11, 1),
        last_day=date(2026, 11, 30),
        from_ms=NOV_1_MS,
        to_ms=DEC_1_MS,
        group_by=group_by,
        rows=rows,
    )


def lines(report: Report, *, with_cost: bool = False) -> list[dict[str, str]]:
    """As any reader of CSV would have them."""
    return list(csv.DictReader(io.StringIO(export.csv_text(report, with_cost=with_cost), newline="")))


def test_a_document_says_what_was_asked_and_what_was_found() -> None:
    assert export.document(a_report(ROW, Row(USED)), with_cost=True) == {
        "tenant_id": None,
        "zone": "Europe/Berlin",
        "first_day": "2026-11-01",
        "last_day": "2026-11-30",
        "from": "2026-11-01T00:00:00+01:00",
        "to": "2026-12-01T00:00:00+01:00",
        "group_by": ["tenant", "key", "model", "day"],
        "rows": [
            {
                "tenant_id": "ten_1",
                "tenant_name": "Team Radio",
                "key_id": "k1",
                "key_name": "podcast",
                "model": "lyria-002",
                "day": "2026-11-22",
                **FIGURES,
                **COSTS,
            },
            dict.fromkeys(("tenant_id", "tenant_name", "key_id", "key_name", "model", "day"))
            | FIGURES
            | COSTS,
        ],
        "total": {
            name: (2 * value if not isinstance(value, str) else value)
            for name, value in (FIGURES | COSTS).items()
        }
        | {"charged_usd": "0.379998", "provider_cost_usd": "0.344"},
    }


def test_what_the_provider_takes_is_told_to_the_operator_only() -> None:
    document = export.document(a_report(ROW), with_cost=False)
    assert "provider" not in str(document)
    assert "provider" not in export.csv_text(a_report(ROW), with_cost=False)


def test_a_group_is_named_by_what_was_grouped_by_in_its_order() -> None:
    report = a_report(ROW, group_by=(Dimension.DAY, Dimension.KEY))
    (row,) = export.document(report, with_cost=False)["rows"]
    assert list(row)[:4] == ["day", "key_id", "key_name", "requests"]
    assert list(lines(report)[0])[:4] == ["day", "key_id", "key_name", "requests"]


def test_csv_is_the_rows_with_a_line_of_names() -> None:
    first, *rest = export.csv_text(a_report(ROW), with_cost=True).split("\r\n")
    assert first.split(",") == [
        *("tenant_id", "tenant_name", "key_id", "key_name", "model", "day"),
        *FIGURES,
        *COSTS,
    ]
    names = "ten_1,Team Radio,k1,podcast,lyria-002,2026-11-22"
    assert rest == [f"{names},{','.join(map(str, (FIGURES | COSTS).values()))}", ""]


def test_csv_and_json_have_the_same_figures() -> None:
    report = a_report(ROW, Row(USED))
    documented = export.document(report, with_cost=True)["rows"]
    assert lines(report, with_cost=True) == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in documented
    ]


def test_a_report_without_usage_is_its_names() -> None:
    assert lines(a_report()) == []
    assert export.csv_text(a_report(), with_cost=False).startswith("tenant_id,tenant_name,")
    assert export.document(a_report(), with_cost=False)["rows"] == []


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff20a"]
)
def test_a_name_that_is_a_formula_is_made_text(name: str) -> None:
    row = Row(USED, tenant_id="t", tenant_name=name, key_id="k", key_name=name)
    (told,) = lines(a_report(row, group_by=(Dimension.TENANT, Dimension.KEY)))
    assert (told["tenant_name"], told["key_name"]) == (f"'{name}", f"'{name}")
    (as_json,) = export.document(a_report(row), with_cost=False)["rows"]
    assert as_json["tenant_name"] == name


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_every_other_name_comes_through_as_it_is(name: str) -> None:
    (told,) = lines(a_report(Row(USED, key_id="k", key_name=name), group_by=(Dimension.KEY,)))
    assert told["key_name"].removeprefix("'") == name.removeprefix("'")
    assert told["key_name"][0] not in "=+-@"


@pytest.mark.parametrize("name", ['a "b", c', "a;b", "ünï", "a,b", "O'Brien", "1-2"])
def test_quotes_commas_and_letters_survive(name: str) -> None:
    (told,) = lines(a_report(Row(USED, key_id="k", key_name=name), group_by=(Dimension.KEY,)))
    assert told["key_name"] == name


def test_a_file_is_named_by_its_days() -> None:
    assert export.file_name(a_report()) == "usage-2026-11-01-to-2026-11-30.csv"


FIGURE = st.integers(0, 10**15)


@given(st.lists(st.builds(Usage, *[FIGURE] * len(MEASURES)), max_size=5))
def test_a_total_is_the_sum_of_its_rows(rows: list[Usage]) -> None:
    total: Any = a_report(*map(Row, rows)).total
    for name in (*MEASURES, "charged_micros"):
        assert getattr(total, name) == sum(getattr(row, name) for row in rows)
