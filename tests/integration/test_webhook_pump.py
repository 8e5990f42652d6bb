"""The pump against real receivers: delivered, tried again, given up, and never in anybody's way."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.errors import Unavailable
from gateway.messages import DisabledReason, EventType
from gateway.model import MusicSpec, Route, TaskState
from gateway.settings import Settings
from gateway.tasks.submission import Submission
from gateway.webhooks.backoff import MAX_TRIES, pause_s
from gateway.webhooks.delivery import FAILING_FOR_MS
from gateway.webhooks.outbox import lane_of
from gateway.webhooks.service import Changes
from gateway.webhooks.sharing import Caps
from tests.api import until
from tests.clock import SetClock
from tests.factories import ACT, a_caller
from tests.fakes import FailingDatabase
from tests.posting import PostOffice, open_post_office
from tests.receiver import answering, closing, hanging, receiving


@pytest.fixture
async def office(settings: Settings) -> AsyncIterator[PostOffice]:
    """On the machine's own clock, its pump running."""
    async with open_post_office(settings) as opened:
        opened.services.pump.start()
        yield opened


@pytest.fixture
async def timed(settings: Settings, clock: SetClock) -> AsyncIterator[PostOffice]:
    """On a clock that stands still, its pump running."""
    async with open_post_office(settings, clock) as opened:
        opened.services.pump.start()
        yield opened


def look(office: PostOffice) -> None:
    """The clock was set: the pump looks now rather than within a second."""
    office.services.pump._due.set()


# Delivered


async def test_an_event_reaches_its_endpoint_signed(office: PostOffice) -> None:
    async with receiving() as receiver:
        endpoint = await office.register(receiver.url)
        await office.announce()
        (received,) = await receiver.until_received(1)
        await office.until_states("delivered")
        event = received.verified(await office.secret(endpoint))
    assert (event["type"], event["data"]["percent"]) == ("budget.warning", 80)
    assert received.id.startswith("msg_")
    assert await office.tries() == [(1, 200, None)]
    ((id_, finished_at_ms, token),) = await office.rows(
        "SELECT id, finished_at_ms, lease_token FROM webhook_deliveries"
    )
    assert (id_, token) == (received.id, None)
    assert finished_at_ms is not None


async def test_a_tasks_end_reaches_the_endpoint_and_the_address_of_the_request(office: PostOffice) -> None:
    office.services.runner.start()
    async with receiving() as registered, receiving() as named:
        endpoint = await office.register(registered.url, EventType.TASK_SUCCEEDED)
        submission = Submission(
            Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None, webhook_url=named.url
        )
        task = (await office.services.tasks.submit(office.principal, submission, wait_s=30)).task
        (first,), (second,) = await registered.until_received(1), await named.until_received(1)
        told = first.verified(await office.secret(endpoint))
        assert second.verified(await office.secret()) == told
    assert (told["type"], told["data"]["task_id"]) == ("task.succeeded", task.id)
    assert first.id != second.id
    await office.until_states("delivered", "delivered")


async def test_during_a_rotation_both_secrets_verify(office: PostOffice) -> None:
    async with receiving() as receiver:
        endpoint = await office.register(receiver.url)
        old = await office.secret(endpoint)
        new = (await office.services.webhooks.rotate(ACT, office.tenant_id, endpoint.id, overlap_s=3600)).text
        await office.announce()
        (received,) = await receiver.until_received(1)
    assert old != new
    assert received.verified(old) == received.verified(new)


async def test_what_waited_goes_to_where_the_endpoint_is_now(office: PostOffice) -> None:
    async with receiving(answering(500)) as wrong, receiving() as right:
        endpoint = await office.register(wrong.url)
        await office.announce()
        await office.until_tries(1)
        changed = await office.services.webhooks.change(
            ACT, office.tenant_id, endpoint.id, Changes(url=right.url)
        )
        assert changed.failing_since_ms is None
        ((delivery_id,),) = await office.rows("SELECT id FROM webhook_deliveries")
        await office.services.webhooks.replay(office.tenant_id, delivery_id)
        (received,) = await right.until_received(1)
        assert received.id == wrong.received[0].id
        await office.until_states("delivered")


async def test_metrics_and_logs_tell_how_it_went_but_no_address(
    office: PostOffice, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "gateway")
    async with receiving(answering(500), answering(200)) as receiver:
        endpoint = await office.register(f"{receiver.url}/s3cret?token=t0ken")
        await office.announce()
        await office.until_tries(1)
        text = office.services.metrics.render().decode()
        assert 'gateway_webhook_tries_total{outcome="rejected"} 1.0' in text
        assert "gateway_webhook_seconds_count 0.0" in text
        assert (await office.services.look_at_backlog()).webhooks == 1
        await office.services.webhooks.replay_failed(office.tenant_id)
    told = "\n".join(str(vars(record)) for record in caplog.records)
    assert "rejected" in told
    assert endpoint.id in told
    for hidden in ("s3cret", "t0ken", await office.secret(endpoint)):
        assert hidden not in told


# Tried again


async def test_a_failure_is_tried_again_under_the_same_id(timed: PostOffice, clock: SetClock) -> None:
    async with receiving(answering(500), closing, answering(200)) as receiver:
        endpoint = await timed.register(receiver.url)
        await timed.announce()
        for tries in (1, 2):
            await timed.until_tries(tries)
            assert (await timed.endpoint(endpoint)).failing_since_ms is not None
            pause = await timed.due_in_s()
            assert pause == pause_s(tries, 0.5)
            clock.advance(pause)
            look(timed)
        await timed.until_states("delivered")
        assert len({received.id for received in receiver.received}) == 1
        signatures = {received.headers["webhook-signature"] for received in receiver.received}
        assert len(signatures) == 3
    assert await timed.tries() == [(1, 500, "rejected"), (2, None, "broken_off"), (3, 200, None)]
    assert (await timed.endpoint(endpoint)).failing_since_ms is None
    seconds = 'gateway_webhook_seconds_bucket{le="60.0"} 1.0'
    assert seconds in timed.services.metrics.render().decode()


async def test_after_the_last_try_it_has_failed(timed: PostOffice, clock: SetClock) -> None:
    async with receiving(answering(500)) as receiver:
        await timed.register(receiver.url)
        await timed.announce()
        for tries in range(1, MAX_TRIES):
            await timed.until_tries(tries)
            clock.advance(await timed.due_in_s())
            look(timed)
        await timed.until_states("failed")
        assert len(receiver.received) == MAX_TRIES
    assert len(await timed.tries()) == MAX_TRIES


async def test_a_busy_receiver_is_left_in_peace_for_as_long_as_it_asks(
    timed: PostOffice,
) -> None:
    async with receiving(answering(503, Retry_After="900")) as receiver:
        await timed.register(receiver.url)
        await timed.announce()
        await timed.until_tries(1)
    assert await timed.due_in_s() == 900


async def test_a_replay_keeps_the_id_and_has_as_many_tries_as_a_new_one(
    timed: PostOffice, clock: SetClock
) -> None:
    async with receiving(answering(200), answering(500), answering(200)) as receiver:
        await timed.register(receiver.url)
        await timed.announce()
        await timed.until_states("delivered")
        ((delivery_id,),) = await timed.rows("SELECT id FROM webhook_deliveries")
        clock.advance(7200)
        await timed.services.webhooks.replay(timed.tenant_id, delivery_id)
        await timed.until_tries(2)
        assert await timed.due_in_s() == pause_s(1, 0.5)
        clock.advance(10)
        look(timed)
        await timed.until_states("delivered")
        assert {received.id for received in receiver.received} == {delivery_id}
    assert [number for number, _, _ in await timed.tries()] == [1, 2, 3]
    # That it came two hours late says nothing about the pump.
    assert "gateway_webhook_seconds_count 1.0" in timed.services.metrics.render().decode()


# Given up for good


async def test_an_endpoint_that_says_gone_is_disabled_at_once_and_the_others_hear_of_it(
    timed: PostOffice,
) -> None:
    async with receiving(answering(410)) as gone, receiving() as other:
        endpoint = await timed.register(gone.url)
        await timed.register(other.url, EventType.WEBHOOK_DISABLED)
        await timed.announce()
        (notice,) = await other.until_received(1)
        await timed.until_states("failed", "delivered")
        assert len(gone.received) == 1
    assert notice.event["type"] == "webhook.disabled"
    assert notice.event["data"] == {
        "endpoint_id": endpoint.id,
        "description": "",
        "reason": "gone",
        "failing_since": "2027-01-15T08:00:00.000Z",
    }
    disabled = await timed.endpoint(endpoint)
    assert disabled.disabled_reason is DisabledReason.GONE
    await timed.announce()
    assert await timed.states() == ["delivered", "failed"]


async def test_an_address_of_a_request_that_says_gone_is_not_asked_again(timed: PostOffice) -> None:
    async with receiving(answering(410)) as receiver:
        await tell_of_a_task(timed, receiver.url)
        await timed.until_states("failed")
    assert await timed.tries() == [(1, 410, "gone")]


async def test_an_endpoint_that_fails_for_five_days_is_disabled_and_the_others_hear_of_it(
    timed: PostOffice, clock: SetClock
) -> None:
    """Whatever the messages: no single one is tried for so long."""
    async with receiving(answering(500)) as broken, receiving() as other:
        endpoint = await timed.register(broken.url, EventType.BUDGET_WARNING)
        await timed.register(other.url, EventType.WEBHOOK_DISABLED)
        await timed.announce()
        await timed.until_tries(1)
        clock.advance(FAILING_FOR_MS / 1000 - 1)
        look(timed)
        await timed.until_tries(2)
        assert (await timed.endpoint(endpoint)).disabled_at_ms is None
        clock.advance(await timed.due_in_s())
        look(timed)
        (notice,) = await other.until_received(1)
        assert notice.event["data"]["reason"] == "failing"
    assert (await timed.endpoint(endpoint)).disabled_reason is DisabledReason.FAILING


async def test_what_waits_for_an_endpoint_that_is_disabled_or_deleted_is_not_sent(
    timed: PostOffice, clock: SetClock
) -> None:
    async with receiving(answering(500)) as first, receiving(answering(500)) as second:
        disabled, deleted = await timed.register(first.url), await timed.register(second.url)
        await timed.announce()
        await timed.until_tries(2)
        await timed.services.webhooks.change(ACT, timed.tenant_id, disabled.id, Changes(enabled=False))
        await timed.services.webhooks.delete(ACT, timed.tenant_id, deleted.id)
        clock.advance(60)
        look(timed)
        await timed.until_states("failed", "failed")
        assert (len(first.received), len(second.received)) == (1, 1)
    assert [error for _, _, error in await timed.tries()] == ["rejected", "disabled"] * 2
    # That it was sent nothing is not held against it.
    assert (await timed.endpoint(disabled)).disabled_reason is DisabledReason.REQUESTED


async def tell_of_a_task(office: PostOffice, url: str) -> None:
    """A task that named this address ends."""
    submission = Submission(Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None, webhook_url=url)
    task = (await office.services.tasks.submit(office.principal, submission)).task
    ended = replace(task, state=TaskState.CANCELED)
    now_ms = office.services.clock.now_ms()
    await office.services.database.write(
        lambda tx: office.services.announcer.announce_task(
            tx, ended, clips=0, charged_micros=0, now_ms=now_ms
        )
    )


# In nobody's way


async def test_a_receiver_that_hangs_holds_up_no_other_and_gets_few_at_a_time(office: PostOffice) -> None:
    async with receiving(hanging) as stuck, receiving() as well:
        await office.register(stuck.url)
        await office.register(well.url)
        await office.announce(40)
        await well.until_received(40)
        await office.until_states(*["delivered"] * 40, *["pending"] * 40)
        assert stuck.connections == Caps().lane


async def test_addresses_of_requests_that_hang_hold_up_no_other_host(office: PostOffice) -> None:
    async with receiving(hanging) as stuck, receiving() as first, receiving() as second:
        # Two of 64 lanes; that both others share the first one's is as good as impossible.
        well = first if lane_of("t", None, first.url) != lane_of("t", None, stuck.url) else second
        for _ in range(10):
            await tell_of_a_task(office, stuck.url)
        await tell_of_a_task(office, well.url)
        await well.until_received(1)
        assert stuck.connections <= Caps().lane


async def test_a_tenant_whose_receivers_all_hang_leaves_room_for_others(
    office: PostOffice, settings: Settings
) -> None:
    async with receiving(hanging) as stuck, receiving() as well:
        for number in range(20):
            await office.register(f"{stuck.url}/{number}")
        await office.announce(4)
        await stuck.until_received(Caps().tenant)
        other = replace(office, principal=(await a_caller(office.services.database))[0])
        await other.register(well.url)
        await other.announce()
        await well.until_received(1)
        assert stuck.connections == Caps().tenant


async def test_the_worker_does_not_wait_for_receivers(office: PostOffice) -> None:
    """peers.md W1: a target that is down left the runner busy for ever."""
    office.services.runner.start()
    async with receiving(hanging) as stuck:
        await office.register(stuck.url)
        for _ in range(Caps().lane + 2):
            submission = Submission(
                Route.LYRIA, MusicSpec("slow piano"), None, {}, "r1", None, webhook_url=stuck.url
            )
            admitted = await office.services.tasks.submit(office.principal, submission, wait_s=30)
            assert admitted.task.state is TaskState.SUCCEEDED
        assert await stuck.until_received(1)


# Several pumps, and pumps that die


async def test_two_pumps_send_each_message_once(office: PostOffice, settings: Settings) -> None:
    async with receiving() as receiver, open_post_office(settings) as second:
        second.services.pump.start()
        for _ in range(3):
            await office.register(f"{receiver.url}/{_}")
        for _ in range(10):
            await office.announce(5)
        await office.until_states(*["delivered"] * 150)
        ids = [received.id for received in receiver.received]
        assert len(ids) == len(set(ids)) == 150


async def test_what_was_committed_is_delivered_by_the_next_process(settings: Settings) -> None:
    async with receiving() as receiver:
        async with open_post_office(settings) as first:
            await first.register(receiver.url)
            await first.announce()
        async with open_post_office(settings) as second:
            second.services.pump.start()
            assert await receiver.until_received(1)
            await second.until_states("delivered")


async def test_a_lease_that_was_lost_means_a_second_delivery_under_the_same_id(
    timed: PostOffice, settings: Settings
) -> None:
    """The first pump is so slow that its lease runs out; what it then learns changes nothing."""
    slow = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await slow.wait()
        await answering(500)(writer)

    later = SetClock(timed.services.clock.now_ms() + 61_000)
    async with receiving(slowly, answering(200)) as receiver, open_post_office(settings, later) as second:
        await timed.register(receiver.url)
        await timed.announce()
        await receiver.until_received(1)
        second.services.pump.start()
        await timed.until_states("delivered")
        slow.set()
        await timed.services.drain()
        first, again = receiver.received
    assert first.id == again.id
    assert await timed.tries() == [(1, 200, None)]
    assert await timed.states() == ["delivered"]


async def test_a_lease_that_holds_keeps_other_pumps_away(timed: PostOffice, settings: Settings) -> None:
    earlier = SetClock(timed.services.clock.now_ms() + 59_000)
    async with receiving(hanging) as receiver, open_post_office(settings, earlier) as second:
        await timed.register(receiver.url)
        await timed.announce()
        await receiver.until_received(1)
        assert await second.services.pump._claim() is False


# Draining


async def test_a_drain_lets_what_is_under_way_end_and_claims_nothing_more(settings: Settings) -> None:
    answer = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await answer.wait()
        await answering(200)(writer)

    async with receiving(slowly) as receiver, open_post_office(settings) as office:
        office.services.pump.start()
        await office.register(receiver.url)
        await office.announce()
        await receiver.until_received(1)
        draining = asyncio.create_task(office.services.drain())
        await asyncio.sleep(0)
        await office.announce()
        answer.set()
        await draining
        assert await office.states() == ["delivered", "pending"]
        assert len(receiver.received) == 1


async def test_what_does_not_end_within_the_grace_time_is_given_back_at_once(settings: Settings) -> None:
    impatient = settings.model_copy(update={"grace_s": 0.1})
    async with receiving(hanging, answering(200)) as receiver:
        async with open_post_office(impatient) as first:
            first.services.pump.start()
            await first.register(receiver.url)
            await first.announce()
            await receiver.until_received(1)
            await first.services.drain()
            assert await first.rows("SELECT state, lease_token, attempt_count FROM webhook_deliveries") == [
                ("pending", None, 0)
            ]
            assert await first.due_in_s() <= 0
        async with open_post_office(settings) as second:
            second.services.pump.start()
            await second.until_states("delivered")
        assert receiver.received[0].id == receiver.received[1].id


async def test_a_drain_in_the_middle_of_a_claim_gives_back_what_it_won(settings: Settings) -> None:
    """The claim commits after the drain has begun: nothing may be left under a lease that nobody minds."""
    impatient = settings.model_copy(update={"grace_s": 0.1})
    async with receiving(hanging) as receiver, open_post_office(impatient) as office:
        await office.register(receiver.url)
        await office.announce()
        pump, write = office.services.pump, office.services.database.write
        claiming, go_on = asyncio.Event(), asyncio.Event()

        class Held(FailingDatabase):
            async def write(self, function):
                claiming.set()
                await go_on.wait()
                return await write(function)

        pump._database = Held(office.services.database, after=0, failures=0)
        pump.start()
        await claiming.wait()
        draining = asyncio.create_task(pump.drain())
        await asyncio.sleep(0)
        go_on.set()
        await draining
        assert await office.rows("SELECT state, lease_token FROM webhook_deliveries") == [("pending", None)]


async def test_a_pump_that_was_never_started_drains_as_well(settings: Settings) -> None:
    async with open_post_office(settings) as office:
        await office.services.pump.drain()


# Trouble


async def test_a_database_that_is_away_for_a_while_is_waited_for(timed: PostOffice) -> None:
    async with receiving() as receiver:
        await timed.register(receiver.url)
        pump = timed.services.pump
        pump._database = FailingDatabase(timed.services.database, after=1, failures=2)
        await timed.announce()
        await timed.until_states("delivered")
        assert len(receiver.received) == 1


async def test_a_database_that_stays_away_means_that_it_goes_out_again(
    timed: PostOffice, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver:
        await timed.register(receiver.url)
        pump = timed.services.pump
        pump._database = FailingDatabase(timed.services.database, after=1, failures=5)
        await timed.announce()
        await receiver.until_received(1)
        await asyncio.wait(list(pump._active))
        assert "it will go out again" in caplog.text
        assert await timed.states() == ["pending"]
        clock.advance(60)
        look(timed)
        await timed.until_states("delivered")
        assert receiver.received[0].id == receiver.received[1].id


async def test_a_claim_that_fails_is_tried_again(
    office: PostOffice, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as receiver:
        await office.register(receiver.url)
        failures = [Unavailable("not now", internal="disk I/O error"), ZeroDivisionError()]
        read = office.services.database.read

        async def failing(function):
            if failures:
                raise failures.pop(0)
            return await read(function)

        monkeypatch.setattr(
            office.services.pump, "_database", FailingDatabase(office.services.database, after=9, failures=0)
        )
        monkeypatch.setattr(office.services.pump._database, "read", failing)
        await office.announce()
        await receiver.until_received(1)
    assert "disk I/O error" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_mistake_of_ours_in_one_delivery_puts_it_back_and_ends_nothing(
    timed: PostOffice, clock: SetClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def put_back() -> bool:
        return await timed.due_in_s() == 5

    async with receiving() as receiver:
        await timed.register(receiver.url)
        monkeypatch.setattr(timed.services.pump._sender, "_pools", {})
        await timed.announce()
        await until(put_back)
        assert "a webhook was put back" in caplog.text
        monkeypatch.undo()
        clock.advance(5)
        look(timed)
        await timed.until_states("delivered")


async def test_a_mistake_whose_delivery_cannot_be_given_back_waits_for_its_lease(
    timed: PostOffice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def told() -> bool:
        return "its lease will run out" in caplog.text

    async with receiving() as receiver:
        await timed.register(receiver.url)
        pump = timed.services.pump
        monkeypatch.setattr(pump._sender, "_pools", {})
        pump._database = FailingDatabase(timed.services.database, after=1, failures=1)
        await timed.announce()
        await until(told)
    assert await timed.due_in_s() == 60
