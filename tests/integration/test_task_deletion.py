"""DELETE /api/tasks/{task_id}, as callers see it."""

import asyncio
from urllib.parse import urlsplit

import httpx

from gateway.bootstrap.services import Services
from tests.api import Administrator, Caller
from tests.ended import count
from tests.factories import ACT

NAMED = {"Idempotency-Key": "spring-1"}
BODY = {"prompt": "slow piano", "durationSeconds": 1}


async def delete(caller: Caller, task_id: str, query: str = "") -> httpx.Response:
    headers = {"X-Api-Key": caller.key}
    return await caller.client.delete(f"/api/tasks/{task_id}{query}", headers=headers)


async def made(caller: Caller, **headers: str) -> dict[str, str]:
    """A finished task."""
    response = await caller.post(json=BODY, headers=headers)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_a_deleted_task_is_gone_and_its_links_open_nothing(caller: Caller, worker: None) -> None:
    task = await made(caller)
    link = urlsplit(task["audio_url"])
    there = f"{link.path}?{link.query}"
    assert (await caller.client.get(there)).status_code == 200
    response = await delete(caller, task["task_id"])
    assert (response.status_code, response.content) == (204, b"")
    gone = await caller.client.get(there)
    assert (gone.status_code, gone.json()["code"]) == (404, "file_not_found")
    status = await caller.status(task["task_id"])
    assert (status.status_code, status.json()["code"]) == (404, "task_not_found")
    again = await delete(caller, task["task_id"])
    assert (again.status_code, again.json()) == (
        404,
        status.json() | {"request_id": again.json()["request_id"]},
    )


async def test_what_it_cost_stays(caller: Caller, worker: None) -> None:
    task = await made(caller)
    headers = {"X-Api-Key": caller.key}
    before = (await caller.client.get("/api/usage", headers=headers)).json()
    await delete(caller, task["task_id"])
    assert (await caller.client.get("/api/usage", headers=headers)).json() == before
    assert before["total"]["requests"] == 1
    assert await caller.services.books.reconcile() == ()


async def test_administrators_do_not_see_it_either(
    caller: Caller, admin: Administrator, worker: None
) -> None:
    task = await made(caller)
    await delete(caller, task["task_id"])
    assert (await admin.ask("GET", f"/tasks/{task['task_id']}")).status_code == 404
    assert await admin.pages("/tasks", limit=5) == []


async def test_what_waits_is_to_be_cancelled_first(caller: Caller) -> None:
    task = await caller.ask()
    response = await delete(caller, task["task_id"])
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert response.json()["detail"] == "This task is queued. Cancel it first, or wait for its end."
    assert (await caller.status(task["task_id"])).json()["status"] == "queued"


async def test_a_misspelt_wish_deletes_nothing(caller: Caller, worker: None) -> None:
    task = await made(caller)
    response = await delete(caller, task["task_id"], "?dry_run=true")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert (await caller.status(task["task_id"])).status_code == 200


async def test_a_repeat_of_its_request_is_refused_and_not_made_anew(caller: Caller, worker: None) -> None:
    """A late repeat must not cost anything; whoever wants it again says so."""
    task = await made(caller, **NAMED)
    await delete(caller, task["task_id"])
    for body in (BODY, {**BODY, "prompt": "loud piano"}):
        repeat = await caller.post(json=body, headers=NAMED)
        assert (repeat.status_code, repeat.json()["code"]) == (409, "conflict")
        assert "was deleted" in repeat.json()["detail"]
    assert await count(caller.services.database, "tasks") == 1
    assert (await made(caller, **{"Idempotency-Key": "spring-2"}))["task_id"] != task["task_id"]


async def test_a_webhook_of_it_cannot_be_replayed(caller: Caller, worker: None) -> None:
    services = caller.services
    await services.webhooks.create(ACT, caller.tenant_id, "https://hooks.example.com/music")
    task = await made(caller)
    page = await services.webhooks.deliveries(caller.tenant_id, state=None, cursor=None, limit=9)
    (delivery,) = page.deliveries
    await services.database.write(
        lambda tx: tx.exec_driver_sql("UPDATE webhook_deliveries SET state = 'failed', finished_at_ms = 1")
    )
    await delete(caller, task["task_id"])
    assert (await caller.post(f"/api/webhooks/deliveries/{delivery.id}/replay")).status_code == 404
    assert (await caller.post("/api/webhooks/deliveries/replay-failed")).json() == {"replayed": 0}


async def test_every_process_does_its_part_by_itself(services: Services) -> None:
    """The chores are there, and each can be done in a gateway that has just begun."""
    names = {chore.name for chore in services.chores._chores}
    assert names >= {
        "deleting what was kept long enough",
        "deleting discarded audio",
        "looking for orphaned audio",
    }
    await asyncio.gather(*(chore.action() for chore in services.chores._chores))
