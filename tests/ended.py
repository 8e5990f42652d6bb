"""Tasks that have ended, with their clips, calls, money and names as the gateway would have left them."""

import itertools
from dataclasses import replace
from typing import Any

from gateway.db import idempotency, tasks, work
from gateway.db.engine import Database, Tx
from gateway.db.idempotency import RequestName
from gateway.db.work import AttemptEnd
from gateway.model import ApiKey, MusicSpec, Periods, Task, TaskError, TaskState
from gateway.tasks import charging
from tests.factories import _insert_next, a_clip, a_task, keep_key

_numbers = itertools.count(1)
PERIODS = Periods("2027-01-15", "2027-01")
#: What callers and models said of every task here; nothing of it is left of one that is deleted.
SECRETS = (
    "a song for Ada",
    "no drums",
    "spring campaign",
    "hooks.example.com",
    "request-of-ada",
    "too much Ada",
)
SPEC = MusicSpec("a song for Ada", negative_prompt="no drums", seed=4_242_424)
ERROR = TaskError("model_refused", "too much Ada")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def end_task(
    tx: Tx,
    key: ApiKey,
    *,
    finished_at_ms: int,
    clips: int = 1,
    state: TaskState = TaskState.SUCCEEDED,
    error: TaskError | None = None,
    **changes: Any,
) -> Task:
    """A task with a life of its own up to its end, in one transaction."""
    values = {
        "spec": replace(SPEC, sample_count=max(1, clips)),
        "metadata": {"project": "spring campaign"},
        "webhook_url": "https://hooks.example.com/ada",
        "request_id": "request-of-ada",
        "traceparent": TRACE,
        "created_at_ms": finished_at_ms - 30_000,
    }
    task = a_task(key, **(values | changes))
    _insert_next(tx, task, finished_at_ms + 900_000)
    tasks.add_event(tx, task.id, "queued", at_ms=task.created_at_ms)
    charging.hold(tx, task, PERIODS)
    name = RequestName(f"name of {task.id}", f"all that {task.id} asked for")
    idempotency.keep_name(tx, task.tenant_id, name, task_id=task.id, now_ms=task.created_at_ms)
    lease = work.claim(
        tx, task.id, token=task.id, now_ms=task.created_at_ms, expires_at_ms=finished_at_ms + 60_000
    )
    assert lease is not None
    attempt_id = f"attempt{next(_numbers)}"
    work.begin_attempt(
        tx, task.id, token=task.id, attempt_id=attempt_id, deployment="lyria-002", clips_asked=clips,
        now_ms=task.created_at_ms, cost_micros=0,
    )  # fmt: skip
    made = tuple(a_clip(task, index, seed=4_242_424 + index) for index in range(clips))
    end = AttemptEnd(attempt_id, "succeeded" if made else "failed", made, provider_metadata='"too much Ada"')
    work.end_attempt(tx, task.id, end, now_ms=finished_at_ms)
    work.finish(tx, task.id, token=task.id, state=state, error=error, now_ms=finished_at_ms)
    charging.conclude(tx, task, state, delivered=clips, now_ms=finished_at_ms)
    return replace(task, state=state, error=error, finished_at_ms=finished_at_ms, clips=made)


async def keep_ended(database: Database, key: ApiKey | None = None, **terms: Any) -> Task:
    found = key or await keep_key(database)
    return await database.write(lambda tx: end_task(tx, found, **terms))


async def count(database: Database, what: str) -> int:
    """Rows: ``what`` is a table, and which of its rows."""
    return await database.read(lambda tx: tx.exec_driver_sql(f"SELECT count(*) FROM {what}").scalar_one())
