"""An installation that has been used: something in every table, and tasks in every state."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from gateway.accounts.sessions import SignInMethod
from gateway.bootstrap.services import Services, open_services
from gateway.db import work
from gateway.db.engine import Tx
from gateway.db.work import AttemptEnd
from gateway.model import KeyMode, Take
from gateway.settings import Settings
from gateway.tasks.sweeper import Sweeper
from tests.api import BASE_URL, Administrator, Caller, make_apis, make_app, until
from tests.clock import SetClock
from tests.emulator import RunningEmulator
from tests.factories import ACT

_PATIENCE_S = 30.0
_PASSING = frozenset({"queue", "url_expires_at"})
#: Nobody listens there.
_DEAD_RECEIVER = "http://127.0.0.1:9/hook"


@dataclass(frozen=True)
class Installation:
    """A gateway on some database. What callers have is the same on each: keys, and ids of tasks."""

    services: Services
    client: httpx.AsyncClient
    admin: Administrator

    def caller(self, key: str, tenant_id: str = "") -> Caller:
        return Caller(self.client, self.services, tenant_id, key)

    async def answers(self, used: "Used") -> dict[str, Any]:
        """What callers and administrators are told, links and what changes by itself apart."""
        caller = self.caller(used.key)
        told: dict[str, Any] = {
            task_id: _lasting((await caller.status(task_id)).json()) for task_id in used.tasks
        }
        for path in ("/api/models", "/api/usage", "/api/webhooks", "/api/webhooks/secret"):
            told[path] = (await self.client.get(path, headers={"X-Api-Key": used.key})).json()
        for path in ("/tenants", "/keys", "/ledger", "/audit", "/tasks", "/reconcile"):
            told[path] = await self.admin.told("GET", path)
        return told


@dataclass(frozen=True)
class Used:
    """What a use of a gateway has left with its callers."""

    key: str
    tenant_id: str
    tasks: tuple[str, ...]
    queued: tuple[str, ...]


def _lasting(said: Any) -> Any:
    """Without what passes: signatures, the moment a link ends, and a place in the queue."""
    if isinstance(said, dict):
        return {name: _lasting(value) for name, value in said.items() if name not in _PASSING}
    if isinstance(said, list):
        return [_lasting(value) for value in said]
    return said.partition("?expires=")[0] if isinstance(said, str) else said


@asynccontextmanager
async def open_installation(settings: Settings) -> AsyncIterator[Installation]:
    async with open_services(settings) as services:
        app = make_app(make_apis(settings, services), services)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as client:
            yield Installation(services, client, Administrator(client, services))
        await services.drain()


async def use(settings: Settings, emulator: RunningEmulator) -> Used:
    """Have a gateway do everything that it can do, and stop it. Webhooks must be allowed to 127.0.0.1."""
    async with open_installation(settings) as opened:
        tenant_id, key = await _administer(opened)
        caller = opened.caller(key, tenant_id)
        await _tell_a_dead_receiver(opened, caller)
        ended = [
            await _queue_and(opened, caller, _expire),
            await _queue_and(opened, caller, _cancel),
        ]
        opened.services.runner.start()
        ended += await _make_music(opened, caller, emulator)
        await opened.services.runner.drain()
        running = await _leave_running(opened, caller)
        named = await caller.post(
            json={"prompt": "named", "durationSeconds": 1},
            headers={"Prefer": "respond-async", "Idempotency-Key": '"the-name"'},
        )
        queued = [
            named.json()["task_id"],
            (await caller.ask())["task_id"],
            (await caller.ask_lyria())["task_id"],
        ]
        await _wait_for_tries(opened)
        return Used(key, tenant_id, (*ended, running, *queued), tuple(queued))


async def _administer(opened: Installation) -> tuple[str, str]:
    admin, services = opened.admin, opened.services
    budgets = {"day_micros": 5_000_000, "month_micros": 400_000}
    tenant_id = await admin.make_tenant(
        "acme", budgets=budgets, zone="Europe/Berlin", weight=3, warn_percents=[1]
    )
    await admin.make_tenant('Ünïcode, "quoted", 音楽')
    await admin.told("PUT", f"/tenants/{tenant_id}/members/ada@example.com", json={"role": "owner"})
    made = await admin.make_key(tenant_id, tags=["a", "b"], rpm=100)
    rotated = await admin.told("POST", f"/keys/{made['id']}/rotate", json={"overlap_s": 3600})
    await services.keyring.create(ACT, tenant_id, name="for tests", mode=KeyMode.TEST)
    await admin.told(
        "POST", "/ledger/adjust", 201,
        json={"tenant_id": tenant_id, "spent_micros": 50_000, "reason": "by hand"},
    )  # fmt: skip
    return tenant_id, rotated["key"]


async def _tell_a_dead_receiver(opened: Installation, caller: Caller) -> None:
    hook = {"url": _DEAD_RECEIVER, "events": ["task.succeeded", "task.failed"]}
    assert (await caller.post("/api/webhooks", json=hook)).status_code == 201
    assert (await caller.post("/api/webhooks/rotate-secret", json={})).status_code == 200
    opened.services.pump.start()


async def _queue_and(
    opened: Installation, caller: Caller, end: Callable[[Installation, Caller, str], Awaitable[None]]
) -> str:
    task_id = str((await caller.ask())["task_id"])
    await end(opened, caller, task_id)
    return task_id


async def _expire(opened: Installation, _caller: Caller, _task_id: str) -> None:
    services = opened.services
    late = SetClock(services.clock.now_ms() + 10**9)
    sweeper = Sweeper(services.database, services.announcer, services.signals, services.metrics, late)
    await sweeper.expire_overdue()


async def _cancel(_opened: Installation, caller: Caller, task_id: str) -> None:
    assert (await caller.post(f"/api/tasks/{task_id}/cancel")).status_code == 200


async def _make_music(opened: Installation, caller: Caller, emulator: RunningEmulator) -> list[str]:
    """Some that succeeds, some that is refused, some that is deleted; a model that was busy once."""
    emulator.script({"preset": "quota"}, {"preset": "safety", "model": "lyria-002"})
    refused = (await caller.ask_lyria(prompt="gives offence"))["task_id"]
    made = [
        (await caller.ask(prompt="ein Lied für Ada 🎵", outputFormat="mp3"))["task_id"],
        (await caller.ask_lyria(sampleCount=2, negative_prompt="drums"))["task_id"],
    ]
    gone = (await caller.ask())["task_id"]
    for task_id in (refused, *made, gone):
        await caller.ended(task_id)
    response = await opened.client.delete(f"/api/tasks/{gone}", headers={"X-Api-Key": caller.key})
    assert response.status_code in {200, 204}, response.text
    return [refused, *made]


async def _leave_running(opened: Installation, caller: Caller) -> str:
    """A worker died here: its task runs, and has the first of its takes."""
    task_id = str((await caller.ask(model="lyria-002", durationSeconds=60))["task_id"])
    now_ms = opened.services.clock.now_ms()

    def run(tx: Tx) -> None:
        assert work.claim(tx, task_id, token="mine", now_ms=now_ms, expires_at_ms=now_ms + 1)
        work.begin_attempt(
            tx, task_id, token="mine", attempt_id="attempt", deployment="lyria-002", clips_asked=1,
            now_ms=now_ms, cost_micros=60_000,
        )  # fmt: skip
        take = Take(0, "attempt", f"{caller.tenant_id}/{task_id}/t0-attempt.wav", 32.768, None)
        work.end_attempt(tx, task_id, AttemptEnd("attempt", "succeeded", (), takes=(take,)), now_ms=now_ms)
        work.begin_attempt(
            tx, task_id, token="mine", attempt_id="attempt2", deployment="lyria-002", clips_asked=1,
            now_ms=now_ms, cost_micros=60_000,
        )  # fmt: skip

    await opened.services.database.write(run)
    # What was discarded while storage was out of order, too.
    await opened.services.sessions.open("ada@example.com", SignInMethod.OIDC)
    await opened.services.sessions.make_link("ada@example.com", admin=False)
    await opened.services.database.write(
        lambda tx: tx.exec_driver_sql("INSERT INTO discarded_objects VALUES ('ten_a/task_b/0-c.wav', 1)")
    )
    return task_id


async def _wait_for_tries(opened: Installation) -> None:
    async def tried() -> bool:
        return await opened.services.database.read(
            lambda tx: bool(tx.exec_driver_sql("SELECT 1 FROM webhook_attempts").first())
        )

    async with asyncio.timeout(_PATIENCE_S):
        await until(tried)
