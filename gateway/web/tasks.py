"""A tenant's own tasks, as a list."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.keyring import Keyring
from gateway.errors import FieldError, InvalidRequest, NotFound
from gateway.families.registry import KINDS
from gateway.model import Principal, Scope, Task, TaskState
from gateway.tasks.archive import TaskArchive, TaskFilter
from gateway.web.admin.requests import Page, Parameters, cursor_at
from gateway.web.callers import CallerSource
from gateway.web.views import render_price, render_request, timestamp

_FILTERS = ("key_id", "state", "model", "created_from", "created_before")


class TaskListApi:
    """``GET /api/tasks``."""

    def __init__(
        self, callers: CallerSource, archive: TaskArchive, keyring: Keyring, public_url: str
    ) -> None:
        self._callers = callers
        self._archive = archive
        self._keyring = keyring
        self._public_url = public_url

    async def list(self, request: Request) -> Response:
        principal = await self._callers.identify(request, Scope.READ)
        asked = Parameters(request, *_FILTERS)
        wanted = TaskFilter(
            tenant_id=principal.tenant_id,
            key_id=await self._own_key(principal, asked.text("key_id")),
            state=asked.choice("state", TaskState),
            model=asked.one_of("model", KINDS),
            created_from_ms=asked.moment_ms("created_from"),
            created_before_ms=asked.moment_ms("created_before"),
        )
        found = await self._archive.list(wanted, before=asked.place(), limit=asked.limit + 1)
        page = Page.of(found, asked.limit, lambda task: cursor_at(task.created_at_ms, task.id))
        return page.answer(self._render)

    async def _own_key(self, principal: Principal, key_id: str | None) -> str | None:
        """Raises `InvalidRequest` for another tenant's key as for one that is nobody's."""
        if key_id is None:
            return None
        try:
            return (await self._keyring.get(key_id, tenant_id=principal.tenant_id)).id
        except NotFound:
            fault = FieldError("key_id", "unknown_value", "is not the id of a key of your tenant.")
            raise InvalidRequest((fault,)) from None

    def _render(self, task: Task) -> dict[str, Any]:
        """Without links, which are signed for whoever asks for the one task."""
        return {
            "task_id": task.id,
            "key_id": task.key_id,
            "status": task.state.value,
            "model": task.model,
            "clips": len(task.clips),
            "price": render_price(task),
            "error": {"code": task.error.code, "detail": task.error.detail} if task.error else None,
            "request": render_request(task),
            "metadata": task.metadata,
            "created_at": timestamp(task.created_at_ms),
            "started_at": timestamp(task.started_at_ms),
            "finished_at": timestamp(task.finished_at_ms),
            "start_by": timestamp(task.start_by_at_ms),
            "status_url": f"{self._public_url}/api/task-status/{task.id}",
            "emulated": task.emulated,
            "test": task.test,
        }
