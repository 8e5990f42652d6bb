"""Cancel-After, and a tenant's time to start: said, kept, shown, and who outweighs whom."""

from datetime import datetime
from typing import Any

import httpx
import pytest

from gateway.settings import Settings
from tests.api import Caller
from tests.factories import ACT


async def ask(caller: Caller, **headers: str) -> httpx.Response:
    body = {"prompt": "slow piano", "durationSeconds": 1}
    return await caller.post(json=body, headers={"Prefer": "respond-async", **headers})


def seconds_to_start(task: dict[str, Any]) -> float | None:
    if task["start_by"] is None:
        return None
    start_by, created = (datetime.fromisoformat(task[name]) for name in ("start_by", "created_at"))
    return (start_by - created).total_seconds()


async def asked(caller: Caller, **headers: str) -> float | None:
    response = await ask(caller, **headers)
    assert response.status_code == 202, response.text
    return seconds_to_start(response.json())


async def test_a_task_has_as_long_as_it_may_take_unless_something_is_said(caller: Caller) -> None:
    assert await asked(caller) is None


async def test_a_request_says_when_it_is_too_late(caller: Caller) -> None:
    assert await asked(caller, **{"Cancel-After": "90s"}) == 90
    response = await caller.post(
        "/api/music_generate_lyria",
        json={"prompt": "slow piano"},
        headers={"Prefer": "respond-async", "Cancel-After": "2m"},
    )
    assert seconds_to_start(response.json()) == 120
    told = await caller.status(response.json()["task_id"])
    assert told.json()["start_by"] == response.json()["start_by"]


async def test_a_tenants_time_counts_where_nothing_is_said(caller: Caller) -> None:
    await caller.services.tenants.update(ACT, caller.tenant_id, start_within_s=60)
    assert await asked(caller) == 60
    assert await asked(caller, **{"Cancel-After": "300"}) == 300
    await caller.services.tenants.update(ACT, caller.tenant_id, start_within_s=None)
    assert await asked(caller) is None


async def test_no_time_is_longer_than_a_task_may_take(caller: Caller, settings: Settings) -> None:
    await caller.services.tenants.update(ACT, caller.tenant_id, start_within_s=86_400)
    assert await asked(caller) == settings.task_timeout_s
    assert await asked(caller, **{"Cancel-After": "15m"}) == settings.task_timeout_s


@pytest.mark.parametrize("value", ["soon", "4s", "16m", "1d"])
async def test_what_will_not_do_is_refused_by_name(caller: Caller, value: str) -> None:
    response = await ask(caller, **{"Cancel-After": value})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert [fault["field"] for fault in response.json()["errors"]] == ["Cancel-After"]


async def test_a_dry_run_refuses_it_too(caller: Caller) -> None:
    response = await caller.post(
        "/api/music_generate?dry_run=true", json={"prompt": "x"}, headers={"Cancel-After": "soon"}
    )
    assert response.status_code == 400


async def test_a_repeat_with_less_time_left_joins_the_first(caller: Caller) -> None:
    first = (await ask(caller, **{"Idempotency-Key": "a", "Cancel-After": "90s"})).json()
    again = await ask(caller, **{"Idempotency-Key": "a", "Cancel-After": "60s"})
    assert again.status_code == 202
    assert (again.json()["task_id"], seconds_to_start(again.json())) == (first["task_id"], 90)


@pytest.mark.usefixtures("worker")
async def test_what_is_started_in_time_is_made(caller: Caller) -> None:
    task = (await ask(caller, **{"Cancel-After": "5s"})).json()
    assert (await caller.ended(task["task_id"]))["status"] == "succeeded"
