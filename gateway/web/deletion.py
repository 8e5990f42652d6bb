"""Deleting a task: its prompt, its audio, and whatever else was said of it."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.model import Scope
from gateway.tasks.retention import Retention
from gateway.web.callers import CallerSource
from gateway.web.queries import read_query


class DeletionApi:
    """``DELETE /api/tasks/{task_id}``."""

    def __init__(self, callers: CallerSource, retention: Retention) -> None:
        self._callers = callers
        self._retention = retention

    async def delete(self, request: Request) -> Response:
        principal = await self._callers.identify(request, Scope.GENERATE)
        # What is not known is refused: a wish to try it out must not delete anything.
        read_query(request)
        task_id = request.path_params["task_id"]
        await self._retention.delete(principal, task_id)
        request.scope["ids"]["task_id"] = task_id
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
