"""Reconciliation is silent while the books are right, and names whatever is made wrong behind its back."""

import pytest

from gateway.accounts.calendar import periods_at
from gateway.db import cancels, ledger, work
from gateway.db.engine import Database, Tx
from gateway.db.reconciliation import Difference, find_differences
from gateway.db.work import AttemptEnd
from gateway.model import ApiKey, Entry, EntryKind, MusicSpec, Task, TaskError, TaskState
from gateway.tasks import charging
from gateway.tasks.admission import Defaults, admit
from tests.databases import Store
from tests.factories import NOW_MS, a_clip, a_task, keep_key

TODAY = periods_at(NOW_MS, "UTC")


async def accept(database: Database, key: ApiKey, name: str, clips: int = 2) -> Task:
    task = a_task(key, id=name, spec=MusicSpec("x", sample_count=clips), price_micros=clips * 60_000)
    admitted = await database.write(
        lambda tx: admit(tx, task, deadline_at_ms=NOW_MS + 1, defaults=Defaults(1000, 1000))
    )
    return admitted.task


async def end(database: Database, task: Task, state: TaskState, *, delivered: int = 0) -> None:
    """As a worker would, in a transaction."""

    def write(tx: Tx) -> None:
        assert work.claim(tx, task.id, token="t", now_ms=NOW_MS, expires_at_ms=NOW_MS + 1) is not None
        attempt = f"attempt of {task.id}"
        work.begin_attempt(
            tx, task.id, token="t", attempt_id=attempt, deployment="d", clips_asked=2, now_ms=NOW_MS
        )
        clips = tuple(a_clip(task, index) for index in range(delivered))
        work.end_attempt(tx, task.id, AttemptEnd(attempt, "succeeded", clips), now_ms=NOW_MS)
        work.finish(tx, task.id, token="t", state=state, error=None, now_ms=NOW_MS)
        charging.conclude(tx, task, state, delivered=delivered, now_ms=NOW_MS)

    await database.write(write)


async def cancel(database: Database, task: Task, charged_micros: int) -> None:
    """As whoever cancels it while its second call is under way."""

    def write(tx: Tx) -> None:
        assert work.claim(tx, task.id, token="t", now_ms=NOW_MS, expires_at_ms=NOW_MS + 1) is not None
        work.begin_attempt(
            tx, task.id, token="t", attempt_id="a1", deployment="d", clips_asked=1, now_ms=NOW_MS
        )
        work.end_attempt(tx, task.id, AttemptEnd("a1", "succeeded", (a_clip(task),)), now_ms=NOW_MS)
        cancels.cancel(tx, task.id, error=TaskError("canceled", "x"), now_ms=NOW_MS)
        charging.conclude_canceled(tx, task, charged_micros, now_ms=NOW_MS)

    await database.write(write)


@pytest.fixture
async def key(database: Database) -> ApiKey:
    """Its tenant has a task in each state, and an adjustment."""
    key = await keep_key(database)
    await accept(database, key, "queued")
    await end(database, await accept(database, key, "whole"), TaskState.SUCCEEDED, delivered=2)
    await end(database, await accept(database, key, "part"), TaskState.SUCCEEDED, delivered=1)
    await end(database, await accept(database, key, "failed"), TaskState.FAILED)
    adjustment = Entry(
        key.tenant_id, None, None, EntryKind.ADJUST, 0, -5_000, TODAY, NOW_MS, "test", "goodwill"
    )
    await database.write(lambda tx: ledger.add_entry(tx, adjustment))
    return key


async def found(database: Database) -> set[tuple[str, str, int, int]]:
    differences: tuple[Difference, ...] = await database.read(find_differences)
    assert all(isinstance(n, int) for d in differences for n in (d.kept, d.counted))
    return {(d.what, d.which, d.kept, d.counted) for d in differences}


async def test_right_books_are_clean(database: Database, key: ApiKey) -> None:
    assert await found(database) == set()
    balances = await database.read(lambda tx: ledger.get_balances(tx, key.tenant_id, TODAY))
    assert {(b.held_micros, b.spent_micros) for b in balances.values()} == {(120_000, 175_000)}


async def test_empty_books_are_clean(database: Database) -> None:
    assert await found(database) == set()


@pytest.mark.parametrize("period", ["2027-01-15", "2027-01", "total"])
async def test_a_balance_that_was_changed_is_found(
    database: Database, key: ApiKey, store: Store, period: str
) -> None:
    await store.corrupt(
        f"UPDATE balances SET held_micros = 1, spent_micros = spent_micros + 7 WHERE period = '{period}'",
    )
    assert await found(database) == {
        ("held balance", f"{key.tenant_id} {period}", 1, 120_000),
        ("spent balance", f"{key.tenant_id} {period}", 175_007, 175_000),
    }


async def test_a_balance_that_is_gone_is_found(database: Database, key: ApiKey, store: Store) -> None:
    await store.corrupt("DELETE FROM balances WHERE period = 'total'")
    assert await found(database) == {
        ("held balance", f"{key.tenant_id} total", 0, 120_000),
        ("spent balance", f"{key.tenant_id} total", 0, 175_000),
    }


async def test_a_balance_out_of_nothing_is_found(database: Database, key: ApiKey, store: Store) -> None:
    await store.corrupt(f"INSERT INTO balances VALUES ('{key.tenant_id}', '2026-02', 3, 0)")
    assert await found(database) == {("held balance", f"{key.tenant_id} 2026-02", 3, 0)}


def moved(column: str, change: int) -> str:
    """Balances that agree with the entries that were made wrong: the tasks alone tell."""
    return f"UPDATE balances SET {column} = {column} + {change};"


@pytest.mark.parametrize(
    ("script", "differences"),
    [
        pytest.param(
            "DELETE FROM ledger WHERE task_id = 'queued';" + moved("held_micros", -120_000),
            {
                ("holds of a task", "queued", 0, 1),
                ("hold", "queued", 0, 120_000),
                ("held for a task", "queued", 0, 120_000),
            },
            id="an open task without a hold",
        ),
        pytest.param(
            "DELETE FROM ledger WHERE task_id = 'part' AND kind = 'settle';"
            + moved("held_micros", 120_000)
            + moved("spent_micros", -60_000),
            {
                ("endings of a task", "part", 0, 1),
                ("held for a task", "part", 120_000, 0),
                ("charged for a task", "part", 0, 60_000),
                ("charge kept with a task", "part", 60_000, 0),
            },
            id="a task that ended and was not settled",
        ),
        pytest.param(
            "DELETE FROM ledger WHERE task_id = 'failed' AND kind = 'release';"
            + moved("held_micros", 120_000),
            {("endings of a task", "failed", 0, 1), ("held for a task", "failed", 120_000, 0)},
            id="a task that failed and was not released",
        ),
        pytest.param(
            "UPDATE tasks SET state = 'queued' WHERE id = 'failed';",
            {("endings of a task", "failed", 1, 0), ("held for a task", "failed", 0, 120_000)},
            id="an open task that was released",
        ),
        pytest.param(
            "UPDATE ledger SET spent_micros = 120000 WHERE task_id = 'part' AND kind = 'settle';"
            + moved("spent_micros", 60_000),
            {
                ("charged for a task", "part", 120_000, 60_000),
                ("charge kept with a task", "part", 60_000, 120_000),
            },
            id="a clip charged that was not delivered",
        ),
        pytest.param(
            "DELETE FROM outputs WHERE task_id = 'whole' AND clip_index = 1;",
            {("charged for a task", "whole", 120_000, 60_000)},
            id="a clip that is gone",
        ),
        pytest.param(
            "UPDATE tasks SET state = 'succeeded' WHERE id = 'failed';"
            "UPDATE outputs SET task_id = 'failed' WHERE task_id = 'part';",
            {("charged for a task", "failed", 0, 60_000), ("charged for a task", "part", 60_000, 0)},
            id="clips delivered and not charged",
        ),
        pytest.param(
            "UPDATE tasks SET state = 'failed' WHERE id = 'part';",
            {("charged for a task", "part", 60_000, 0)},
            id="a charge for a failure",
        ),
        pytest.param(
            "UPDATE ledger SET spent_micros = 1 WHERE task_id = 'failed' AND kind = 'release';"
            + moved("spent_micros", 1),
            {("charged for a task", "failed", 1, 0), ("charge kept with a task", "failed", 0, 1)},
            id="a release that charges",
        ),
        pytest.param(
            "UPDATE tasks SET charged_micros = 60000 WHERE id = 'whole';",
            {("charge kept with a task", "whole", 60_000, 120_000)},
            id="a charge that the task does not know",
        ),
        pytest.param(
            "UPDATE ledger SET held_micros = -60000 WHERE task_id = 'part' AND kind = 'settle';"
            + moved("held_micros", 60_000),
            {("held for a task", "part", 60_000, 0)},
            id="a hold that was let go in part",
        ),
        pytest.param(
            "UPDATE tasks SET price_micros = 100000 WHERE id = 'queued';",
            {("hold", "queued", 120_000, 100_000), ("held for a task", "queued", 120_000, 100_000)},
            id="a price that changed after it was held",
        ),
        pytest.param(
            "UPDATE ledger SET held_micros = held_micros / 2 WHERE task_id = 'failed';",
            {("hold", "failed", 60_000, 120_000)},
            id="a hold of less than the price, let go whole",
        ),
    ],
)
async def test_a_task_that_the_books_do_not_fit_is_found(
    database: Database,
    key: ApiKey,
    store: Store,
    script: str,
    differences: set[tuple[str, str, int, int]],
) -> None:
    await store.corrupt(script)
    assert await found(database) == differences


async def test_a_second_settlement_is_found(database: Database, key: ApiKey, store: Store) -> None:
    """Where an index is gone, so is what it forbids."""
    copied = (
        "CREATE TABLE copy AS SELECT * FROM ledger; DROP TABLE ledger; ALTER TABLE copy RENAME TO ledger;"
        "INSERT INTO ledger SELECT 99, tenant_id, key_id, task_id, kind, 0, spent_micros, day, month, at_ms,"
        " actor, reason FROM ledger WHERE task_id = 'whole' AND kind = 'settle';"
    )
    await store.corrupt(copied + moved("spent_micros", 120_000))
    assert await found(database) == {
        ("endings of a task", "whole", 2, 1),
        ("charged for a task", "whole", 240_000, 120_000),
        ("charge kept with a task", "whole", 120_000, 240_000),
    }


@pytest.mark.parametrize("charged_micros", [0, 60_000, 120_000])
async def test_a_canceled_task_costs_nothing_or_its_clips_or_its_price(
    database: Database, charged_micros: int
) -> None:
    await cancel(database, await accept(database, await keep_key(database), "canceled"), charged_micros)
    assert await found(database) == set()


async def test_a_canceled_task_that_cost_something_else_is_found(database: Database) -> None:
    await cancel(database, await accept(database, await keep_key(database), "canceled"), 59_999)
    assert await found(database) == {("charged for a task", "canceled", 59_999, 60_000)}


async def test_what_an_older_version_ended_has_no_charge_to_compare(
    database: Database, key: ApiKey, store: Store
) -> None:
    await store.execute("UPDATE tasks SET charged_micros = NULL")
    assert await found(database) == set()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("task_id = 'task_x'", "entry without its task"),
        ("key_id = 'nobody'", "entry of another tenant or key"),
        ("key_id = NULL", "entry of another tenant or key"),
        ("tenant_id = 'ten_x'", "entry of another tenant or key"),
        ("day = '2027-01-16'", "entry in other periods than its hold"),
        ("month = '2027-02'", "entry in other periods than its hold"),
    ],
)
async def test_an_entry_in_the_wrong_place_is_found(
    database: Database, key: ApiKey, store: Store, change: str, what: str
) -> None:
    await store.corrupt(f"UPDATE ledger SET {change} WHERE task_id = 'whole' AND kind = 'settle'")
    assert [difference[1] for difference in await found(database) if difference[0] == what] == ["entry 3"]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("cost_micros = -1", -1),
        *(
            (f"fault = '{fault}', clips_delivered = 0, cost_micros = 7", 7)
            for fault in ("refused", "recitation", "busy", "not_sent", "misconfigured")
        ),
    ],
)
async def test_a_cost_that_cannot_be_is_found(
    database: Database, key: ApiKey, store: Store, change: str, kept: int
) -> None:
    await store.corrupt(f"UPDATE attempts SET {change} WHERE task_id = 'failed'")
    assert await found(database) == {("cost of a call", "attempt attempt of failed", kept, 0)}


@pytest.mark.parametrize("change", ["fault = 'unknown'", "fault = 'broken'", "fault = 'recitation'"])
async def test_what_was_made_may_cost(database: Database, key: ApiKey, store: Store, change: str) -> None:
    await store.corrupt(f"UPDATE attempts SET {change}, cost_micros = 7 WHERE task_id = 'part'")
    assert await found(database) == set()


async def test_prices_beyond_what_floats_hold_are_exact(database: Database) -> None:
    key = await keep_key(database)
    task = a_task(key, id="dear", spec=MusicSpec("x", sample_count=3), price_micros=3 * (2**53 + 1))
    await database.write(lambda tx: admit(tx, task, deadline_at_ms=NOW_MS + 1, defaults=Defaults(1000, 1000)))
    await end(database, task, TaskState.SUCCEEDED, delivered=1)
    assert await found(database) == set()
    balances = await database.read(lambda tx: ledger.get_balances(tx, key.tenant_id, TODAY))
    assert balances["total"].spent_micros == 2**53 + 1
