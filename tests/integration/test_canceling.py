"""POST /api/tasks/{task_id}/cancel: what ends, what it costs, who hears of it, what is left of the work."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.bootstrap.services import Services, open_services
from gateway.db import work
from gateway.errors import NotFound
from gateway.model import KeyMode, Principal, TaskState
from gateway.settings import Settings
from gateway.tasks.budget import CancelCharge
from gateway.tasks.runner import RunnerPolicy
from tests.api import Administrator, Caller
from tests.databases import Store
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.factories import ACT

ON_BOTH_DATABASES = True
CLIP = 60_000


@pytest.fixture(autouse=True)
async def _books(services: Services) -> AsyncIterator[None]:
    """Whatever is canceled, the books are right in the end."""
    yield
    await services.drain()
    assert await services.books.reconcile() == ()


async def cancel(caller: Caller, task_id: str, status: int = 200) -> dict[str, Any]:
    response = await caller.post(f"/api/tasks/{task_id}/cancel")
    assert response.status_code == status, response.text
    return dict(response.json())


async def running(caller: Caller, emulator: RunningEmulator, *faults: dict[str, Any], **fields: Any) -> str:
    """A task whose call after these hangs."""
    emulator.script(*faults, {"hang": True})
    task = await caller.ask_lyria(**fields)
    await eventually(lambda: emulator.calls()["received"] > len(faults))
    return str(task["task_id"])


async def rows(caller: Caller, query: str) -> list[tuple[Any, ...]]:
    return await caller.services.database.read(lambda tx: [tuple(row) for row in tx.exec_driver_sql(query)])


async def used(caller: Caller) -> tuple[int, int]:
    """Held and spent in all."""
    budgets = await caller.services.tenants.list_budgets(caller.tenant_id)
    return budgets[-1].used.held_micros, budgets[-1].used.spent_micros


def principal(caller: Caller) -> Principal:
    return Principal(caller.tenant_id, caller.key_id)


# What waits


async def test_what_waits_is_canceled_and_free(caller: Caller) -> None:
    task = await caller.ask_lyria(sampleCount=2)
    assert await used(caller) == (2 * CLIP, 0)
    canceled = await cancel(caller, task["task_id"])
    assert (canceled["status"], canceled["error"]["code"]) == ("canceled", "canceled")
    assert (canceled["price"]["charged_micros"], canceled["started_at"]) == (0, None)
    assert canceled["finished_at"] is not None
    assert (await caller.status(task["task_id"])).json() == canceled
    assert await used(caller) == (0, 0)
    assert await rows(caller, "SELECT kind FROM ledger ORDER BY id") == [("hold",), ("release",)]
    assert (await caller.services.archive.tell(task["task_id"])).events[-1].kind == "canceled"


async def test_it_is_not_run_any_more(caller: Caller, emulator: RunningEmulator) -> None:
    unwanted, wanted = await caller.ask_lyria(), await caller.ask_lyria()
    await cancel(caller, unwanted["task_id"])
    caller.services.runner.start()
    assert (await caller.ended(wanted["task_id"]))["status"] == "succeeded"
    assert emulator.calls()["received"] == 1


# What runs


@pytest.mark.usefixtures("worker")
async def test_what_runs_is_broken_off_and_its_connection_closed(
    caller: Caller, emulator: RunningEmulator
) -> None:
    task_id = await running(caller, emulator)
    canceled = await cancel(caller, task_id)
    assert (canceled["status"], canceled["price"]["charged_micros"]) == ("canceled", CLIP)
    await eventually(lambda: emulator.calls()["abandoned"] == 1)
    await eventually(lambda: not caller.services.runner._active)
    assert await used(caller) == (0, CLIP)
    assert await rows(caller, "SELECT state, fault, cost_micros FROM attempts") == [
        ("unknown", "unknown", CLIP)
    ]
    assert await rows(caller, "SELECT state, lease_token, charged_micros FROM tasks") == [
        ("canceled", None, CLIP)
    ]
    kinds = [event.kind for event in (await caller.services.archive.tell(task_id)).events]
    assert kinds == ["queued", "running", "canceled"]


@pytest.mark.usefixtures("worker")
async def test_its_place_is_free_for_the_next(caller: Caller, emulator: RunningEmulator) -> None:
    caller.services.runner._policy = RunnerPolicy(concurrency=1, lease_s=60.0, grace_s=8.0)
    task_id = await running(caller, emulator)
    waiting = await caller.ask_lyria()
    await cancel(caller, task_id)
    assert (await caller.ended(waiting["task_id"]))["status"] == "succeeded"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("charge", "charged"),
    [(CancelCharge.FULL, 3 * CLIP), (CancelCharge.DELIVERED, CLIP), (CancelCharge.FREE, 0)],
)
async def test_clips_that_were_stored_are_kept_whatever_is_charged(
    caller: Caller, emulator: RunningEmulator, charge: CancelCharge, charged: int
) -> None:
    caller.services.canceler._charge = charge
    task_id = await running(caller, emulator, {}, sampleCount=3, seed=7)
    canceled = await cancel(caller, task_id)
    assert (canceled["price"]["charged_micros"], await used(caller)) == (charged, (0, charged))
    assert [output["seed"] for output in canceled["outputs"]] == [7]
    assert canceled["audio_urls"] == []
    assert "1 of 3 clips" in " ".join(canceled["warnings"])
    kind = "settle" if charged else "release"
    assert await rows(caller, "SELECT kind FROM ledger ORDER BY id") == [("hold",), (kind,)]
    report = (await caller.client.get("/api/usage", headers={"X-Api-Key": caller.key})).json()["total"]
    assert (report["canceled"], report["clips"], report["charged_micros"]) == (1, 1, charged)
    await eventually(lambda: emulator.calls()["abandoned"] == 1)


@pytest.mark.usefixtures("worker")
async def test_what_was_being_stored_is_deleted(
    caller: Caller, settings: Settings, emulator: RunningEmulator
) -> None:
    """A clip that was whole when its task was taken away is no clip of anybody's."""
    emulator.script({"chunk_bytes": 40_000, "chunk_delay_s": 0.05})
    task = await caller.ask_lyria(sampleCount=4)
    audio = settings.data_dir / "audio"
    await eventually(lambda: len(list(audio.rglob("content"))) >= 2)
    canceled = await cancel(caller, task["task_id"])
    await eventually(lambda: not caller.services.runner._active)
    assert canceled["outputs"] == []
    assert list(audio.rglob("content")) == []
    assert list((audio / ".incoming").iterdir()) == []


async def test_what_is_tried_again_costs_the_clips_it_has(
    caller: Caller, emulator: RunningEmulator, store: Store
) -> None:
    """Nothing is under way any more that the provider might bill."""
    emulator.script({}, {"status": 500, "retry_after": 100})
    task = await caller.ask_lyria(sampleCount=3, seed=7)
    caller.services.runner.start()
    requeued = "SELECT count(*) FROM tasks WHERE state = 'queued' AND attempt_count = 2"
    await eventually(lambda: store.fetch_now(requeued) == [(1,)])
    canceled = await cancel(caller, task["task_id"])
    assert (canceled["price"]["charged_micros"], len(canceled["outputs"])) == (CLIP, 1)


async def test_what_runs_without_a_call_is_free(caller: Caller) -> None:
    """A worker has it, and has asked no model yet."""
    task = await caller.ask_lyria()
    claim = {"token": "t", "now_ms": 1, "expires_at_ms": 2**42}
    assert await caller.services.database.write(lambda tx: work.claim(tx, task["task_id"], **claim))
    assert (await cancel(caller, task["task_id"]))["price"]["charged_micros"] == 0
    assert await rows(caller, "SELECT kind FROM ledger ORDER BY id") == [("hold",), ("release",)]


async def test_what_only_met_a_busy_model_is_free(caller: Caller, emulator: RunningEmulator) -> None:
    emulator.script({"preset": "quota", "retry_after": 100})
    task = await caller.ask_lyria()
    caller.services.runner.start()
    await eventually(lambda: emulator.calls()["received"] == 1)
    await eventually(lambda: not caller.services.runner._active)
    await caller.services.runner.drain()
    claim = {"token": "t", "now_ms": 1, "expires_at_ms": 2**42}
    assert await caller.services.database.write(lambda tx: work.claim(tx, task["task_id"], **claim))
    assert (await cancel(caller, task["task_id"]))["price"]["charged_micros"] == 0


@pytest.mark.usefixtures("worker")
async def test_a_test_keys_task_costs_nothing(caller: Caller, emulator: RunningEmulator) -> None:
    _, text = await caller.services.keyring.create(ACT, caller.tenant_id, name="test", mode=KeyMode.TEST)
    tester = Caller(caller.client, caller.services, caller.tenant_id, text)
    canceled = await cancel(tester, await running(tester, emulator))
    assert (canceled["test"], canceled["price"]["charged_micros"]) == (True, 0)


# Who hears of it


@pytest.mark.usefixtures("worker")
async def test_whoever_waits_is_told_at_once(caller: Caller, emulator: RunningEmulator) -> None:
    emulator.script({"hang": True})
    asking = asyncio.create_task(caller.post("/api/music_generate_lyria", json={"prompt": "slow piano"}))
    await eventually(lambda: emulator.calls()["received"] == 1)
    ((task_id,),) = await rows(caller, "SELECT id FROM tasks")
    watching = asyncio.create_task(caller.status(task_id, Prefer="wait=25"))
    await asyncio.sleep(0)
    canceled = await cancel(caller, task_id)
    asked, watched = await asking, await watching
    assert (asked.status_code, watched.status_code) == (200, 200)
    assert asked.json() == watched.json() == canceled


async def test_webhooks_are_told_with_what_it_cost(caller: Caller) -> None:
    await caller.services.webhooks.create(ACT, caller.tenant_id, "https://hooks.example.com/music")
    await cancel(caller, (await caller.ask_lyria())["task_id"])
    ((kind, body),) = await rows(caller, "SELECT kind, body FROM webhook_deliveries")
    assert kind == "task.canceled"
    assert '"charged_micros":0' in body


async def test_a_repeated_request_is_told_what_became_of_the_first(caller: Caller) -> None:
    asked = {
        "json": {"prompt": "slow piano"},
        "headers": {"Idempotency-Key": "a", "Prefer": "respond-async"},
    }
    first = (await caller.post("/api/music_generate_lyria", **asked)).json()
    canceled = await cancel(caller, first["task_id"])
    again = await caller.post("/api/music_generate_lyria", **asked)
    assert (again.status_code, again.json()) == (200, canceled)
    assert again.headers["idempotent-replayed"] == "true"


async def test_it_is_counted_once(caller: Caller) -> None:
    task = await caller.ask_lyria()
    for _ in range(2):
        await cancel(caller, task["task_id"])
    metrics = (await caller.client.get("/metrics")).text
    assert 'gateway_tasks_total{mode="live",model="lyria-002",state="canceled"} 1.0' in metrics


# Again, too late, not yours


@pytest.mark.usefixtures("worker")
async def test_canceling_again_changes_nothing(caller: Caller, emulator: RunningEmulator) -> None:
    task_id = await running(caller, emulator)
    answers = await asyncio.gather(*(cancel(caller, task_id) for _ in range(3)))
    assert answers == [await cancel(caller, task_id)] * 3
    assert await rows(caller, "SELECT kind FROM ledger ORDER BY id") == [("hold",), ("settle",)]


@pytest.mark.usefixtures("worker")
async def test_what_has_ended_stays_as_it_ended(caller: Caller, emulator: RunningEmulator) -> None:
    emulator.script({"preset": "safety"})
    failed = await caller.ended((await caller.ask_lyria())["task_id"])
    succeeded = await caller.ended((await caller.ask_lyria())["task_id"])
    for task in (failed, succeeded):
        problem = await cancel(caller, task["task_id"], 409)
        assert problem["code"] == "conflict"
        assert f"is {task['status']} already" in problem["detail"]
        assert (await caller.status(task["task_id"])).json()["status"] == task["status"]


async def test_another_tenants_task_is_nobodys(caller: Caller, stranger: Caller) -> None:
    task = await caller.ask_lyria()
    assert (await cancel(stranger, task["task_id"], 404))["code"] == "task_not_found"
    assert (await caller.status(task["task_id"])).json()["status"] == "queued"


async def test_another_key_of_the_tenants_will_do(caller: Caller) -> None:
    task = await caller.ask_lyria()
    _, text = await caller.services.keyring.create(ACT, caller.tenant_id, name="other")
    other = Caller(caller.client, caller.services, caller.tenant_id, text)
    assert (await cancel(other, task["task_id"]))["status"] == "canceled"


async def test_a_query_is_refused(caller: Caller) -> None:
    task = await caller.ask_lyria()
    response = await caller.post(f"/api/tasks/{task['task_id']}/cancel?force=true")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "force")


# Elsewhere, and just now


@pytest.mark.usefixtures("worker")
async def test_another_process_breaks_it_off_too(
    caller: Caller, settings: Settings, emulator: RunningEmulator
) -> None:
    task_id = await running(caller, emulator)
    async with open_services(settings) as elsewhere:
        task = await elsewhere.canceler.cancel(principal(caller), task_id)
        assert (task.state, task.charged_micros) == (TaskState.CANCELED, CLIP)
        await eventually(lambda: emulator.calls()["abandoned"] == 1)
    await eventually(lambda: not caller.services.runner._active)
    assert (await caller.status(task_id)).json()["status"] == "canceled"


async def test_a_task_canceled_between_its_claim_and_its_work_is_not_worked_on(
    caller: Caller, emulator: RunningEmulator
) -> None:
    """Nobody is there to be told yet; its call would go on, and be paid, until its lease is renewed."""
    emulator.script({"hang": True})
    runner, task = caller.services.runner, await caller.ask_lyria()
    (claimed,), _ = await caller.services.database.write(lambda tx: runner._claimer.take_next(tx, 1))
    await cancel(caller, task["task_id"])
    runner.start()
    runner._begin(*claimed)
    await eventually(lambda: not runner._active)
    assert emulator.calls()["running"] == 0


async def test_work_that_is_broken_off_before_its_first_step_leaves_nothing_behind(caller: Caller) -> None:
    runner, task = caller.services.runner, await caller.ask_lyria()
    (claimed,), _ = await caller.services.database.write(lambda tx: runner._claimer.take_next(tx, 1))
    await cancel(caller, task["task_id"])
    runner._begin(*claimed)
    runner.abort(task["task_id"])
    await eventually(lambda: not runner._active)
    assert not runner._lost


# By an administrator


@pytest.mark.usefixtures("worker")
async def test_an_administrator_cancels_anybodys(
    admin: Administrator, caller: Caller, emulator: RunningEmulator
) -> None:
    task_id = await running(caller, emulator)
    for _ in range(2):
        story = await admin.told("POST", f"/tasks/{task_id}/cancel")
        assert (story["status"], story["price"]["charged_micros"]) == ("canceled", CLIP)
        assert [entry["kind"] for entry in story["entries"]] == ["hold", "settle"]
    await eventually(lambda: emulator.calls()["abandoned"] == 1)
    entry, *_ = await admin.services.books.audit_log(caller.tenant_id)
    assert (entry.action, entry.target) == ("task.cancel", task_id)
    assert entry.before == {"status": "running", "charged_micros": None}
    assert entry.after == {"status": "canceled", "charged_micros": CLIP}
    assert [action for action, _ in await admin.acts()].count("task.cancel") == 1


@pytest.mark.usefixtures("worker")
async def test_an_administrator_is_told_what_cannot_be_canceled(admin: Administrator, caller: Caller) -> None:
    task = await caller.ended((await caller.ask_lyria())["task_id"])
    assert (await admin.told("POST", f"/tasks/{task['task_id']}/cancel", 409))["code"] == "conflict"
    assert (await admin.told("POST", "/tasks/task_x/cancel", 404))["code"] == "not_found"
    with pytest.raises(NotFound):
        await caller.services.canceler.cancel_any(ACT, "task_x")
