"""A team's whole life, administered over HTTP alone: from its creation to the proof of its books."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.running import RunningGateway, free_port, start_gateway
from tests.system.patience import until

TOKEN = "administers-one-gateway-from-outside"
LYRIA = "/api/music_generate_lyria"
CLIP_MICROS = 60_000


@pytest.fixture
def governed(tmp_path: Path, emulator: RunningEmulator) -> Iterator[RunningGateway]:
    """A gateway whose admin API has a port of its own."""
    settings = {"GATEWAY_ADMIN_TOKEN": TOKEN, "GATEWAY_ADMIN_PORT": str(free_port())}
    with start_gateway(tmp_path, emulator.url, **settings) as running:
        yield running


@pytest.fixture
def admin(governed: RunningGateway) -> Iterator[httpx.Client]:
    url = f"http://127.0.0.1:{governed.environment['GATEWAY_ADMIN_PORT']}/admin/api"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


class Team:
    """What one does who has a key."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._url = gateway.url

    def ask(self, key: str) -> httpx.Response:
        headers = {"X-Api-Key": key}
        body = {"prompt": "slow piano"}
        return httpx.post(f"{self._url}{LYRIA}", json=body, headers=headers, timeout=60, trust_env=False)

    def look(self, key: str, task_id: str) -> httpx.Response:
        headers = {"X-Api-Key": key}
        return httpx.get(f"{self._url}/api/task-status/{task_id}", headers=headers, trust_env=False)


def made(response: httpx.Response) -> dict[str, Any]:
    assert response.is_success, response.text
    return dict(response.json())


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_a_teams_whole_life(governed: RunningGateway, admin: httpx.Client) -> None:
    team = Team(governed)

    # A tenant with money for three clips, and a key.
    tenant_id = made(admin.post("/tenants", json={"name": "Team Radio", "zone": "Europe/Berlin"}))["id"]
    budgets = {"total_micros": 3 * CLIP_MICROS}
    made(admin.put(f"/tenants/{tenant_id}/budgets", json=budgets))
    made(admin.put(f"/tenants/{tenant_id}/members/ada@example.com", json={"role": "owner"}))
    named = {"Idempotency-Key": "website-1"}
    first = made(admin.post("/keys", json={"tenant_id": tenant_id, "name": "website"}, headers=named))
    repeated = made(admin.post("/keys", json={"tenant_id": tenant_id, "name": "website"}, headers=named))
    assert repeated["key"] == first["key"]

    # Music.
    task = made(team.ask(first["key"]))
    assert task["status"] == "succeeded"
    *_, total = made(admin.get(f"/tenants/{tenant_id}"))["budgets"]
    assert (total["spent_micros"], total["remaining_micros"]) == (CLIP_MICROS, 2 * CLIP_MICROS)

    # Another secret: both open until the moment that was stated, then only the new one.
    rotated = made(admin.post(f"/keys/{first['id']}/rotate", json={"overlap_s": 2}))
    assert rotated["id"] == first["id"]
    assert team.look(first["key"], task["task_id"]).is_success
    assert team.look(rotated["key"], task["task_id"]).is_success
    until(lambda: team.look(first["key"], task["task_id"]).status_code == 401)
    assert datetime.now(UTC) >= datetime.fromisoformat(rotated["old_until"])
    assert team.look(rotated["key"], task["task_id"]).is_success

    # Stopped and let go on, as a key and as a tenant.
    made(admin.post(f"/keys/{first['id']}/disable"))
    assert code(team.ask(rotated["key"])) == (401, "key_disabled")
    made(admin.post(f"/keys/{first['id']}/enable"))
    made(admin.post(f"/tenants/{tenant_id}/suspend"))
    assert code(team.ask(rotated["key"])) == (403, "tenant_suspended")
    assert team.look(rotated["key"], task["task_id"]).is_success
    made(admin.post(f"/tenants/{tenant_id}/activate"))
    made(team.ask(rotated["key"]))

    # The budget ends; a credit makes room for one more.
    made(team.ask(rotated["key"]))
    assert code(team.ask(rotated["key"])) == (402, "budget_spent")
    credit = {"tenant_id": tenant_id, "spent_micros": -CLIP_MICROS, "reason": "clip 2 was silent"}
    for _ in range(2):
        made(admin.post("/ledger/adjust", json=credit, headers={"Idempotency-Key": "credit-1"}))
    made(team.ask(rotated["key"]))
    assert code(team.ask(rotated["key"])) == (402, "budget_spent")

    # The end of the key, for good.
    made(admin.post(f"/keys/{first['id']}/revoke"))
    assert code(team.ask(rotated["key"])) == (401, "key_revoked")

    # What is kept of it all.
    assert_the_books_say_so(admin, tenant_id)
    story = made(admin.get(f"/tasks/{task['task_id']}"))
    assert [entry["kind"] for entry in story["entries"]] == ["hold", "settle"]
    assert governed.command("reconcile") == "Everything adds up.\n"
    assert TOKEN not in governed.log()


def assert_the_books_say_so(admin: httpx.Client, tenant_id: str) -> None:
    entries = made(admin.get("/ledger", params={"tenant_id": tenant_id, "limit": 200}))["data"]
    kinds = [entry["kind"] for entry in entries]
    assert (kinds.count("hold"), kinds.count("settle"), kinds.count("adjust")) == (4, 4, 1)
    assert sum(entry["spent_micros"] for entry in entries) == 3 * CLIP_MICROS
    assert made(admin.get("/reconcile")) == {"clean": True, "differences": []}
    assert made(admin.get("/queue"))["data"] == []
    acts = made(admin.get("/audit", params={"tenant_id": tenant_id, "limit": 200}))["data"]
    assert [act["action"] for act in acts][::-1] == [
        "tenant.create",
        "tenant.budgets",
        "member.put",
        "key.create",
        "key.rotate",
        "key.disable",
        "key.enable",
        "tenant.suspend",
        "tenant.activate",
        "ledger.adjust",
        "key.revoke",
    ]
    assert {act["source"] for act in acts} == {"127.0.0.1"}
    assert len({act["actor"] for act in acts}) == 1


def test_what_the_command_line_did_is_in_the_same_log(governed: RunningGateway, admin: httpx.Client) -> None:
    tenant_id = governed.create_tenant("acme")
    (act,) = made(admin.get("/audit", params={"tenant_id": tenant_id}))["data"]
    assert (act["action"], act["source"], act["request_id"]) == ("tenant.create", "cli", "")
    assert act["actor"].startswith("cli:")
