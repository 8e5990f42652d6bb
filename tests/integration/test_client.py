"""The client, with and without an event loop, at a real gateway and at one that misbehaves."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.client import ApiError, AsyncClient, Client, Clip, Patience, WebhookError, verify_webhook
from gateway.client.flows import EventParser
from tests.api import Caller, serving

QUICK = Patience(pauses_s=30, timeout_s=30, wait_s=20)


class Either:
    """Either client, awaited: the one without a loop works in a thread."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client

    async def do(self, method: str, *arguments: Any, **named: Any) -> Any:
        call = getattr(self._client, method)
        if isinstance(self._client, AsyncClient):
            found = call(*arguments, **named)
            return [each async for each in found] if inspect.isasyncgen(found) else await found
        if method in {"events", "tasks"}:
            return await asyncio.to_thread(lambda: list(call(*arguments, **named)))
        return await asyncio.to_thread(call, *arguments, **named)


@pytest.fixture(params=["sync", "async"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Either]]:
    made: list[Either] = []

    def make_one(url: str, key: str, paused_s: list[float] | None = None) -> Either:
        paused = [] if paused_s is None else paused_s

        async def pause(seconds: float) -> None:
            paused.append(seconds)

        client: Client | AsyncClient
        if request.param == "sync":
            client = Client(url, key, patience=QUICK, sleep=paused.append, jitter=lambda: 0.5)
        else:
            client = AsyncClient(url, key, patience=QUICK, sleep=pause, jitter=lambda: 0.5)
        made.append(Either(client))
        return made[-1]

    yield make_one
    for each in made:
        await each.do("close")


@pytest.fixture
async def url(app: ASGIApp, worker: object) -> AsyncIterator[str]:
    async with serving(app) as address:
        yield address


async def test_music_is_made_and_saved(
    make: Callable[..., Either], url: str, caller: Caller, tmp_path: Path
) -> None:
    client = make(url, caller.key)
    assert (await client.do("quote", "slow piano", seconds=1))["admitted"] is True
    task = await client.do("generate", "slow piano", seconds=1, samples=2, format="flac", seed=7)
    assert task.succeeded
    assert [clip.mime_type for clip in task.clips] == ["audio/flac"] * 2
    assert [event.name for event in await client.do("events", task.id)][-1] == "succeeded"
    assert (await client.do("get", task.id)).id == task.id
    assert (await client.do("account"))["tenant"]["id"] == caller.tenant_id
    assert (await client.do("models"))["models"]
    await client.do("delete", task.id)
    with pytest.raises(ApiError) as caught:
        await client.do("get", task.id)
    assert (caught.value.status, caught.value.code) == (404, "task_not_found")
    assert caught.value.request_id


async def test_what_is_wrong_is_said_by_field(make: Callable[..., Either], url: str, caller: Caller) -> None:
    with pytest.raises(ApiError) as caught:
        await make(url, caller.key).do("generate", "x", seconds=1000)
    assert [each["field"] for each in caught.value.fields] == ["durationSeconds"]
    with pytest.raises(ApiError, match="unauthorized"):
        await make(url, "mg_live_no").do("account")


async def test_tasks_are_listed_over_all_pages(make: Callable[..., Either], url: str, caller: Caller) -> None:
    made = [(await caller.ask())["task_id"] for _ in range(3)]
    found = await make(url, caller.key).do("tasks", limit="2", model="lyria-002")
    assert found == []
    found = await make(url, caller.key).do("tasks", limit="2")
    assert [task.id for task in found] == made[::-1]


class Moody:
    """A gateway that is busy twice, then takes it; remembers what it was sent. Its audio comes broken."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.streams: list[str | None] = []

    async def generate(self, request: Request) -> Response:
        self.names.append(request.headers["idempotency-key"])
        if len(self.names) == 1:
            return JSONResponse({"code": "rate_limited"}, 429, {"Retry-After": "7"})
        if len(self.names) == 2:
            return Response("proxy error", 502)
        return JSONResponse({"task_id": "task_1", "status": "succeeded", "finished_at": "now", "new": 1})

    async def events(self, request: Request) -> Response:
        """Breaks off within the second event; goes on where it was."""
        self.streams.append(request.headers.get("last-event-id"))
        first = (
            "retry: 1\nid: 1\nevent: queued\ndata: {}\n\n: heartbeat\n\nid: 2\nevent: succeeded\ndata: {}\n"
        )
        rest = "id: 2\nevent: succeeded\ndata: {}\n\n"
        return Response(first if len(self.streams) == 1 else rest, media_type="text/event-stream")

    async def status(self, _request: Request) -> Response:
        return JSONResponse({"task_id": "task_2", "status": "running"})

    async def away(self, _request: Request) -> Response:
        return JSONResponse({"code": "database_unavailable"}, 503, {"Retry-After": "20"})

    async def audio(self, _request: Request) -> Response:
        return Response(b"not what was promised")

    def app(self) -> ASGIApp:
        return Starlette(
            routes=[
                Route("/api/music_generate", self.generate, methods=["POST"]),
                Route("/api/task-status/task_2/events", self.away),
                Route("/api/task-status/{task_id}/events", self.events),
                Route("/api/task-status/task_2", self.status),
                Route("/api/account", self.away),
                Route("/audio", self.audio),
            ]
        )


async def test_a_busy_gateway_is_asked_again_under_one_name(make: Callable[..., Either]) -> None:
    moody, paused_s = Moody(), []
    async with serving(moody.app()) as url:
        task = await make(url, "key", paused_s).do("generate", "slow piano")
    assert task.id == "task_1"
    assert len(set(moody.names)) == 1
    assert paused_s == [7, 1.0]


async def test_patience_has_an_end(make: Callable[..., Either]) -> None:
    paused_s: list[float] = []
    async with serving(Moody().app()) as url:
        with pytest.raises(ApiError) as caught:
            await make(url, "key", paused_s).do("account")
    assert (caught.value.status, caught.value.retry_after_s, paused_s) == (503, 20, [20])


async def test_a_gateway_that_is_not_there_is_said_to_be(make: Callable[..., Either]) -> None:
    with pytest.raises(ApiError, match="unreachable"):
        await make("http://127.0.0.1:9", "key").do("account")


async def test_a_broken_stream_is_taken_up(make: Callable[..., Either]) -> None:
    moody = Moody()
    async with serving(moody.app()) as url:
        events = await make(url, "key").do("events", "task_1")
    assert [event.name for event in events] == ["queued", "succeeded"]
    assert moody.streams == [None, "1"]


async def test_events_that_are_always_refused_end_patience(make: Callable[..., Either]) -> None:
    paused_s: list[float] = []
    async with serving(Moody().app()) as url:
        with pytest.raises(ApiError, match="Only its events") as caught:
            await make(url, "key", paused_s).do("events", "task_2")
    assert (caught.value.status, sum(paused_s)) == (503, QUICK.pauses_s)


async def test_a_broken_download_leaves_nothing(make: Callable[..., Either], tmp_path: Path) -> None:
    async with serving(Moody().app()) as url:
        clip = Clip(f"{url}/audio", "audio/wav", 1.0, 10, "0" * 64, None)
        with pytest.raises(ApiError, match="broken_download"):
            await make(url, "key").do("download", clip, tmp_path / "a.wav")
        missing = Clip(f"{url}/nothing", "audio/wav", 1.0, 10, "", None)
        with pytest.raises(ApiError, match="link_invalid"):
            await make(url, "key").do("download", missing, tmp_path / "b.wav")
    assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []


def test_events_of_several_lines_are_one() -> None:
    parser = EventParser()
    lines = ["id: 5", "event: clip", 'data: {"index":', "data: 0}", "unknown: x", ""]
    found = [event for line in lines if (event := parser.feed(line)) is not None]
    assert [(event.name, event.data, event.id) for event in found] == [("clip", {"index": 0}, "5")]


def test_an_event_is_told_once_it_is_whole() -> None:
    parser = EventParser("4")
    for line in ("id: 5", "event: clip", "data: {}"):
        assert parser.feed(line) is None
    assert parser.last_id == "4"
    parser.feed("")
    assert parser.last_id == "5"


# Webhooks

SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
NOW = datetime(2026, 11, 26, tzinfo=UTC)
BODY = b'{"type": "task.succeeded"}'


def headers_of(secret: str = SECRET, **changed: str) -> dict[str, str]:
    signature = Webhook(secret).sign("msg_1", NOW, BODY.decode())
    usual = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(NOW.timestamp()))}
    return {**usual, "Webhook-Signature": f"v1,bm8= {signature}", **changed}


def test_a_webhook_is_verified_as_others_sign_it() -> None:
    assert verify_webhook(SECRET, headers_of(), BODY, now_s=NOW.timestamp) == json.loads(BODY)


@pytest.mark.parametrize(
    ("secret", "headers", "body", "later_s"),
    [
        (SECRET, headers_of(), BODY + b" ", 0),
        (SECRET, headers_of(), BODY, 301),
        (SECRET, headers_of(), BODY, -301),
        (SECRET, headers_of("whsec_" + "b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3Ro"), BODY, 0),
        (SECRET, headers_of(**{"Webhook-Id": "msg_2"}), BODY, 0),
        (SECRET, headers_of(**{"Webhook-Timestamp": "soon"}), BODY, 0),
        (SECRET, {}, BODY, 0),
        ("whsec_%%%", headers_of(), BODY, 0),
    ],
)
def test_others_are_refused(secret: str, headers: dict[str, str], body: bytes, later_s: float) -> None:
    with pytest.raises(WebhookError):
        verify_webhook(secret, headers, body, now_s=lambda: NOW.timestamp() + later_s)
