"""Everybody's tasks, the queue and the deployments, over the admin API."""

import json

import pytest

from tests.api import Administrator, Caller
from tests.emulator import RunningEmulator

PROMPT = "a prompt that only its tenant and one administrator at a time should read"

ON_BOTH_DATABASES = True


async def test_everybodys_tasks_are_listed_without_what_was_asked_for(
    admin: Administrator, caller: Caller, stranger: Caller
) -> None:
    made = [(await each.ask(prompt=PROMPT))["task_id"] for each in (caller, stranger, caller)]
    found = await admin.pages("/tasks", limit=2)
    assert [task["task_id"] for task in found] == made[::-1]
    assert PROMPT not in json.dumps(found)
    assert (found[0]["tenant_id"], found[0]["key_id"]) == (caller.tenant_id, caller.key_id)
    assert (found[0]["status"], found[0]["route"]) == ("queued", "music_generate")


async def test_lists_are_narrowed_by_each_question(
    admin: Administrator, caller: Caller, stranger: Caller
) -> None:
    own = await caller.ask(model="lyria-002")
    other = await stranger.ask(model="musicgen")
    for query, expected in (
        ({"tenant_id": caller.tenant_id}, [own]),
        ({"key_id": stranger.key_id}, [other]),
        ({"model": "musicgen"}, [other]),
        ({"state": "queued", "tenant_id": stranger.tenant_id}, [other]),
        ({"state": "failed"}, []),
        ({"created_before": own["created_at"]}, []),
        ({"created_from": own["created_at"], "tenant_id": caller.tenant_id}, [own]),
        ({"created_from": "2099-01-01T00:00:00+01:00"}, []),
    ):
        found = await admin.pages("/tasks", limit=1, **query)
        assert [task["task_id"] for task in found] == [task["task_id"] for task in expected], query


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        ("state=done", {"state": "unknown_value"}),
        ("model=lyria", {"model": "unknown_value"}),
        ("created_from=yesterday", {"created_from": "wrong_type"}),
        ("created_before=2026-01-01T00:00:00", {"created_before": "wrong_type"}),
        ("cursor=5", {"cursor": "invalid"}),
        ("status=queued", {"status": "unknown_field"}),
    ],
)
async def test_a_question_that_makes_no_sense_is_named(
    admin: Administrator, query: str, faults: dict[str, str]
) -> None:
    assert await admin.faults("GET", f"/tasks?{query}") == faults


@pytest.mark.parametrize("query", ["tenant_id=ten_x", "key_id=x"])
async def test_whose_tasks_are_nobodys_is_told_as_such(admin: Administrator, query: str) -> None:
    assert (await admin.told("GET", f"/tasks?{query}", 404))["code"] == "not_found"


async def test_a_tasks_whole_story_is_told(
    admin: Administrator, caller: Caller, worker: None, emulator: RunningEmulator
) -> None:
    task = await caller.ask_lyria(prompt=PROMPT, metadata={"scene": "finale"})
    await caller.ended(task["task_id"])
    story = await admin.told("GET", f"/tasks/{task['task_id']}")
    assert story["request"] == {"prompt": PROMPT, "sampleCount": 1}
    assert story["metadata"] == {"scene": "finale"}
    assert (story["status"], story["emulated"], story["test"]) == ("succeeded", True, False)
    (output,) = story["outputs"]
    assert "url" not in output
    assert output["object_name"].startswith(f"{caller.tenant_id}/{task['task_id']}/0-")
    (attempt,) = story["attempts"]
    assert (attempt["state"], attempt["clips_delivered"]) == ("succeeded", 1)
    assert [event["kind"] for event in story["events"]] == ["queued", "running", "clip", "succeeded"]
    assert [(each["kind"], each["spent_micros"]) for each in story["entries"]] == [
        ("hold", 0),
        ("settle", 60_000),
    ]


async def test_a_failed_task_says_why(
    admin: Administrator, caller: Caller, worker: None, emulator: RunningEmulator
) -> None:
    emulator.script({"preset": "safety"})
    task = await caller.ask_lyria(prompt=PROMPT)
    await caller.ended(task["task_id"])
    (found,) = (await admin.told("GET", "/tasks?state=failed"))["data"]
    assert found["error"]["code"] == "safety_blocked"
    assert found["price"]["charged_micros"] == 0


async def test_a_task_of_nobodys_is_told_as_such(admin: Administrator) -> None:
    assert (await admin.told("GET", "/tasks/task_x", 404))["code"] == "not_found"


async def test_the_queue_tells_who_waits(admin: Administrator, caller: Caller) -> None:
    assert await admin.told("GET", "/queue") == {"data": [], "next_cursor": None}
    first = await caller.ask()
    await caller.ask()
    (line,) = (await admin.told("GET", "/queue"))["data"]
    assert line == {
        "tenant_id": caller.tenant_id,
        "tenant_name": "acme",
        "weight": 1,
        "max_concurrent": None,
        "waiting": 2,
        "running": 0,
        "oldest_waiting_at": first["created_at"],
    }


async def test_deployments_are_told_in_the_order_of_preference(admin: Administrator) -> None:
    musicgen, lyria = (await admin.told("GET", "/deployments"))["data"]
    assert (musicgen["model"], lyria["model"]) == ("musicgen", "lyria-002")
    assert musicgen["endpoint"].endswith("/endpoints/7")
    assert (lyria["endpoint"], lyria["price_micros"]) == (None, 60_000)
