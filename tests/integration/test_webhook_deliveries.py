"""The outbox as work: who may try what, and how much looking costs."""

from typing import Any

import pytest

from gateway.db import deliveries, webhooks
from gateway.db.deliveries import Claim
from gateway.db.engine import Database, Tx
from gateway.messages import Delivery, DeliveryState, Endpoint, EventType, TryOutcome
from gateway.model import Tenant
from tests.factories import NOW_MS, keep_tenant

LATER_MS = NOW_MS + 60_000


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await keep_tenant(database)


def a_delivery(tenant: Tenant, number: int = 1, **changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "id": f"msg_{number:026}",
        "tenant_id": tenant.id,
        "endpoint_id": None,
        "url": "https://hooks.example.com/",
        "kind": EventType.WEBHOOK_TEST,
        "task_id": None,
        "body": "{}",
        "state": DeliveryState.PENDING,
        "tries": 0,
        "next_attempt_at_ms": NOW_MS,
        "created_at_ms": NOW_MS,
    }
    return Delivery(**(values | changes))


async def keep(database: Database, tenant: Tenant, *numbers: int, lane: str = "a", **changes: Any) -> None:
    await database.write(
        lambda tx: [
            webhooks.add_delivery(tx, a_delivery(tenant, number, **changes), lane=lane) for number in numbers
        ]
    )


async def claim(
    database: Database, token: str = "mine", now_ms: int = NOW_MS, **shares: int
) -> tuple[Claim, ...]:
    return await database.write(
        lambda tx: deliveries.claim(tx, shares, token=token, now_ms=now_ms, expires_at_ms=now_ms + 60_000)
    )


async def try_it(database: Database, claimed: Claim, outcome: TryOutcome = TryOutcome.REJECTED) -> Any:
    return await database.write(
        lambda tx: deliveries.record_try(
            tx, claimed, at_ms=NOW_MS, duration_ms=5, status=500, outcome=outcome
        )
    )


async def finish(database: Database, claimed: Claim, state: DeliveryState, now_ms: int = NOW_MS) -> None:
    await database.write(lambda tx: deliveries.finish(tx, claimed, state, now_ms=now_ms))


async def get(database: Database, tenant: Tenant, number: int = 1) -> Delivery:
    found = await database.read(lambda tx: deliveries.get_delivery(tx, tenant.id, f"msg_{number:026}"))
    assert found is not None
    return found


async def due(database: Database, now_ms: int = NOW_MS) -> list[str]:
    return [each.lane for each in await database.read(lambda tx: deliveries.list_due(tx, now_ms=now_ms))]


# Claiming


async def test_the_longest_overdue_lane_comes_first(database: Database, tenant: Tenant) -> None:
    await keep(database, tenant, 1, lane="a", next_attempt_at_ms=NOW_MS - 1)
    await keep(database, tenant, 2, lane="b", next_attempt_at_ms=NOW_MS - 2)
    await keep(database, tenant, 3, lane="c", next_attempt_at_ms=NOW_MS + 1)
    assert await due(database) == ["b", "a"]
    assert await due(database, NOW_MS + 1) == ["b", "a", "c"]
    assert await due(database, NOW_MS - 5) == []


async def test_of_each_lane_its_share_is_taken_the_oldest_first(database: Database, tenant: Tenant) -> None:
    for number in (1, 2, 3):
        await keep(database, tenant, number, lane="a", next_attempt_at_ms=NOW_MS - number)
    await keep(database, tenant, 4, lane="b")
    claims = await claim(database, a=2, b=2, c=2)
    assert [(each.lane, each.delivery.id[-1], each.token) for each in claims] == [
        ("a", "3", "mine"),
        ("a", "2", "mine"),
        ("b", "4", "mine"),
    ]
    assert [each.delivery.id[-1] for each in await claim(database, "other", a=5, b=5)] == ["1"]


async def test_what_is_leased_is_due_again_when_the_lease_ends(database: Database, tenant: Tenant) -> None:
    await keep(database, tenant, 1)
    assert len(await claim(database, a=1)) == 1
    assert await due(database, LATER_MS - 1) == []
    assert await due(database, LATER_MS) == ["a"]
    (again,) = await claim(database, "other", LATER_MS, a=1)
    assert again.token == "other"


async def test_whoever_lost_a_lease_changes_nothing(database: Database, tenant: Tenant) -> None:
    await keep(database, tenant, 1)
    (lost,) = await claim(database, a=1)
    (held,) = await claim(database, "other", LATER_MS, a=1)
    assert await try_it(database, lost) is None
    await finish(database, lost, DeliveryState.FAILED)
    assert await database.write(lambda tx: deliveries.put_off(tx, lost, due_at_ms=0)) is False
    found = await get(database, tenant)
    assert (found.state, found.tries) == (DeliveryState.PENDING, 0)
    assert (await try_it(database, held)).number == 1


async def test_a_try_that_is_put_off_comes_back_when_it_says(database: Database, tenant: Tenant) -> None:
    await keep(database, tenant, 1)
    (held,) = await claim(database, a=1)
    assert (await try_it(database, held)).number == 1
    assert await database.write(lambda tx: deliveries.put_off(tx, held, due_at_ms=NOW_MS + 5000))
    assert await due(database, NOW_MS + 4999) == []
    (again,) = await claim(database, "next", NOW_MS + 5000, a=1)
    assert again.delivery.tries == 1


async def test_what_is_settled_is_due_no_more(database: Database, tenant: Tenant) -> None:
    await keep(database, tenant, 1, 2)
    for held, state in zip(await claim(database, a=2), ("delivered", "failed"), strict=True):
        await finish(database, held, DeliveryState(state))
    assert await due(database, NOW_MS * 2) == []
    assert await database.read(deliveries.count_pending) == 0


async def test_writing_and_replaying_are_heard_and_what_is_rolled_back_is_not(
    database: Database, tenant: Tenant
) -> None:
    heard: list[frozenset[str] | None] = []
    database.listen(heard.append)
    await keep(database, tenant, 1)
    await database.write(lambda tx: deliveries.replay(tx, tenant.id, f"msg_{1:026}", now_ms=NOW_MS))
    assert heard == [frozenset({webhooks.OUTBOX})] * 2

    def refused(tx: Tx) -> None:
        webhooks.add_delivery(tx, a_delivery(tenant, 2), lane="a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(refused)
    assert len(heard) == 2


# Replaying


async def test_numbers_of_tries_go_on_through_replays(database: Database, tenant: Tenant) -> None:
    await keep(database, tenant, 1)
    for round_ in (1, 2):
        (held,) = await claim(database, a=1)
        assert (await try_it(database, held, TryOutcome.DELIVERED)).number == round_
        await finish(database, held, DeliveryState.DELIVERED)
        assert (await get(database, tenant)).tries == 1
        assert await database.write(
            lambda tx: deliveries.replay(tx, tenant.id, f"msg_{1:026}", now_ms=NOW_MS)
        )
        assert (await get(database, tenant)).tries == 0
    tries = await database.read(lambda tx: deliveries.list_tries(tx, f"msg_{1:026}"))
    assert [tried.number for tried in tries] == [1, 2]


async def test_what_failed_after_the_replay_began_is_not_replayed_by_it(
    database: Database, tenant: Tenant
) -> None:
    """Otherwise a receiver that goes on failing would keep it busy for ever."""
    await keep(database, tenant, 1, 2)
    first, second = await claim(database, a=2)
    await finish(database, first, DeliveryState.FAILED, NOW_MS)
    await finish(database, second, DeliveryState.FAILED, NOW_MS + 1)
    count = await database.write(
        lambda tx: deliveries.replay_failed(tx, tenant.id, until_ms=NOW_MS, at_most=10, now_ms=NOW_MS)
    )
    assert count == 1
    assert (await get(database, tenant, 2)).state is DeliveryState.FAILED


# Forgetting


async def test_what_ended_long_ago_is_forgotten_a_little_at_a_time(
    database: Database, tenant: Tenant
) -> None:
    await keep(database, tenant, 1, 2, 3, 4)
    for held in (await claim(database, a=4))[:3]:
        await try_it(database, held)
        await finish(database, held, DeliveryState.FAILED, NOW_MS + int(held.delivery.id[-1]))

    async def forget(before_ms: int) -> int:
        return await database.write(lambda tx: deliveries.delete_old(tx, before_ms=before_ms, at_most=2))

    assert await forget(NOW_MS + 1) == 0
    assert [await forget(NOW_MS + 4) for _ in range(3)] == [2, 1, 0]
    left = await database.read(
        lambda tx: [tuple(row) for row in tx.exec_driver_sql("SELECT id FROM webhook_deliveries")]
    )
    tries = await database.read(
        lambda tx: tx.exec_driver_sql("SELECT count(*) FROM webhook_attempts").scalar_one()
    )
    assert (left, tries) == ([(f"msg_{4:026}",)], 0)


# What looking costs


async def test_looks_and_claims_use_their_index_whatever_waits(sqlite_database: Database) -> None:
    plans = await sqlite_database.read(
        lambda tx: [
            plan(tx, statement)
            for statement in (deliveries._DUE_LANES, deliveries._DUE, deliveries._REPLAY_FAILED)
        ]
    )
    for steps in plans:
        touching = [step for step in steps if "webhook_deliveries" in step]
        assert touching
        assert [step for step in touching if not step.startswith("SEARCH")] == []


def plan(tx: Tx, statement: Any) -> list[str]:
    compiled = statement.compile(dialect=tx.dialect)
    values = tuple(1 for _ in compiled.positiontup)
    return [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled.string}", values)]


# Endpoints


async def test_an_endpoint_is_kept_as_it_was_given(database: Database, tenant: Tenant) -> None:
    endpoint = Endpoint(
        "whep_1", tenant.id, "https://a.example.com", "mine", (EventType.TASK_FAILED,), NOW_MS
    )
    await database.write(lambda tx: webhooks.insert_endpoint(tx, endpoint))
    assert await database.read(lambda tx: webhooks.get_endpoint(tx, tenant.id, "whep_1")) == endpoint
    assert await database.read(lambda tx: webhooks.find_endpoint(tx, "whep_1")) == endpoint
    assert await database.read(lambda tx: webhooks.get_endpoint(tx, "ten_x", "whep_1")) is None


async def test_failures_count_from_the_first_and_a_success_ends_them(
    database: Database, tenant: Tenant
) -> None:
    endpoint = Endpoint("whep_1", tenant.id, "https://a.example.com", "", None, NOW_MS)
    await database.write(lambda tx: webhooks.insert_endpoint(tx, endpoint))
    for now_ms in (5, 6):
        assert await database.write(lambda tx, at=now_ms: webhooks.note_failure(tx, "whep_1", now_ms=at)) == 5
    await database.write(lambda tx: webhooks.note_success(tx, "whep_1"))
    assert await database.write(lambda tx: webhooks.note_failure(tx, "whep_1", now_ms=7)) == 7
