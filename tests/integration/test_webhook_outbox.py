"""What is told, to whom, and in the very transaction that it tells of."""

import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.db import webhooks
from gateway.db.engine import Tx
from gateway.errors import InvalidRequest
from gateway.messages import DisabledReason, Endpoint, EventType
from gateway.model import KeyMode, MusicSpec, Route, Task, TaskError, TaskState
from gateway.settings import Settings
from gateway.tasks.submission import Submission
from gateway.tasks.sweeper import Sweeper
from gateway.webhooks.outbox import BODY_LIMIT_BYTES, BudgetAlert, lane_of
from tests.emulator import RunningEmulator
from tests.factories import ACT, a_key, a_task, a_tenant, keep_tenant
from tests.workshop import Workshop, open_workshop

HOOK = "https://hooks.example.com/music?token=t0ken"
OWN = "https://caller.example.com/done"


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    async with open_workshop(settings, emulator) as opened:
        yield opened


async def ask(shop: Workshop, webhook_url: str | None = None, **metadata: str) -> Task:
    submission = Submission(
        Route.LYRIA, MusicSpec("slow piano"), None, metadata, "r1", None, webhook_url=webhook_url
    )
    return (await shop.services.tasks.submit(shop.principal, submission)).task


async def register(shop: Workshop, url: str = HOOK, *events: EventType) -> Endpoint:
    return await shop.services.webhooks.create(ACT, shop.principal.tenant_id, url, events=events or None)


async def outbox(shop: Workshop) -> list[dict[str, Any]]:
    """What is written there, oldest first and then by address, each with its event."""
    rows = await shop.rows(
        "SELECT url, endpoint_id, kind, task_id, body, state, attempt_count, lane FROM webhook_deliveries"
        " ORDER BY created_at_ms, url"
    )
    names = ("url", "endpoint_id", "kind", "task_id", "body", "state", "attempt_count", "lane")
    return [{**dict(zip(names, row, strict=True)), "event": json.loads(row[4])} for row in rows]


# The end of a task


async def test_the_end_of_a_task_is_told_to_the_tenants_endpoint(shop: Workshop) -> None:
    endpoint = await register(shop)
    task = await shop.finish(await ask(shop, scene="finale"))
    (message,) = await outbox(shop)
    assert (message["url"], message["endpoint_id"], message["task_id"]) == (HOOK, endpoint.id, task.id)
    assert (message["state"], message["attempt_count"]) == ("pending", 0)
    assert message["event"] == {
        "type": "task.succeeded",
        "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {
            "task_id": task.id,
            "status": "succeeded",
            "status_url": f"http://127.0.0.1:8080/api/task-status/{task.id}",
            "model": "lyria-002",
            "clips": 1,
            "error": None,
            "price": {"currency": "USD", "micros": 60_000, "usd": "0.06", "charged_micros": 60_000},
            "metadata": {"scene": "finale"},
            "created_at": "2027-01-15T08:00:00.000Z",
            "finished_at": "2027-01-15T08:00:00.000Z",
            "emulated": True,
            "test": False,
        },
    }


async def test_a_failure_is_told_with_its_reason_and_costs_nothing(shop: Workshop) -> None:
    await register(shop)
    shop.emulator.script({"preset": "safety"})
    await shop.finish(await ask(shop))
    (message,) = await outbox(shop)
    data = message["event"]["data"]
    assert (message["event"]["type"], data["status"], data["clips"]) == ("task.failed", "failed", 0)
    assert data["error"]["code"] == "safety_blocked"
    assert data["price"]["charged_micros"] == 0


async def test_the_address_that_the_request_named_is_told_as_well(shop: Workshop) -> None:
    endpoint = await register(shop)
    await shop.finish(await ask(shop, OWN))
    own, registered = await outbox(shop)
    assert (own["url"], own["endpoint_id"]) == (OWN, None)
    assert (registered["url"], registered["endpoint_id"]) == (HOOK, endpoint.id)
    assert own["body"] == registered["body"]


async def test_no_message_holds_a_link_to_the_audio(shop: Workshop) -> None:
    """Whoever has one has the audio; it would expire before somebody reads an old message."""
    await register(shop)
    task = await shop.finish(await ask(shop, OWN))
    (link,) = await shop.services.tasks.links(task)
    for message in await outbox(shop):
        assert link.url not in message["body"]
        assert "signature" not in message["body"]
        assert task.clips[0].object_name not in message["body"]


async def test_endpoints_hear_only_what_they_asked_for(shop: Workshop) -> None:
    await register(shop, "https://a.example.com", EventType.TASK_FAILED)
    wanting = await register(shop, "https://b.example.com", EventType.TASK_SUCCEEDED, EventType.TASK_FAILED)
    disabled = await register(shop, "https://c.example.com")
    deleted = await register(shop, "https://d.example.com")
    await shop.services.database.write(
        lambda tx: webhooks.disable_endpoint(tx, disabled.id, DisabledReason.REQUESTED, now_ms=1)
    )
    await shop.services.webhooks.delete(ACT, shop.principal.tenant_id, deleted.id)
    other = await keep_tenant(shop.services.database)
    await shop.services.webhooks.create(ACT, other.id, "https://e.example.com")
    await shop.finish(await ask(shop))
    assert [message["endpoint_id"] for message in await outbox(shop)] == [wanting.id]


async def test_a_task_that_is_put_back_is_not_told(shop: Workshop) -> None:
    await register(shop)
    shop.emulator.script({"preset": "quota"})
    task = await ask(shop, OWN)
    assert await shop.step(task) is TaskState.QUEUED
    assert await outbox(shop) == []


async def test_a_task_that_expires_is_told(shop: Workshop, settings: Settings) -> None:
    await register(shop)
    task = await ask(shop, OWN)
    shop.clock.advance(settings.task_timeout_s)
    services = shop.services
    sweeper = Sweeper(services.database, services.announcer, services.signals, services.metrics, shop.clock)
    await sweeper.expire_overdue()
    own, registered = await outbox(shop)
    assert own["body"] == registered["body"]
    data = own["event"]["data"]
    assert (own["kind"], data["task_id"], data["status"]) == ("task.expired", task.id, "expired")
    assert (data["error"]["code"], data["price"]["charged_micros"]) == ("expired", 0)
    assert data["finished_at"] is not None


@pytest.mark.parametrize(
    ("state", "kind"), [(TaskState.CANCELED, "task.canceled"), (TaskState.EXPIRED, "task.expired")]
)
async def test_tasks_that_end_otherwise_are_told_the_same_way(
    shop: Workshop, state: TaskState, kind: str
) -> None:
    """For whoever ends them in a transaction of their own."""
    await register(shop)
    ended = replace(await ask(shop), state=state, error=TaskError("canceled", "It was canceled."))

    def end(tx: Tx) -> None:
        shop.services.announcer.announce_task(tx, ended, clips=0, charged_micros=0, now_ms=1)

    await shop.services.database.write(end)
    (message,) = await outbox(shop)
    assert (message["kind"], message["event"]["type"]) == (kind, kind)
    assert message["event"]["data"]["status"] == state.value


# One transaction


async def test_what_is_not_committed_is_not_told(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies between the last statement and the commit."""
    await register(shop)
    task = await ask(shop, OWN)
    lease = await shop.claim(task)
    announce = shop.services.announcer.announce_task
    written = []

    def dying(tx: Tx, *arguments: Any, **named: Any) -> None:
        announce(tx, *arguments, **named)
        written.append(tx.exec_driver_sql("SELECT count(*) FROM webhook_deliveries").scalar_one())
        raise ZeroDivisionError

    monkeypatch.setattr(shop.services.announcer, "announce_task", dying)
    with pytest.raises(ZeroDivisionError):
        await shop.pipeline.run(lease)
    assert written == [2]
    assert await outbox(shop) == []
    assert (await shop.look(task)).state is TaskState.RUNNING
    monkeypatch.undo()
    await shop.lose_lease()
    await shop.finish(task)
    assert len(await outbox(shop)) == 2


async def test_a_worker_that_lost_its_lease_tells_nothing(shop: Workshop) -> None:
    await register(shop)
    task = await ask(shop)
    lease = await shop.claim(task)
    await shop.lose_lease()
    await shop.finish(task)
    with pytest.raises(Exception, match=task.id):
        await shop.pipeline.run(lease)
    assert len(await outbox(shop)) == 1


async def test_a_tenant_without_endpoints_pays_one_look(shop: Workshop) -> None:
    task = await ask(shop)
    lease = await shop.claim(task)
    await register_elsewhere(shop)
    statements = await traced(shop)
    await shop.pipeline.run(lease)
    assert len([each for each in statements if "webhook" in each]) == 1


async def register_elsewhere(shop: Workshop) -> None:
    other = await keep_tenant(shop.services.database)
    await shop.services.webhooks.create(ACT, other.id, HOOK)


async def traced(shop: Workshop) -> list[str]:
    """The statements that are executed from now on."""
    statements: list[str] = []
    writer = shop.services.database._writer

    def trace() -> None:
        raw = writer._existing()
        assert isinstance(raw, sqlite3.Connection)
        raw.set_trace_callback(statements.append)

    await writer.run(trace)
    return statements


async def test_the_look_uses_an_index(shop: Workshop) -> None:
    plan = await shop.rows(
        "EXPLAIN QUERY PLAN SELECT id, url, events FROM webhook_endpoints"
        " WHERE tenant_id = 'x' AND disabled_at_ms IS NULL"
    )
    assert [row[3] for row in plan] == [
        "SEARCH webhook_endpoints USING INDEX ix_webhook_endpoints_tenant_id (tenant_id=?)"
    ]


# Size


async def test_a_message_stays_below_twenty_kilobytes_whatever_the_metadata(shop: Workshop) -> None:
    """Sixteen entries of the longest kind, in characters of four bytes each."""
    await register(shop)
    await shop.finish(await ask(shop, **{f"{number:02}" + "𝄞" * 62: "𝄞" * 512 for number in range(16)}))
    shop.clock.advance(1)
    await shop.finish(await ask(shop, **{f"{number:02}": "𝄞" * 256 for number in range(16)}))
    large, small = await outbox(shop)
    assert len(large["body"].encode()) < BODY_LIMIT_BYTES
    assert large["event"]["data"]["metadata"] is None
    assert 16_000 < len(small["body"].encode()) < BODY_LIMIT_BYTES
    assert len(small["event"]["data"]["metadata"]) == 16


# Other events


async def test_a_budget_that_reached_a_share_of_its_limit_is_told(shop: Workshop) -> None:
    await register(shop, HOOK, EventType.BUDGET_WARNING)
    await register(shop, OWN, EventType.TASK_FAILED)
    alert = BudgetAlert("month", "2027-01", 80, 25_000_000, 19_980_000, 120_000)
    announcer, tenant_id = shop.services.announcer, shop.principal.tenant_id
    await shop.services.database.write(lambda tx: announcer.announce_budget(tx, tenant_id, alert, now_ms=1))
    (message,) = await outbox(shop)
    assert (message["url"], message["task_id"]) == (HOOK, None)
    assert message["event"] == {
        "type": "budget.warning",
        "timestamp": "1970-01-01T00:00:00.001Z",
        "data": {
            "window": "month",
            "period": "2027-01",
            "percent": 80,
            "limit_micros": 25_000_000,
            "spent_micros": 19_980_000,
            "held_micros": 120_000,
        },
    }


async def test_a_budget_of_a_tenant_without_endpoints_is_told_to_nobody(shop: Workshop) -> None:
    alert = BudgetAlert("day", "2027-01-15", 100, 1, 1, 0)
    announcer, tenant_id = shop.services.announcer, shop.principal.tenant_id
    await shop.services.database.write(lambda tx: announcer.announce_budget(tx, tenant_id, alert, now_ms=1))
    assert await outbox(shop) == []


# Addresses that requests name


async def test_an_address_that_is_plainly_inside_is_refused_before_anything_runs(shop: Workshop) -> None:
    for url in ("https://169.254.169.254/", "http://caller.example.com/", "https://u:p@example.com/"):
        with pytest.raises(InvalidRequest, match="webhook_url"):
            await ask(shop, url)
    assert await shop.rows("SELECT id FROM tasks") == []


async def test_the_address_is_kept_with_the_task(shop: Workshop) -> None:
    task = await ask(shop, OWN)
    assert task.webhook_url == (await shop.look(task)).webhook_url == OWN


def test_what_a_request_asks_for_includes_the_address() -> None:
    """So that one name cannot stand for two addresses."""
    submission = Submission(
        Route.LYRIA, MusicSpec("x"), None, {}, "r1", None, idempotency_key="k", webhook_url=OWN
    )
    first = submission.name(KeyMode.LIVE)
    second = replace(submission, webhook_url=HOOK).name(KeyMode.LIVE)
    assert first is not None
    assert second is not None
    assert (first.name_sha256, first.fingerprint) != (second.name_sha256, second.fingerprint)
    assert first.name_sha256 == second.name_sha256


def test_lanes_are_few_for_each_tenant_and_begin_with_it() -> None:
    task = a_task(a_key(a_tenant(id="ten_1")))
    lanes = {lane_of(task.tenant_id, None, f"https://{number}.example.com/") for number in range(2000)}
    assert len(lanes) == 64
    assert all(lane.startswith("ten_1:") for lane in lanes)
    assert lane_of("ten_1", "whep_1", HOOK) == "ten_1:whep_1"
    tails = ("", "/", "/1", "?1", "/2?3")
    assert len({lane_of("ten_1", None, f"https://example.com{tail}") for tail in tails}) == 1
