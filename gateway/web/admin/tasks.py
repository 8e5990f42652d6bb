"""Everybody's tasks, the queue, and where models are called."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.families.registry import KINDS
from gateway.model import Deployment, TaskState
from gateway.tasks.archive import TaskArchive, TaskFilter
from gateway.tasks.canceler import Canceler
from gateway.web.admin.requests import Page, Parameters, act_of, cursor_at
from gateway.web.admin.views import render_deployment, render_line, render_story, render_summary
from gateway.web.answers import answer
from gateway.web.queries import read_query

_FILTERS = ("tenant_id", "key_id", "state", "model", "created_from", "created_before")


class TasksApi:
    """``/admin/api/tasks``, ``/admin/api/queue`` and ``/admin/api/deployments``."""

    def __init__(self, archive: TaskArchive, canceler: Canceler, deployments: tuple[Deployment, ...]) -> None:
        self._archive = archive
        self._canceler = canceler
        self._deployments = deployments

    async def list(self, request: Request) -> Response:
        asked = Parameters(request, *_FILTERS)
        wanted = TaskFilter(
            tenant_id=asked.text("tenant_id"),
            key_id=asked.text("key_id"),
            state=asked.choice("state", TaskState),
            model=asked.one_of("model", KINDS),
            created_from_ms=asked.moment_ms("created_from"),
            created_before_ms=asked.moment_ms("created_before"),
        )
        found = await self._archive.list(wanted, before=asked.place(), limit=asked.limit + 1)
        page = Page.of(found, asked.limit, lambda task: cursor_at(task.created_at_ms, task.id))
        return page.answer(render_summary)

    async def get(self, request: Request) -> Response:
        read_query(request)
        return answer(render_story(await self._archive.tell(request.path_params["task_id"])))

    async def cancel(self, request: Request) -> Response:
        read_query(request)
        task = await self._canceler.cancel_any(act_of(request), request.path_params["task_id"])
        return answer(render_story(await self._archive.tell(task.id)))

    async def queue(self, request: Request) -> Response:
        read_query(request)
        return Page(await self._archive.queue(), None).answer(render_line)

    async def deployments(self, request: Request) -> Response:
        read_query(request)
        return Page(self._deployments, None).answer(render_deployment)
