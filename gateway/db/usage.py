"""Usage, added up from the rows that the ledger and reconciliation stand on: requests, clips, calls, money.

A task counts when it was accepted, with everything that came of it; an adjustment when it was made. That is
the rule of budgets too (DECISIONS.md 9), so that both give the same sums for a day.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import api_keys, attempts, ledger, outputs, tasks, tenants
from gateway.model import Dimension, EntryKind, Offset, TaskState

_DAY_MS = 86_400_000
# A task that was canceled keeps the clips that were there by then.
_DELIVERING = (TaskState.SUCCEEDED.value, TaskState.CANCELED.value)
#: The values of a group, in the order in which they were asked for. None where an adjustment has none.
Group = tuple[str | int | None, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """From when (included) to when (not included), of which tenant (None: of all), in which local time."""

    tenant_id: str | None
    from_ms: int
    to_ms: int
    offsets: tuple[Offset, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used. Micro-dollars and milliseconds; sums of exact numbers, so order does not matter.

    ``requests`` were accepted, and are in one of the six states; each counts once, however often it was
    tried. What test keys asked for is in ``test_requests`` alone. ``clips`` and ``audio_ms`` are those of
    tasks that succeeded or were canceled. ``attempts`` are calls to models; of the ``unknown_attempts`` among
    them the outcome is not known, so ``provider_cost_micros`` counts what they may have cost. Calls that are
    still going on cost nothing yet. ``held_micros`` is held now. ``spent_micros`` was charged for tasks,
    ``adjusted_micros`` entered by hand.
    """

    requests: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    test_requests: int = 0
    clips: int = 0
    audio_ms: int = 0
    attempts: int = 0
    unknown_attempts: int = 0
    held_micros: int = 0
    spent_micros: int = 0
    adjusted_micros: int = 0
    provider_cost_micros: int = 0

    @property
    def charged_micros(self) -> int:
        """What the ledger has as spent."""
        return self.spent_micros + self.adjusted_micros

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, name) + getattr(other, name) for name in MEASURES))


MEASURES = tuple(field.name for field in fields(Usage))


def read_usage(
    tx: Tx, selection: Selection, group_by: Sequence[Dimension], *, at_most: int
) -> dict[Group, Usage]:
    """Usage by group; a group without any is absent. A day is the number of days since 1970.

    Reading stops soon after ``at_most`` groups: with more than that, what is returned is not complete.
    """
    found: dict[Group, dict[str, int]] = {}
    width = len(group_by)
    for statement in _statements(selection, group_by):
        for row in tx.execute(statement.limit(at_most + 1)):
            measures = found.setdefault(tuple(row[:width]), {})
            # Without groups there is a row even where there is nothing to add up.
            values = row._asdict()
            measures.update((name, int(values[name] or 0)) for name in MEASURES if name in values)
    return {group: Usage(**measures) for group, measures in found.items() if any(measures.values())}


def read_names(tx: Tx, dimension: Dimension, tenant_id: str | None) -> Mapping[str, str]:
    """Names by id of tenants or keys: those of one tenant, or all."""
    table, owner = (
        (tenants, tenants.c.id) if dimension is Dimension.TENANT else (api_keys, api_keys.c.tenant_id)
    )
    statement = sa.select(table.c.id, table.c.name)
    if tenant_id is not None:
        statement = statement.where(owner == tenant_id)
    return {row.id: row.name for row in tx.execute(statement)}


def _statements(selection: Selection, group_by: Sequence[Dimension]) -> Iterator[sa.Select[Any]]:
    chosen = _chosen_tasks(selection)
    for measures, joined, condition in _of_tasks(chosen):
        counted = sa.select(*_groups(chosen, group_by), *measures).select_from(joined).where(condition)
        yield counted.group_by(*_sorting(chosen, group_by))
    entries = _chosen_adjustments(selection)
    adjusted = sa.func.sum(entries.c.spent_micros).label("adjusted_micros")
    yield sa.select(*_groups(entries, group_by), adjusted).group_by(*_sorting(entries, group_by))


def _groups(source: sa.FromClause, group_by: Sequence[Dimension]) -> list[sa.ColumnElement[Any]]:
    return [source.c[_COLUMNS[dimension]] for dimension in group_by]


def _sorting(source: sa.FromClause, group_by: Sequence[Dimension]) -> list[sa.ColumnElement[Any]]:
    """The same columns, those first that tell rows apart most quickly: SQLite groups by sorting."""
    return [source.c[column] for dimension, column in _COLUMNS.items() if dimension in group_by]


# In the order of `_sorting`: days are numbers, and the names of keys differ sooner than those of models.
_COLUMNS = {
    Dimension.DAY: "day_number",
    Dimension.KEY: "key_id",
    Dimension.MODEL: "model",
    Dimension.TENANT: "tenant_id",
}


def _of_tasks(
    chosen: sa.FromClause,
) -> Iterator[tuple[list[sa.ColumnElement[int]], sa.FromClause, sa.ColumnElement[bool]]]:
    """Measures, what they are taken from, and what of it counts: one statement for each kind of row.

    All in one, a task's clips would be multiplied by its calls.
    """
    real = sa.not_(chosen.c.test)
    yield (
        [
            _count(real, "requests"),
            *(_count(sa.and_(real, chosen.c.state == state.value), state.value) for state in TaskState),
            _count(chosen.c.test, "test_requests"),
        ],
        chosen,
        sa.true(),
    )
    length_ms = sa.cast(sa.func.round(outputs.c.duration_s * 1000), sa.BigInteger)
    yield (
        [_count(sa.true(), "clips"), sa.func.sum(length_ms).label("audio_ms")],
        sa.join(chosen, outputs, outputs.c.task_id == chosen.c.id),
        sa.and_(real, chosen.c.state.in_(_DELIVERING)),
    )
    ended = attempts.c.state != "started"
    yield (
        [
            _count(sa.true(), "attempts"),
            _count(attempts.c.state == "unknown", "unknown_attempts"),
            sa.func.sum(sa.case((ended, attempts.c.cost_micros), else_=0)).label("provider_cost_micros"),
        ],
        sa.join(chosen, attempts, attempts.c.task_id == chosen.c.id),
        real,
    )
    # Money of all tasks, tests included: theirs is nothing, and if it were not, the ledger would have it.
    yield (
        [
            sa.func.sum(ledger.c.held_micros).label("held_micros"),
            sa.func.sum(ledger.c.spent_micros).label("spent_micros"),
        ],
        sa.join(chosen, ledger, ledger.c.task_id == chosen.c.id),
        sa.true(),
    )


def _chosen_tasks(selection: Selection) -> sa.Subquery:
    return (
        sa.select(
            tasks.c.id,
            tasks.c.tenant_id,
            tasks.c.key_id,
            tasks.c.model,
            tasks.c.state,
            tasks.c.test,
            _day_number(tasks.c.created_at_ms, selection.offsets).label("day_number"),
        )
        .where(*_within(tasks.c.tenant_id, tasks.c.created_at_ms, selection))
        .subquery("chosen")
    )


def _chosen_adjustments(selection: Selection) -> sa.Subquery:
    return (
        sa.select(
            ledger.c.tenant_id,
            sa.null().label("key_id"),
            sa.null().label("model"),
            ledger.c.spent_micros,
            _day_number(ledger.c.at_ms, selection.offsets).label("day_number"),
        )
        .where(
            ledger.c.kind == EntryKind.ADJUST.value,
            # True of every adjustment: so the index on both finds them among all the entries of tasks.
            ledger.c.task_id.is_(None),
            *_within(ledger.c.tenant_id, ledger.c.at_ms, selection),
        )
        .subquery("adjustments")
    )


def _within(
    tenant_id: sa.Column[str], at_ms: sa.Column[int], selection: Selection
) -> Iterator[sa.ColumnElement[bool]]:
    # Every tenant by name: the indexes on moments begin with the tenant.
    yield (
        tenant_id.in_(sa.select(tenants.c.id))
        if selection.tenant_id is None
        else tenant_id == selection.tenant_id
    )
    yield at_ms >= selection.from_ms
    yield at_ms < selection.to_ms


def _day_number(at_ms: sa.Column[int], offsets: Sequence[Offset]) -> sa.ColumnElement[int]:
    """Which local day a moment is in: without a calendar, so that every database can tell."""
    *earlier, last = [(offset.until_ms, (at_ms + offset.offset_ms) // _DAY_MS) for offset in offsets]
    if not earlier:
        return last[1]
    return sa.case(*((at_ms < until_ms, number) for until_ms, number in earlier), else_=last[1])


def _count(condition: sa.ColumnElement[bool], name: str) -> sa.Label[int]:
    return sa.func.count().filter(condition).label(name)
