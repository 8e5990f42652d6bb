"""A task as server-sent events: all that happened to it, then what happens, until it ends.

Names and numbers of events are those of the rows that tell the task's story, so that a listener goes on where
it stopped, after a restart and on another instance as well.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import GatewayError
from gateway.families.family import clip_of, place_of
from gateway.metrics import Metrics
from gateway.model import Scope, TaskState
from gateway.ports import Clock
from gateway.tasks.feeds import Chronicle, Event, Feeds, Listener
from gateway.tasks.service import TaskService
from gateway.tasks.snapshots import Snapshot
from gateway.web.callers import CallerSource
from gateway.web.streams import HEARTBEAT, EventStream, Outlet, make_event, make_retry
from gateway.web.views import render_output, render_place, timestamp

logger = logging.getLogger(__name__)

_SHARED_MS = 1000
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_ENDS = frozenset(state.value for state in TaskState if state.terminal)
#: Events, by the kinds of the rows they are made of. Rows of other kinds are not told.
NAMES = {
    "queued": "queued",
    "requeued": "queued",
    "running": "running",
    "take": "take",
    "clip": "clip",
    **{end: end for end in _ENDS},
}


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """While nothing happens, a comment is sent every ``heartbeat_s``. After ``life_s`` a stream ends.

    Its client comes back after ``retry_s``, or up to three times as long.
    """

    life_s: float
    heartbeat_s: float = 15.0
    retry_s: float = 1.0


class EventApi:
    """``/api/task-status/{task_id}/events``."""

    def __init__(
        self,
        callers: CallerSource,
        tasks: TaskService,
        feeds: Feeds,
        render: Callable[[Snapshot], Awaitable[bytes]],
        metrics: Metrics,
        clock: Clock,
        jitter: Callable[[], float],
        policy: StreamPolicy,
    ) -> None:
        self._callers = callers
        self._tasks = tasks
        self._feeds = feeds
        self._render = render
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter
        self._policy = policy

    async def events(self, request: Request) -> Response:
        """204 for who has seen the end already: so an EventSource is told not to come back."""
        principal = await self._callers.identify(request, Scope.READ)
        task_id = request.path_params["task_id"]
        snapshot = await self._tasks.snapshot(principal, task_id)
        seen = parse_last_event_id(request.headers.get("last-event-id"))
        if seen and snapshot.task.state.terminal:
            chronicle = await self._feeds.read(task_id)
            if chronicle is not None and not _told_after(chronicle, seen):
                return Response(None, 204, {"Cache-Control": "no-store"})
        return EventStream(lambda outlet: self._stream(request, seen, outlet))

    async def _stream(self, request: Request, seen: int, outlet: Outlet) -> None:
        self._metrics.event_streams.inc()
        try:
            with self._feeds.listen(request.path_params["task_id"]) as listener:
                outlet.notice(listener.wake)
                # Not all at one moment, should this instance go away with thousands of them.
                await outlet.write(make_retry(self._policy.retry_s * (1 + 2 * self._jitter())))
                await self._tell(request, listener, seen, outlet)
        except GatewayError as error:
            # The answer has begun. Its client comes back, and is then told what is wrong.
            logger.warning("a stream of events was broken off: %s", error.internal or error.detail)
        finally:
            self._metrics.event_streams.dec()

    async def _tell(self, request: Request, listener: Listener, seen: int, outlet: Outlet) -> None:
        """Until nothing more will come, the client has left, its key is good no more, or its time is over."""
        until_s = self._clock.monotonic_s() + self._policy.life_s
        position: int | None = None
        while True:
            # In this order: whatever came before the end is told.
            over, chronicle = listener.over, listener.chronicle
            if chronicle is not None:
                if block := await self._news(chronicle, seen, position):
                    await outlet.write(block)
                seen, position = chronicle.newest, chronicle.position
            left_s = until_s - self._clock.monotonic_s()
            if over or outlet.gone or left_s <= 0:
                return
            happened = await listener.wait(min(self._policy.heartbeat_s, left_s))
            if outlet.gone or not await self._callers.is_still_good(request, Scope.READ):
                return
            if not happened:
                await outlet.write(HEARTBEAT)

    async def _news(self, chronicle: Chronicle, seen: int, position: int | None) -> bytes:
        """The events after ``seen``, or else the place in the queue if that is another one."""
        events = _told_after(chronicle, seen)
        moved = not events and chronicle.place is not None and chronicle.position != position
        if not events and not moved:
            return b""
        # Who hears of it at the same time is sent the same bytes, links included.
        now_ms = self._clock.now_ms()
        until_ms, block = chronicle.rendered.get(len(events), (now_ms, None))
        if block is None or now_ms >= until_ms:
            block = asyncio.ensure_future(self._render_news(chronicle, events))
            chronicle.rendered[len(events)] = (now_ms + _SHARED_MS, block)
        return block.result() if block.done() else await asyncio.shield(block)

    async def _render_news(self, chronicle: Chronicle, events: list[Event]) -> bytes:
        if not events:
            return make_event("queued", orjson.dumps(_queued(chronicle, chronicle.events[-1])))
        return b"".join([make_event(NAMES[e.kind], await self._data(chronicle, e), e.id) for e in events])

    async def _data(self, chronicle: Chronicle, event: Event) -> bytes:
        if event.kind in _ENDS:
            return await self._render(chronicle.snapshot)
        match NAMES[event.kind]:
            case "queued":
                return orjson.dumps(_queued(chronicle, event))
            case "take":
                return orjson.dumps(_common(chronicle, event) | _take(chronicle, event))
            case "clip":
                return orjson.dumps(await self._clip(chronicle, event))
            case name:
                return orjson.dumps(_common(chronicle, event) | {"status": name})

    async def _clip(self, chronicle: Chronicle, event: Event) -> dict[str, Any]:
        """A clip that was deleted since has no output."""
        clips = zip(chronicle.task.clips, await self._tasks.links(chronicle.task), strict=True)
        index = event.data["index"]
        output = next((render_output(clip, link) for clip, link in clips if clip.index == index), None)
        return _common(chronicle, event) | {"index": index, "output": output}


def _take(chronicle: Chronicle, event: Event) -> dict[str, Any]:
    """A part of a clip is there, which is joined from several."""
    spec, number = chronicle.task.spec, int(event.data["number"])
    return {"index": clip_of(spec, number), "take": place_of(spec, number) + 1, "of": spec.takes}


def parse_last_event_id(text: str | None) -> int:
    """The number of an event; 0 for what is none of ours."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else 0


def _told_after(chronicle: Chronicle, seen: int) -> list[Event]:
    return [event for event in chronicle.after(seen) if event.kind in NAMES]


def _common(chronicle: Chronicle, event: Event) -> dict[str, Any]:
    return {"task_id": chronicle.task.id, "at": timestamp(event.at_ms)}


def _queued(chronicle: Chronicle, event: Event) -> dict[str, Any]:
    """The place is where the task stands now: of a wait that is over, there is none."""
    return _common(chronicle, event) | {"status": "queued", "queue": render_place(chronicle.place)}
