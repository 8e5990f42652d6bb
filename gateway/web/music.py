"""The music API: two ways to ask for music, and the task that comes of it."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import FieldError, InvalidRequest
from gateway.model import MusicSpec, Principal, Route, Scope, Task, TaskState
from gateway.ports import Clock
from gateway.tasks.budget import describe
from gateway.tasks.canceler import Canceler
from gateway.tasks.queueview import GOOD_FOR_S, QueueView
from gateway.tasks.service import TaskService
from gateway.tasks.snapshots import Snapshot
from gateway.tasks.submission import Submission
from gateway.telemetry import trace_names
from gateway.web.answers import answer
from gateway.web.bodies import read_fields, read_json
from gateway.web.callers import CallerSource
from gateway.web.deadlines import CANCEL_AFTER, parse_cancel_after
from gateway.web.naming import NAME, parse_name
from gateway.web.preferences import NO_PREFERENCE, Preference, parse_prefer
from gateway.web.problems import limit_headers
from gateway.web.queries import read_query
from gateway.web.schemas import MusicGenerateBody, MusicGenerateLyriaBody, parse_body
from gateway.web.views import render_quote, render_task

_POLL_AGAIN_S = "2"
_REMEMBER_MS = 60_000
_REMEMBER_QUEUED_MS = round(GOOD_FOR_S * 1000)


class MusicApi:
    """``/api``: everything a caller with a key can do."""

    def __init__(
        self,
        callers: CallerSource,
        tasks: TaskService,
        canceler: Canceler,
        queue: QueueView,
        clock: Clock,
        *,
        public_url: str,
        wait_s: float,
        timeout_s: float,
    ) -> None:
        self._callers = callers
        self._tasks = tasks
        self._canceler = canceler
        self._queue = queue
        self._clock = clock
        self._public_url = public_url
        self._wait_s = wait_s
        self._timeout_s = timeout_s

    async def generate(self, request: Request) -> Response:
        principal = await self._callers.identify(request, Scope.GENERATE)
        body = parse_body(MusicGenerateBody, await read_fields(request))
        return await self._submit(request, principal, Route.STANDARD, body.spec(), body)

    async def generate_lyria(self, request: Request) -> Response:
        principal = await self._callers.identify(request, Scope.GENERATE)
        body = parse_body(MusicGenerateLyriaBody, await read_json(request))
        return await self._submit(request, principal, Route.LYRIA, body.spec(), body)

    async def status(self, request: Request) -> Response:
        principal = await self._callers.identify(request, Scope.READ)
        task_id = request.path_params["task_id"]
        prefer = _preference(request)
        wait_s = prefer.seconds(0.0, self._wait_s)
        if wait_s:
            task = await self._tasks.wait(principal, task_id, timeout_s=wait_s)
            document = await self._document(task)
        else:
            snapshot = await self._tasks.snapshot(principal, task_id)
            task = snapshot.task
            document = await self.remembered(snapshot)
        headers = {} if task.state.terminal else {"Retry-After": _POLL_AGAIN_S}
        if applied := prefer.applied(self._wait_s, answered_async=False):
            headers["Preference-Applied"] = applied
        return answer(document, 200, headers)

    async def cancel(self, request: Request) -> Response:
        principal = await self._callers.identify(request, Scope.GENERATE)
        read_query(request)
        task = await self._canceler.cancel(principal, request.path_params["task_id"])
        return answer(await self._document(task))

    async def _submit(
        self,
        request: Request,
        principal: Principal,
        route: Route,
        spec: MusicSpec,
        body: MusicGenerateBody | MusicGenerateLyriaBody,
    ) -> Response:
        submission = Submission(
            route=route,
            spec=spec,
            model=body.model,
            metadata=body.metadata,
            request_id=request.scope["request_id"],
            traceparent=_traceparent(request),
            idempotency_key=parse_name(request.headers.getlist(NAME)),
            webhook_url=body.webhook_url,
            start_within_s=parse_cancel_after(request.headers.getlist(CANCEL_AFTER), self._timeout_s),
        )
        if _is_dry_run(request):
            quote = await self._tasks.quote(principal, submission)
            return answer(render_quote(quote))
        prefer = _preference(request)
        wait_s = prefer.seconds(self._wait_s, self._wait_s)
        admitted = await self._tasks.submit(principal, submission, wait_s=wait_s)
        task = admitted.task
        request.scope["ids"]["task_id"] = task.id
        headers = {"Idempotent-Replayed": "true"} if admitted.joined else {}
        if admitted.rate is not None:
            headers |= limit_headers(admitted.rate)
        if applied := prefer.applied(self._wait_s, answered_async=not task.state.terminal):
            headers["Preference-Applied"] = applied
        document = await self._document(task, tuple(map(describe, admitted.alerts)))
        if task.state.terminal:
            return answer(document, 200, headers)
        headers |= {"Location": f"/api/task-status/{task.id}", "Retry-After": _POLL_AGAIN_S}
        return answer(document, 202, headers)

    async def _document(self, task: Task, warnings: tuple[str, ...] = ()) -> bytes:
        links = await self._tasks.links(task)
        place = await self._queue.place(task)
        return orjson.dumps(render_task(task, links, self._public_url, warnings, place))

    async def remembered(self, snapshot: Snapshot) -> bytes:
        """The task's document, made once for all polls between two changes; its links are renewed in time.

        While it is queued its place changes without it.
        """
        now_ms = self._clock.now_ms()
        if now_ms >= snapshot.rendered_until_ms:
            task = snapshot.task
            links = await self._tasks.links(task)
            place = await self._queue.place(task)
            snapshot.rendered = orjson.dumps(render_task(task, links, self._public_url, place=place))
            longest_ms = _REMEMBER_QUEUED_MS if task.state is TaskState.QUEUED else _REMEMBER_MS
            left_ms = min((link.expires_at_ms - now_ms for link in links), default=_REMEMBER_MS)
            snapshot.rendered_until_ms = now_ms + min(longest_ms, left_ms // 2)
        return snapshot.rendered


def _is_dry_run(request: Request) -> bool:
    """Whether ``?dry_run=true``. A name that is not known is refused: a misspelt dry run would cost money."""
    value = read_query(request, ("dry_run",)).get("dry_run", "false")
    if value not in {"true", "false"}:
        raise InvalidRequest((FieldError("dry_run", "wrong_type", "must be true or false."),))
    return value == "true"


def _preference(request: Request) -> Preference:
    values = request.headers.getlist("prefer")
    return parse_prefer(values) if values else NO_PREFERENCE


def _traceparent(request: Request) -> str | None:
    """The caller's trace context if it is well-formed: it is kept with the task and sent on to the model."""
    offered = request.headers.get("traceparent")
    return offered if trace_names(offered) else None
