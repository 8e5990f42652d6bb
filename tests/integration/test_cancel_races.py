"""Cancels, claims and ends of the same tasks at once, on several instances: each task ends once."""

import asyncio
import random
import secrets
from functools import partial

import pytest

from gateway.db import postgres, work
from gateway.db.engine import Database, Tx
from gateway.db.locks import lock_claims, lock_tenant
from gateway.db.reconciliation import find_differences
from gateway.db.work import AttemptEnd
from gateway.errors import Conflict
from gateway.model import ApiKey, Principal, Task, TaskState
from gateway.tasks import charging
from gateway.tasks.admission import Defaults, admit
from tests.canceling import a_canceler
from tests.clock import SetClock
from tests.databases import Store, open_store
from tests.factories import NOW_MS, a_clip, a_task, keep_key, keep_tenant

ON_BOTH_DATABASES = True
TASKS = 40
MOST_STEPS = 8


class Instance:
    """A gateway's worker and its API, as far as they end tasks."""

    def __init__(self, database: Database, rng: random.Random) -> None:
        self._database = database
        self._rng = rng
        self._canceler = a_canceler(database, SetClock())

    async def work(self, task: Task, steps: asyncio.Semaphore) -> bool:
        """Whether it was ended here: claimed, called for, given back now and then, and finished."""
        try:
            return await self._work(task, steps)
        finally:
            for _ in range(MOST_STEPS):
                steps.release()

    async def _work(self, task: Task, steps: asyncio.Semaphore) -> bool:
        for _ in range(self._rng.randrange(1, 4)):
            token = secrets.token_hex(8)
            if not await self._database.write(partial(claim, task, token)):
                return False
            steps.release()
            if self._rng.random() < 0.5:
                await self._database.write(partial(give_back, task, token))
                steps.release()
            else:
                return await self._database.write(partial(finish, task, token))
        return False

    async def cancel(self, task: Task, steps: asyncio.Semaphore, wanted: int) -> Task | None:
        """The task if it is canceled, None where it ended otherwise; after so many steps of its workers."""
        for _ in range(wanted):
            await steps.acquire()
        try:
            return await self._canceler.cancel(Principal(task.tenant_id, task.key_id), task.id)
        except Conflict:
            return None


def claim(task: Task, token: str, tx: Tx) -> bool:
    lock_claims(tx)
    lease = work.claim(tx, task.id, token=token, now_ms=NOW_MS, expires_at_ms=NOW_MS + 1, within_limit=True)
    return lease is not None


def give_back(task: Task, token: str, tx: Tx) -> None:
    work.requeue(tx, task.id, token=token, not_before_ms=NOW_MS, reason="drain", now_ms=NOW_MS)


def finish(task: Task, token: str, tx: Tx) -> bool:
    """As the pipeline does it."""
    lock_tenant(tx, task.tenant_id)
    if not work.holds(tx, task.id, token):
        return False
    attempt = secrets.token_hex(8)
    work.begin_attempt(
        tx, task.id, token=token, attempt_id=attempt, deployment="d", clips_asked=1, now_ms=NOW_MS
    )
    work.end_attempt(tx, task.id, AttemptEnd(attempt, "succeeded", (a_clip(task),)), now_ms=NOW_MS)
    work.finish(tx, task.id, token=token, state=TaskState.SUCCEEDED, error=None, now_ms=NOW_MS)
    charging.conclude(tx, task, TaskState.SUCCEEDED, delivered=1, now_ms=NOW_MS)
    return True


async def accept(database: Database, key: ApiKey) -> Task:
    task = a_task(key)
    await database.write(lambda tx: admit(tx, task, deadline_at_ms=NOW_MS, defaults=Defaults(10_000, 10_000)))
    return task


async def test_many_cancels_and_ends_at_once_end_each_task_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(postgres, "may_pass", lambda cause, _: told.append(cause))
    rng = random.Random(1)
    databases = [await open_store(store, pool_size=4) for _ in range(2)]
    instances = [Instance(database, rng) for database in databases]
    keys = [await keep_key(databases[0], await keep_tenant(databases[0])) for _ in range(2)]
    tasks = [await accept(databases[0], rng.choice(keys)) for _ in range(TASKS)]

    async def race(task: Task) -> None:
        steps, wanted = asyncio.Semaphore(0), rng.randrange(4)
        working = [each.work(task, steps) for each in instances]
        canceling = [each.cancel(task, steps, wanted) for each in instances for _ in range(2)]
        outcomes = await asyncio.gather(*working, *canceling)
        finished, canceled = outcomes[: len(working)], outcomes[len(working) :]
        # Either one worker ended it, and every cancel came too late; or all cancels say the same.
        assert sum(finished) == (canceled[0] is None)
        assert canceled == [canceled[0]] * len(canceled)

    await asyncio.gather(*map(race, tasks))
    ended = await store.fetch("SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state")
    assert [state for state, _ in ended] == ["canceled", "succeeded"]
    assert sum(count for _, count in ended) == TASKS
    endings = "SELECT count(*) FROM ledger WHERE kind IN ('settle', 'release')"
    assert await store.fetch(endings) == [(TASKS,)]
    assert await databases[1].read(find_differences) == ()
    # Nobody was in each other's way, so none had to be run again.
    assert told == []
    for each in databases:
        await each.close()
