"""A report of usage as JSON and as CSV: the same columns, whoever asks and whichever way.

CSV is that of RFC 4180, in UTF-8, its lines of which the first names the columns.
"""

import csv
import io
import unicodedata
from collections.abc import Iterator
from typing import Any

from gateway.accounts.calendar import rfc3339
from gateway.accounts.usage import Report, Row
from gateway.db.usage import Usage
from gateway.model import Dimension
from gateway.units import format_usd

#: The columns that name a group.
GROUP_COLUMNS = {
    Dimension.TENANT: ("tenant_id", "tenant_name"),
    Dimension.KEY: ("key_id", "key_name"),
    Dimension.MODEL: ("model",),
    Dimension.DAY: ("day",),
}
# Text that people chose.
_NAMES = frozenset({"tenant_name", "key_name"})
# A spreadsheet takes what begins so for a formula, also in full width.
_FORMULA = frozenset("=+-@\t\r\n")


def document(report: Report, *, with_cost: bool) -> dict[str, Any]:
    """The report for JSON. ``with_cost`` adds what the provider takes, which is the operator's to know."""
    return {
        "tenant_id": report.tenant_id,
        "zone": report.zone,
        "first_day": report.first_day.isoformat(),
        "last_day": report.last_day.isoformat(),
        "from": rfc3339(report.from_ms, report.zone),
        "to": rfc3339(report.to_ms, report.zone),
        "group_by": [dimension.value for dimension in report.group_by],
        "rows": [{**_group(row, report), **measures(row.usage, with_cost=with_cost)} for row in report.rows],
        "total": measures(report.total, with_cost=with_cost),
    }


def csv_text(report: Report, *, with_cost: bool) -> str:
    """The report's rows, without their total: a column summed up must give it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    columns = [column for dimension in report.group_by for column in GROUP_COLUMNS[dimension]]
    writer.writerow([*columns, *measures(Usage(), with_cost=with_cost)])
    for row in report.rows:
        writer.writerow(_cells(row, report, with_cost=with_cost))
    return text.getvalue()


def file_name(report: Report) -> str:
    return f"usage-{report.first_day}-to-{report.last_day}.csv"


def measures(usage: Usage, *, with_cost: bool) -> dict[str, int | float | str]:
    """Every figure by its documented name, in the documented order."""
    found: dict[str, int | float | str] = {
        "requests": usage.requests,
        "succeeded": usage.succeeded,
        "failed": usage.failed,
        "canceled": usage.canceled,
        "expired": usage.expired,
        "queued": usage.queued,
        "running": usage.running,
        "test_requests": usage.test_requests,
        "clips": usage.clips,
        "audio_seconds": usage.audio_ms / 1000,
        "attempts": usage.attempts,
        "unknown_attempts": usage.unknown_attempts,
        "held_micros": usage.held_micros,
        "spent_micros": usage.spent_micros,
        "adjusted_micros": usage.adjusted_micros,
        "charged_micros": usage.charged_micros,
        "charged_usd": format_usd(usage.charged_micros),
    }
    if with_cost:
        found["provider_cost_micros"] = usage.provider_cost_micros
        found["provider_cost_usd"] = format_usd(usage.provider_cost_micros)
    return found


def _group(row: Row, report: Report) -> dict[str, str | None]:
    return {
        column: getattr(row, column) for dimension in report.group_by for column in GROUP_COLUMNS[dimension]
    }


def _cells(row: Row, report: Report, *, with_cost: bool) -> Iterator[object]:
    for column, value in _group(row, report).items():
        yield _inert(value) if column in _NAMES and value is not None else value
    yield from measures(row.usage, with_cost=with_cost).values()


def _inert(name: str) -> str:
    """The name so that no spreadsheet runs it: behind an apostrophe, which spreadsheets do not show."""
    return f"'{name}" if unicodedata.normalize("NFKC", name[:1]) in _FORMULA else name
