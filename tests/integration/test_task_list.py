"""GET /api/tasks, as callers see it."""

from typing import Any

import httpx
import pytest

from tests.api import Caller
from tests.factories import ACT


async def ask(caller: Caller, **query: object) -> httpx.Response:
    return await caller.client.get(
        "/api/tasks",
        params={name: str(value) for name, value in query.items()},
        headers={"X-Api-Key": caller.key},
    )


async def listed(caller: Caller, **query: object) -> list[str]:
    response = await ask(caller, **query)
    assert response.status_code == 200, response.text
    return [task["task_id"] for task in response.json()["data"]]


async def pages(caller: Caller, **query: object) -> list[list[str]]:
    found: list[list[str]] = []
    while True:
        document: dict[str, Any] = (await ask(caller, **query)).json()
        found.append([task["task_id"] for task in document["data"]])
        if document["next_cursor"] is None:
            return found
        query["cursor"] = document["next_cursor"]


async def test_own_tasks_come_newest_first_and_nobody_elses(caller: Caller, stranger: Caller) -> None:
    made = [(await caller.ask(prompt=f"piano {n}"))["task_id"] for n in range(3)]
    theirs = await stranger.ask()
    assert await listed(caller) == made[::-1]
    assert await listed(stranger) == [theirs["task_id"]]


async def test_pages_follow_each_other_whatever_comes_in_meanwhile(caller: Caller) -> None:
    made = [(await caller.ask())["task_id"] for _ in range(5)][::-1]
    assert await pages(caller, limit=2) == [made[:2], made[2:4], made[4:]]
    assert await pages(caller, limit=5) == [made]
    first = (await ask(caller, limit=3)).json()
    await caller.ask()
    assert await listed(caller, limit=3, cursor=first["next_cursor"]) == made[3:]


async def test_a_task_is_told_as_its_status_tells_it_but_for_links(caller: Caller, worker: None) -> None:
    task = (await caller.post(json={"prompt": "slow piano", "durationSeconds": 1})).json()
    [found] = (await ask(caller)).json()["data"]
    assert (found.pop("key_id"), found.pop("clips")) == (caller.key_id, 1)
    assert found == {name: task[name] for name in found}
    assert not {"audio_url", "audio_urls", "outputs"} & set(found)


async def test_a_deleted_task_is_not_listed(caller: Caller, worker: None) -> None:
    task = (await caller.post(json={"prompt": "slow piano", "durationSeconds": 1})).json()
    gone = await caller.client.delete(f"/api/tasks/{task['task_id']}", headers={"X-Api-Key": caller.key})
    assert gone.status_code == 204
    assert await listed(caller) == []


async def test_filters_narrow_the_list(caller: Caller) -> None:
    queued, canceled = await caller.ask(), await caller.ask()
    await caller.post(f"/api/tasks/{canceled['task_id']}/cancel")
    assert await listed(caller, state="queued") == [queued["task_id"]]
    assert await listed(caller, state="canceled", key_id=caller.key_id) == [canceled["task_id"]]
    assert await listed(caller, model=queued["model"], limit=1) == [canceled["task_id"]]
    assert await listed(caller, created_before=queued["created_at"]) == []
    assert len(await listed(caller, created_from=queued["created_at"])) == 2
    other, _ = await caller.services.keyring.create(ACT, caller.tenant_id, name="other")
    assert await listed(caller, key_id=other.id) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("state", "done"), ("model", "bach"), ("created_from", "yesterday"), ("key_id", "nobodys")),
        *(("limit", "0"), ("limit", "201"), ("cursor", "x"), ("status", "queued")),
    ],
)
async def test_what_will_not_do_is_named(caller: Caller, name: str, value: str) -> None:
    response = await ask(caller, **{name: value})
    assert (response.status_code, [fault["field"] for fault in response.json()["errors"]]) == (400, [name])


async def test_another_tenants_key_is_nobodys(caller: Caller, stranger: Caller) -> None:
    theirs, nobodys = [(await ask(caller, key_id=key)).json() for key in (stranger.key_id, "4fGh2kLm9QwZ")]
    assert theirs == nobodys | {"request_id": theirs["request_id"]}


async def test_without_a_key_nothing_is_listed(caller: Caller) -> None:
    assert (await caller.client.get("/api/tasks")).json()["code"] == "unauthorized"
