"""GET /api/task-status/{task_id}/events: what is told, in which order, to whom, and until when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from starlette.types import Message

from gateway.bootstrap.services import Services, open_services
from gateway.db import archive, tasks, work
from gateway.db.engine import Database, Tx
from gateway.db.work import AttemptEnd
from gateway.errors import ErrorCode, StorageError, Unavailable
from gateway.model import Scope, Task, TaskState
from gateway.settings import Settings
from gateway.tasks import feeds
from gateway.web.events import NAMES, StreamPolicy, parse_last_event_id
from tests.api import Caller, make_apis, make_app, serving, until
from tests.databases import Store
from tests.emulator import RunningEmulator
from tests.factories import ACT, a_clip
from tests.listening import listen
from tests.specification import Specification

SHORT_S = 0.05


async def story(services: Services, task_id: str) -> list[tuple[int, str]]:
    """Numbers and kinds of the rows that tell of the task."""
    events = await services.database.read(lambda tx: archive.list_events(tx, task_id))
    return [(event.id, event.kind) for event in events]


async def claim(services: Services, task_id: str, token: str = "mine") -> None:
    now_ms = services.clock.now_ms()
    lease = await services.database.write(
        lambda tx: work.claim(tx, task_id, token=token, now_ms=now_ms, expires_at_ms=now_ms + 60_000)
    )
    assert lease is not None


async def store_clip(services: Services, task_id: str, index: int = 0) -> None:
    """As a call that delivers one clip, and leaves the task running."""

    def write(tx: Tx) -> None:
        task = tasks.get_tasks(tx, [task_id])[task_id]
        attempt = f"a{index}"
        work.begin_attempt(
            tx, task_id, token="mine", attempt_id=attempt, deployment="d", clips_asked=1, now_ms=1
        )
        work.end_attempt(tx, task_id, AttemptEnd(attempt, "succeeded", (a_clip(task, index),)), now_ms=1)

    await services.database.write(write)


async def end(services: Services, task_id: str, state: TaskState = TaskState.SUCCEEDED) -> None:
    await services.database.write(
        lambda tx: work.finish(tx, task_id, token="mine", state=state, error=None, now_ms=1)
    )


@dataclass(frozen=True)
class Place:
    position: int
    starts_in_s: float | None


class View:
    """Tells one place of every task, until it is told another."""

    def __init__(self, place: Place | None) -> None:
        self.told = place

    async def place(self, _: Task) -> Place | None:
        return self.told


@asynccontextmanager
async def serving_with(settings: Settings, services: Services, policy: StreamPolicy) -> AsyncIterator[str]:
    """The gateway on a socket, its streams otherwise than by default."""
    apis = make_apis(settings, services)
    apis.events._policy = policy
    async with serving(make_app(apis, services)) as running:
        yield running


def streams_open(services: Services) -> bool:
    return services.metrics.registry.get_sample_value("gateway_event_streams") != 0


async def until_all_left(services: Services) -> None:
    async def nobody() -> bool:
        return not streams_open(services) and not services.feeds._feeds and not services.signals._waiters

    await until(nobody)


# What is told


@pytest.mark.usefixtures("worker")
async def test_all_that_happened_is_told_in_order_and_then_it_ends(caller: Caller, url: str) -> None:
    task = await caller.ended((await caller.ask_lyria(sampleCount=2))["task_id"])
    async with listen(url, task["task_id"], caller.key) as stream:
        events = await stream.rest()
    assert [event.name for event in events] == ["queued", "running", "clip", "clip", "succeeded"]
    kinds = [(event.number, event.name) for event in events]
    assert kinds == await story(caller.services, task["task_id"])
    queued, running, first, second, last = (event.data for event in events)
    assert (queued["status"], queued["queue"], queued["at"]) == ("queued", None, task["created_at"])
    assert (running["status"], running["at"]) == ("running", task["started_at"])
    assert [first["output"], second["output"]] == task["outputs"]
    assert last == task


async def test_what_is_told_has_the_documented_shape(
    caller: Caller, url: str, specification: Specification
) -> None:
    services, task_id = caller.services, (await caller.ask_lyria())["task_id"]
    services.feeds._view = View(Place(2, None))
    async with listen(url, task_id, caller.key) as stream:
        events = [await stream.next()]
        await claim(services, task_id)
        await store_clip(services, task_id)
        await end(services, task_id)
        events += await stream.rest()
    shapes = "/components/responses/TaskEvents/content/text~1event-stream/schema/oneOf"
    documented: dict[str, str] = {}
    for number, shape in enumerate(specification.at(shapes)):
        names = shape["properties"]["event"]
        pointer = f"{shapes}/{number}/properties/data/contentSchema"
        documented |= dict.fromkeys(names.get("enum", [names.get("const")]), pointer)
    assert set(documented) == set(NAMES.values())
    for event in events:
        specification.validator(documented[event.name]).validate(event.data)


@pytest.mark.usefixtures("worker")
async def test_a_listener_hears_of_each_step_of_the_worker(
    caller: Caller, url: str, emulator: RunningEmulator
) -> None:
    emulator.script({"delay_s": 0.3})
    task = await caller.ask_lyria()
    async with listen(url, task["task_id"], caller.key) as stream:
        assert await stream.names() == ["queued", "running", "clip", "succeeded"]
    await until_all_left(caller.services)


async def test_what_happens_is_told_when_it_happens(caller: Caller, url: str) -> None:
    services, task_id = caller.services, (await caller.ask_lyria(sampleCount=2))["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        assert (await stream.next()).name == "queued"
        await claim(services, task_id)
        assert (await stream.next()).name == "running"
        for index in range(2):
            await store_clip(services, task_id, index)
            clip = await stream.next()
            assert (clip.name, clip.data["index"], clip.data["output"]["index"]) == ("clip", index, index)
        await end(services, task_id)
        last = await stream.next()
        assert (last.name, last.data["status"], len(last.data["outputs"])) == ("succeeded", "succeeded", 2)
        assert await stream.next() is None


async def test_a_task_that_is_put_back_is_queued_again(caller: Caller, url: str) -> None:
    services, task_id = caller.services, (await caller.ask())["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        await claim(services, task_id)
        await services.database.write(
            lambda tx: work.requeue(tx, task_id, token="mine", not_before_ms=1, reason="drain", now_ms=1)
        )
        assert [(await stream.next()).name for _ in range(3)] == ["queued", "running", "queued"]
        await claim(services, task_id)
        await end(services, task_id, TaskState.FAILED)
        assert await stream.names() == ["running", "failed"]


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELED])
async def test_every_end_has_its_name(caller: Caller, url: str, state: TaskState) -> None:
    services, task_id = caller.services, (await caller.ask())["task_id"]
    await claim(services, task_id)
    await end(services, task_id, state)
    async with listen(url, task_id, caller.key) as stream:
        assert (await stream.rest())[-1].name == state.value


def test_every_state_has_an_event() -> None:
    assert {state.value for state in TaskState} == set(NAMES.values()) - {"clip", "take"}


async def test_rows_of_another_kind_are_not_told(caller: Caller, url: str) -> None:
    """As a later version may write them."""
    services, task_id = caller.services, (await caller.ask())["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        await stream.next()
        await services.database.write(lambda tx: tasks.add_event(tx, task_id, "noticed", at_ms=1))
        await claim(services, task_id)
        assert (await stream.next()).name == "running"


async def test_a_clip_that_is_gone_has_no_output(caller: Caller, url: str, store: Store) -> None:
    services, task_id = caller.services, (await caller.ask_lyria())["task_id"]
    await claim(services, task_id)
    await store_clip(services, task_id)
    await store.execute("DELETE FROM outputs")
    async with listen(url, task_id, caller.key) as stream:
        clip = [await stream.next() for _ in range(3)][-1]
        assert (clip.name, clip.data["index"], clip.data["output"]) == ("clip", 0, None)


# The answer around it


async def test_the_answer_is_an_event_stream_that_nothing_keeps_or_holds_back(
    caller: Caller, url: str
) -> None:
    task = await caller.ask()
    async with listen(url, task["task_id"], caller.key) as stream:
        await stream.next()
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        assert 1000 <= stream.retry_ms <= 3000


@pytest.mark.usefixtures("worker")
async def test_what_is_streamed_is_documented(caller: Caller) -> None:
    """The client in process is held to openapi.yaml."""
    task = await caller.ended((await caller.ask())["task_id"])
    response = await caller.status(f"{task['task_id']}/events")
    assert response.text.startswith("retry: ")
    assert response.text.endswith("\n\n")


async def test_head_is_answered_at_once(caller: Caller) -> None:
    task = await caller.ask()
    path = f"/api/task-status/{task['task_id']}/events"
    response = await caller.client.head(path, headers={"X-Api-Key": caller.key})
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"].startswith("text/event-stream")


async def test_head_on_a_socket_leaves_the_connection_for_the_next_request(caller: Caller, url: str) -> None:
    task = await caller.ask()
    lines = f"Host: gateway\r\nX-Api-Key: {caller.key}\r\n"
    head = f"HEAD /api/task-status/{task['task_id']}/events HTTP/1.1\r\n{lines}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(head.encode() + f"GET /livez HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
    answers = (await reader.read()).decode()
    writer.close()
    assert answers.count("HTTP/1.1 200 OK") == 2
    assert answers.endswith('{"status":"ok"}')


# Going on where one stopped


@pytest.mark.usefixtures("worker")
async def test_a_listener_goes_on_after_what_it_has_seen(caller: Caller, url: str) -> None:
    task = await caller.ended((await caller.ask_lyria())["task_id"])
    numbers = [number for number, _ in await story(caller.services, task["task_id"])]
    for told, seen in enumerate(numbers[:-1], 1):
        async with listen(url, task["task_id"], caller.key, seen) as stream:
            assert [event.number for event in await stream.rest()] == numbers[told:]


@pytest.mark.usefixtures("database")
async def test_nothing_is_lost_or_told_twice_over_two_connections(caller: Caller, url: str) -> None:
    services, task_id = caller.services, (await caller.ask_lyria())["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        first = [await stream.next()]
    await claim(services, task_id)
    await store_clip(services, task_id)
    async with listen(url, task_id, caller.key, first[0].number) as stream:
        second = [await stream.next(), await stream.next()]
        await end(services, task_id)
        second += await stream.rest()
    assert [(event.number, event.name) for event in first + second] == await story(services, task_id)


async def test_who_has_seen_the_end_is_told_not_to_come_back(caller: Caller) -> None:
    services, task_id = caller.services, (await caller.ask())["task_id"]
    await claim(services, task_id)
    await end(services, task_id)
    (*_, (last, _)) = await story(services, task_id)
    response = await caller.status(f"{task_id}/events", **{"Last-Event-ID": str(last)})
    assert (response.status_code, response.content) == (204, b"")
    await services.database.write(lambda tx: tasks.add_event(tx, task_id, "noticed", at_ms=1))
    assert (await caller.status(f"{task_id}/events", **{"Last-Event-ID": str(last)})).status_code == 204


@pytest.mark.parametrize("seen", ["", "x", "-1", "0", "999999999999", "1.5", "9" * 5000, "¹"])
async def test_a_number_that_is_none_of_the_tasks_means_from_the_beginning(
    caller: Caller, stranger: Caller, url: str, seen: str
) -> None:
    services, task_id = caller.services, (await caller.ask())["task_id"]
    await stranger.ask()
    await claim(services, task_id)
    await end(services, task_id)
    headers = [(b"X-Api-Key", caller.key.encode()), (b"Last-Event-ID", seen.encode("latin-1"))]
    response = await caller.client.get(f"/api/task-status/{task_id}/events", headers=headers)
    assert response.status_code == 200
    assert response.text.count("event: ") == 3


def test_numbers_are_read_as_they_are_written() -> None:
    assert [parse_last_event_id(text) for text in (None, "17", " 17", "+17", "1_7", "٣")] == [
        0,
        17,
        0,
        0,
        0,
        0,
    ]


# Places in the queue


async def test_a_place_is_told_and_told_again_when_it_is_another(
    caller: Caller, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_PLACE_EVERY_S", SHORT_S)
    services, task_id = caller.services, (await caller.ask())["task_id"]
    view = services.feeds._view = View(Place(3, 12.5))
    async with listen(url, task_id, caller.key) as stream:
        first = await stream.next()
        assert first.data["queue"] == {"position": 3, "starts_in_s": 12.5}
        view.told = Place(3, 11.0)
        view.told = Place(2, 8.0)
        again = await stream.next()
        assert (again.name, again.number) == ("queued", None)
        assert again.data == first.data | {"queue": {"position": 2, "starts_in_s": 8.0}}
        view.told = None
        await claim(services, task_id)
        assert (await stream.next()).name == "running"


async def test_who_comes_back_to_a_task_that_waits_is_told_its_place(caller: Caller, url: str) -> None:
    services, task_id = caller.services, (await caller.ask())["task_id"]
    services.feeds._view = View(Place(7, None))
    ((number, _),) = await story(services, task_id)
    async with listen(url, task_id, caller.key, number) as stream:
        event = await stream.next()
        assert (event.number, event.data["queue"]["position"]) == (None, 7)


# How long it goes on


async def test_while_nothing_happens_there_are_heartbeats(
    caller: Caller, settings: Settings, services: Services
) -> None:
    task_id = (await caller.ask())["task_id"]
    policy = StreamPolicy(3300, heartbeat_s=SHORT_S)
    async with serving_with(settings, services, policy) as url, listen(url, task_id, caller.key) as stream:
        await stream.next()
        for _ in range(3):
            await stream.heartbeat()
        await claim(services, task_id)
        assert (await stream.next()).name == "running"


async def test_a_stream_ends_when_its_time_is_over(
    caller: Caller, settings: Settings, services: Services
) -> None:
    """And the connection, which proxies may count as well, is good for another request."""
    task_id = (await caller.ask())["task_id"]
    policy = StreamPolicy(life_s=SHORT_S)
    async with serving_with(settings, services, policy) as url, listen(url, task_id, caller.key) as stream:
        assert await stream.names() == ["queued"]
        await until_all_left(services)


async def test_streams_end_at_once_when_the_process_goes_away(
    caller: Caller, services: Services, url: str
) -> None:
    task_id = (await caller.ask())["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        await stream.next()
        services.signals.drain()
        assert await stream.next() is None
    # Whoever comes back to it too early hears what there is, and is sent on.
    async with listen(url, task_id, caller.key) as stream:
        assert await stream.names() == ["queued"]


async def test_a_listener_that_leaves_takes_everything_along(
    caller: Caller, services: Services, url: str
) -> None:
    task_id = (await caller.ask())["task_id"]
    async with listen(url, task_id, caller.key) as first:
        await first.next()
        async with listen(url, task_id, caller.key) as second:
            await second.next()
            assert len(services.feeds._feeds) == len(services.signals._waiters[task_id]) == 1
            assert services.metrics.registry.get_sample_value("gateway_event_streams") == 2
        await claim(services, task_id)
        assert (await first.next()).name == "running"
        assert len(services.feeds._feeds) == 1
    await until_all_left(services)


async def test_a_key_that_is_good_no_more_hears_nothing_more(
    caller: Caller, services: Services, url: str
) -> None:
    task_id = (await caller.ask())["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        await stream.next()
        await services.keyring.revoke(ACT, caller.key_id)
        await claim(services, task_id)
        assert await stream.next() is None
    async with listen(url, task_id, caller.key) as stream:
        assert stream.status == 401


async def test_a_client_that_does_not_read_is_waited_for(
    caller: Caller, settings: Settings, services: Services
) -> None:
    """The server keeps `send` waiting while its buffer is full: nothing more is made meanwhile."""
    task_id = (await caller.ask())["task_id"]
    apis, policy = make_apis(settings, services), StreamPolicy(3300, heartbeat_s=SHORT_S / 10)
    apis.events._policy = policy
    sent, reads_again = [], asyncio.Event()

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > 1:
            await reads_again.wait()

    async def receive() -> Message:
        return await asyncio.Future()

    path = f"/api/task-status/{task_id}/events"
    headers = [(b"x-api-key", caller.key.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": headers}
    listening = asyncio.create_task(make_app(apis, services)({**scope, "query_string": b""}, receive, send))
    await until(lambda: asyncio.sleep(0, len(sent) == 2))
    await claim(services, task_id)
    await end(services, task_id)
    await asyncio.sleep(SHORT_S)
    assert len(sent) == 2
    reads_again.set()
    await listening
    told = b"".join(message["body"] for message in sent[1:]).decode()
    assert [told.count(f"event: {name}\n") for name in ("queued", "running", "succeeded")] == [1, 1, 1]


# Trouble


async def test_a_database_that_is_away_for_a_while_loses_nothing(
    caller: Caller, services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_PAUSE_AFTER_FAILURE_S", SHORT_S)
    task_id = (await caller.ask())["task_id"]
    read, away = services.feeds._rows.get, [Unavailable("away"), Unavailable("away")]

    async def get(key: str) -> Any:
        if away:
            raise away.pop()
        return await read(key)

    async with listen(url, task_id, caller.key) as stream:
        await stream.next()
        monkeypatch.setattr(services.feeds._rows, "get", get)
        await claim(services, task_id)
        assert (await stream.next()).name == "running"
    assert away == []


async def test_while_the_database_cannot_say_a_key_is_good(
    caller: Caller, services: Services, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot_say(*_: object) -> None:
        raise Unavailable("away")

    task_id = (await caller.ask())["task_id"]
    policy = StreamPolicy(3300, heartbeat_s=SHORT_S)
    async with serving_with(settings, services, policy) as url, listen(url, task_id, caller.key) as stream:
        await stream.next()
        monkeypatch.setattr(services.authenticator, "authenticate", cannot_say)
        await stream.heartbeat()
        await stream.heartbeat()


async def test_draining_does_not_wait_for_the_database(
    caller: Caller, services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot_say(_: str) -> None:
        raise Unavailable("away")

    task_id = (await caller.ask())["task_id"]
    services.signals.drain()
    monkeypatch.setattr(services.feeds._rows, "get", cannot_say)
    async with listen(url, task_id, caller.key) as stream:
        assert await stream.next() is None


async def test_a_link_that_cannot_be_signed_ends_the_stream_and_not_the_server(
    caller: Caller, services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: str) -> None:
        raise StorageError("away", code=ErrorCode.STORAGE_UNAVAILABLE)

    task_id = (await caller.ask_lyria())["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        seen = await stream.next()
        await claim(services, task_id)
        await stream.next()
        with monkeypatch.context() as patch:
            patch.setattr(services.storage, "signed_url", fail)
            await store_clip(services, task_id)
            assert await stream.next() is None
    async with listen(url, task_id, caller.key, seen.number) as stream:
        assert [(await stream.next()).name for _ in range(2)] == ["running", "clip"]


async def test_a_mistake_of_ours_ends_the_streams_and_is_logged(
    caller: Caller, services: Services, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def place(self, _: Task) -> None:
            raise ZeroDivisionError

    services.feeds._view = Broken()
    async with listen(url, (await caller.ask())["task_id"], caller.key) as stream:
        assert await stream.next() is None
    assert "a task is no longer followed" in caplog.text


# What it costs


async def test_a_change_is_read_once_for_all_who_listen(
    caller: Caller, services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = (await caller.ask())["task_id"]
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(listen(url, task_id, caller.key)) for _ in range(20)]
        for stream in streams:
            await stream.next()
        asked = []
        get = services.feeds._rows.get
        monkeypatch.setattr(services.feeds._rows, "get", lambda key: asked.append(key) or get(key))
        await claim(services, task_id)
        assert {(await stream.next()).name for stream in streams} == {"running"}
        assert asked == [task_id]
        await end(services, task_id)
        assert {tuple(await stream.names()) for stream in streams} == {("succeeded",)}
        assert asked == [task_id] * 2


async def test_a_hint_that_means_nothing_wakes_no_listener(
    caller: Caller, services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes' commits may not say what they touch: then each task is looked at, once."""
    task_id = (await caller.ask())["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        await stream.next()
        asked, woken = [], []
        get = services.feeds._rows.get
        monkeypatch.setattr(services.feeds._rows, "get", lambda key: asked.append(key) or get(key))
        monkeypatch.setattr(feeds.Listener, "wake", woken.append)
        for times in range(1, 4):
            services.signals._hear(None)
            await until(lambda times=times: asyncio.sleep(0, len(asked) == times))
        assert woken == []


async def test_a_long_stream_is_counted_but_not_timed(caller: Caller, services: Services, url: str) -> None:
    task_id = (await caller.ask())["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        await stream.next()
        services.signals.drain()
        await stream.rest()
    route = "/api/task-status/{task_id}/events"
    value = services.metrics.registry.get_sample_value
    labels = {"route": route, "method": "GET", "status": "200"}
    assert value("gateway_http_requests_total", labels) == 1
    assert value("gateway_http_request_seconds_count", {"route": route}) == 0


async def test_a_stream_is_one_read_to_the_abuse_guard(
    caller: Caller, settings: Settings, specification: Specification
) -> None:
    limited = settings.model_copy(update={"reads_per_minute": 2})
    async with open_services(limited) as services:
        task_id = (await caller.ask())["task_id"]
        async with serving_with(limited, services, StreamPolicy(SHORT_S, heartbeat_s=SHORT_S / 10)) as url:
            for _ in range(2):
                async with listen(url, task_id, caller.key) as stream:
                    await stream.rest()
            async with listen(url, task_id, caller.key) as stream:
                assert stream.status == 429


# Other processes


async def test_what_another_process_does_is_heard(caller: Caller, url: str, database: Database) -> None:
    """``database`` is another process's: the same one, opened by itself."""
    task_id = (await caller.ask())["task_id"]
    async with listen(url, task_id, caller.key) as stream:
        await stream.next()

        def run(tx: Tx) -> None:
            work.claim(tx, task_id, token="other", now_ms=1, expires_at_ms=2)
            work.finish(tx, task_id, token="other", state=TaskState.FAILED, error=None, now_ms=1)

        await database.write(run)
        assert await stream.names() == ["running", "failed"]


# Who may listen


async def test_without_a_key_nothing_is_told(caller: Caller) -> None:
    task = await caller.ask()
    response = await caller.client.get(f"/api/task-status/{task['task_id']}/events")
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


async def test_a_key_that_may_not_read_hears_nothing(caller: Caller, services: Services) -> None:
    task = await caller.ask()
    _, key = await services.keyring.create(ACT, caller.tenant_id, name="x", scopes={Scope.GENERATE})
    response = await replace(caller, key=key).status(f"{task['task_id']}/events")
    assert (response.status_code, response.json()["code"]) == (403, "not_allowed")


async def test_another_tenants_task_does_not_exist(caller: Caller, stranger: Caller) -> None:
    task = await caller.ask()
    for task_id in (task["task_id"], "x"):
        response = await stranger.status(f"{task_id}/events", **{"Last-Event-ID": "1"})
        assert (response.status_code, response.json()["code"]) == (404, "task_not_found")
