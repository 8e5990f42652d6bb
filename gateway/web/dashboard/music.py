"""Pages about music: make some, see what was made, and how it came about."""

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.keyring import Keyring
from gateway.accounts.people import Permission
from gateway.errors import ErrorCode, InvalidRequest, NotFound
from gateway.families.registry import KINDS
from gateway.model import AudioFormat, KeyMode, Principal, Route, TaskState
from gateway.tasks.archive import Story, TaskArchive, TaskFilter
from gateway.tasks.canceler import Canceler
from gateway.tasks.queueview import QueueView
from gateway.tasks.retention import Retention
from gateway.tasks.service import TaskService
from gateway.tasks.standing import Standings
from gateway.tasks.submission import Submission
from gateway.web.account_views import render_offers
from gateway.web.admin.requests import Page, Parameters, cursor_at
from gateway.web.dashboard.callers import SessionCallers
from gateway.web.dashboard.desk import Desk, Seat, go
from gateway.web.dashboard.fields import body_of
from gateway.web.dashboard.forms import Form, form_of
from gateway.web.dashboard.home import tenant_path
from gateway.web.dashboard.snippets import snippets
from gateway.web.schemas import MusicGenerateBody, parse_body
from gateway.web.views import render_request

_TEXTS = ("prompt", "negative_prompt", "model", "outputFormat")
_NUMBERS = ("durationSeconds", "sampleCount", "seed", "bitrateKbps")
_FILTERS = ("state", "model", "key_id", "q")
EXAMPLES = (
    ("Lo-fi for late work", "lo-fi hip hop, dusty drums, warm Rhodes, vinyl crackle, 72 bpm", 30),
    ("Trailer, rising", "epic orchestral trailer, low strings and taiko, rising tension, D minor", 45),
    ("Morning podcast", "bright acoustic guitar, brushed snare, hopeful, unobtrusive, 100 bpm", 20),
    ("Game menu loop", "chiptune arpeggios over soft pads, curious, seamless loop, 120 bpm", 15),
)


class MusicPages:
    """``/dashboard/t/{tenant_id}/try`` and ``…/tasks``."""

    def __init__(
        self,
        desk: Desk,
        callers: SessionCallers,
        tasks: TaskService,
        archive: TaskArchive,
        standings: Standings,
        queue: QueueView,
        canceler: Canceler,
        retention: Retention,
        keyring: Keyring,
        public_url: str,
    ) -> None:
        self._desk = desk
        self._callers = callers
        self._tasks = tasks
        self._archive = archive
        self._standings = standings
        self._queue = queue
        self._canceler = canceler
        self._retention = retention
        self._keyring = keyring
        self._public_url = public_url

    async def show_try(self, request: Request) -> Response:
        """Empty, filled with an example, or with what an earlier task was asked for."""
        seat = await self._desk.enter(request, Permission.VIEW)
        asked: dict[str, Any] = {"prompt": "", "durationSeconds": 30, "sampleCount": 1}
        if earlier := request.query_params.get("from"):
            task = (await self._story(seat, earlier)).task
            asked |= {key: value for key, value in render_request(task).items() if key != "webhook_url"}
            asked["model"] = task.model
        elif (number := request.query_params.get("example", "")).isdecimal() and int(number) < len(EXAMPLES):
            _, asked["prompt"], asked["durationSeconds"] = EXAMPLES[int(number)]
        return await self._try(request, seat, asked)

    async def make(self, request: Request) -> Response:
        """Accept it and go to its page; sent twice, it is still one task."""
        seat = await self._desk.enter(request, Permission.GENERATE)
        form = form_of(request)
        asked = _asked(form)
        try:
            body = parse_body(MusicGenerateBody, asked)
        except InvalidRequest as error:
            return await self._try(request, seat, asked, error)
        principal = await self._principal(request, seat, form.text("mode"))
        submission = Submission(
            route=Route.STANDARD,
            spec=body.spec(),
            model=body.model,
            metadata={},
            request_id=request.scope["request_id"],
            traceparent=None,
            idempotency_key=form.text("once") or None,
        )
        admitted = await self._tasks.submit(principal, submission, wait_s=0)
        return go(tenant_path(seat.tenant_id, f"tasks/{admitted.task.id}"))

    async def list(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.VIEW)
        asked = Parameters(request, *_FILTERS)
        wanted = TaskFilter(
            tenant_id=seat.tenant_id,
            key_id=asked.text("key_id") or None,
            state=asked.choice("state", TaskState) if asked.text("state") else None,
            model=asked.one_of("model", KINDS) if asked.text("model") else None,
            text=asked.text("q") or None,
        )
        keys = await self._keyring.list(seat.tenant_id, limit=1000)
        if wanted.key_id is not None and wanted.key_id not in {key.id for key in keys}:
            raise NotFound("There is no such key in this tenant.", code=ErrorCode.NOT_FOUND)
        found = await self._archive.list(wanted, before=asked.place(), limit=asked.limit + 1)
        page = Page.of(found, asked.limit, lambda task: cursor_at(task.created_at_ms, task.id))
        filters = {name: asked.text(name) or "" for name in _FILTERS}
        older = urlencode({k: v for k, v in filters.items() if v} | {"cursor": page.next_cursor or ""})
        return self._desk.page(
            request,
            "tasks.html",
            seat=seat,
            tasks=page.items,
            older=older if page.next_cursor else "",
            filters=filters,
            keys=keys,
            key_names={key.id: key.name for key in keys},
            states=tuple(TaskState),
            kinds=KINDS,
        )

    async def show(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.VIEW)
        story = await self._story(seat, request.path_params["task_id"])
        task = story.task
        key = await self._keyring.get(task.key_id, tenant_id=seat.tenant_id)
        asked = {k: v for k, v in render_request(task).items() if k != "webhook_url"}
        path = f"/api/{task.route.value}"
        return self._desk.page(
            request,
            "task.html",
            seat=seat,
            task=task,
            story=story,
            key=key,
            clips=tuple(zip(task.clips, await self._tasks.links(task), strict=True)),
            place=await self._queue.place(task),
            snippets=snippets(self._public_url, path, asked),
            events=f"/dashboard/api/{seat.tenant_id}/{task.mode.value}/task-status/{task.id}/events",
        )

    async def cancel(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.GENERATE)
        task = (await self._story(seat, request.path_params["task_id"])).task
        await self._canceler.cancel(await self._principal(request, seat, task.mode.value), task.id)
        return go(tenant_path(seat.tenant_id, f"tasks/{task.id}"), "canceled")

    async def delete(self, request: Request) -> Response:
        seat = await self._desk.enter(request, Permission.GENERATE)
        task = (await self._story(seat, request.path_params["task_id"])).task
        await self._retention.delete(await self._principal(request, seat, task.mode.value), task.id)
        return go(tenant_path(seat.tenant_id, "tasks"), "deleted")

    async def _try(
        self, request: Request, seat: Seat, asked: dict[str, Any], error: InvalidRequest | None = None
    ) -> Response:
        principal = await self._principal(request, seat, KeyMode.LIVE.value)
        offers = render_offers(await self._standings.offers(principal))
        return self._desk.page(
            request,
            "try.html",
            seat=seat,
            status=400 if error else 200,
            asked=asked,
            offers=offers,
            formats=tuple(AudioFormat),
            faults=() if error is None else error.fields,
            examples=EXAMPLES,
            snippets=snippets(self._public_url, "/api/music_generate", asked),
            once=request.scope["request_id"],
        )

    async def _principal(self, request: Request, seat: Seat, mode: str) -> Principal:
        kind = KeyMode.TEST if mode == KeyMode.TEST.value else KeyMode.LIVE
        return await self._callers.principal(seat.visit, seat.membership, kind, self._desk.act(request))

    async def _story(self, seat: Seat, task_id: str) -> Story:
        """Raises `NotFound` for another tenant's task as for none."""
        story = await self._archive.find(task_id)
        if story is None or story.task.tenant_id != seat.tenant_id:
            raise NotFound("There is no such task in this tenant.", code=ErrorCode.TASK_NOT_FOUND)
        return story


def _asked(form: Form) -> dict[str, Any]:
    return body_of(form, _TEXTS, _NUMBERS, ("loudnessLufs",))
