"""What must be true when all is over, read from the database and from what the emulator was asked.

For each prompt, over the rows of calls of all tasks with it, and the calls that the emulator got with it:

    succeeded           <= paid at the emulator  <= succeeded + unknown
    succeeded + refused <= asked of the emulator <= rows - unsent

A row that is unknown belongs to a worker that was killed between the row and the call's end, to an answer
that was cut, or to a call that was canceled: each may or may not have been asked, and paid. Every other row
says exactly what happened: ``refused`` are those that got an error for an answer, ``unsent`` those that
never left.
"""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from tests.chaos.callers import Notes, Tenant
from tests.chaos.scale import CLIP_MICROS, Scale
from tests.emulator import RunningEmulator

_OPEN = "SELECT id, state FROM tasks WHERE state IN ('queued', 'running')"
_CALLS = """
SELECT task_id, count(*) AS rows,
  count(*) FILTER (WHERE state = 'started') AS open,
  count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
  count(*) FILTER (WHERE state = 'unknown') AS unknown,
  count(*) FILTER (WHERE state = 'failed' AND upstream_status >= 400) AS refused,
  count(*) FILTER (WHERE state = 'failed' AND upstream_status IS NULL) AS unsent
FROM attempts GROUP BY task_id
"""
# Entries of a tenant are written under its lock, so their ids are in the order in which they held.
_HIGHEST = """
SELECT max(used) AS highest, max(spent) AS spent FROM (
  SELECT sum(held_micros + spent_micros) OVER (ORDER BY id) AS used,
         sum(spent_micros) OVER (ORDER BY id) AS spent
  FROM ledger WHERE tenant_id = $1) AS story
"""


class CallBook:
    """All that the emulator was asked, collected while it remembers: it keeps the last thousand."""

    def __init__(self, emulator: RunningEmulator) -> None:
        self._emulator = emulator
        self.calls: dict[int, dict[str, Any]] = {}

    async def run(self, every_s: float, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.look()
            try:
                async with asyncio.timeout(every_s):
                    await stop.wait()
            except TimeoutError:
                continue

    async def look(self) -> dict[str, Any]:
        report = await asyncio.to_thread(self._emulator.calls)
        self.calls |= {call["number"]: call for call in report["calls"]}
        return report


async def find_faults(
    database: asyncpg.Connection, notes: Notes, tenants: Sequence[Tenant], book: CallBook, scale: Scale
) -> list[str]:
    """Everything that is not as it must be, in words; nothing is the right answer."""
    return [
        *notes.complaints,
        *await _of_tasks(database, notes),
        *await _of_calls(database, notes, book, scale.prompt_of),
        *await _of_budgets(database, tenants),
    ]


async def _of_tasks(database: asyncpg.Connection, notes: Notes) -> list[str]:
    """Every accepted task has ended as its caller was told, and there is no other."""
    faults = [f"{row['id']} is {row['state']}" for row in await database.fetch(_OPEN)]
    states = {row["id"]: row["state"] for row in await database.fetch("SELECT id, state FROM tasks")}
    accepted = set(notes.accepted.values())
    faults += [f"{task_id} was accepted and is not there" for task_id in accepted - set(states)]
    faults += [f"{task_id} is there, and nobody was told" for task_id in set(states) - accepted]
    faults += [
        f"{task_id} was told to be {told} and is {states.get(task_id)}"
        for task_id, told in notes.ends.items()
        if states.get(task_id) != told
    ]
    if len(accepted) != len(notes.accepted):
        faults.append("one task came of two names")
    return faults


async def _of_calls(
    database: asyncpg.Connection, notes: Notes, book: CallBook, prompt_of: Callable[[str], str]
) -> list[str]:
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    hash_of = {task: _hash(prompt_of(name)) for name, task in notes.accepted.items()}
    for row in await database.fetch(_CALLS):
        rows[hash_of.get(row["task_id"], "nobody's")] += Counter(dict(row.items()) | {"task_id": 0})
    asked, paid = Counter[str](), Counter[str]()
    for call in book.calls.values():
        asked[call["prompt_sha256"]] += 1
        paid[call["prompt_sha256"]] += call["paid"]
    faults = []
    for prompt in {*rows, *asked}:
        row = rows[prompt]
        said = f"{asked[prompt]} calls, {paid[prompt]} paid, rows {dict(row)}"
        if row["open"]:
            faults.append(f"a call is still open: {said}")
        if not row["succeeded"] <= paid[prompt] <= row["succeeded"] + row["unknown"]:
            faults.append(f"paid calls: {said}")
        if not row["succeeded"] + row["refused"] <= asked[prompt] <= row["rows"] - row["unsent"]:
            faults.append(f"calls: {said}")
    return faults


def _hash(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


async def _of_budgets(database: asyncpg.Connection, tenants: Sequence[Tenant]) -> list[str]:
    """At no moment was more held and spent than there was, and a budget was used to its last clip."""
    faults = []
    for tenant in tenants:
        if tenant.clips_in_budget is None:
            continue
        used = await database.fetchrow(_HIGHEST, tenant.id)
        if (used["highest"] or 0) > tenant.clips_in_budget * CLIP_MICROS:
            faults.append(f"{tenant.id} used {used['highest']} of {tenant.clips_in_budget} clips")
    return faults
