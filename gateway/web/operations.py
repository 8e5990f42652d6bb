"""What operators and their tools ask: is it alive, can it work, how is it doing, what does it offer."""

from collections.abc import Awaitable, Callable, Mapping

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import GatewayError
from gateway.metrics import Backlog, Metrics
from gateway.web.problems import problem

Check = Callable[[], Awaitable[None]]


class OperationsApi:
    """``/livez``, ``/readyz``, ``/metrics``, ``/openapi.yaml``."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        look_at_backlog: Callable[[], Awaitable[Backlog]],
        metrics: Metrics,
        specification: bytes,
    ) -> None:
        self._checks = checks
        self._look_at_backlog = look_at_backlog
        self._metrics = metrics
        self._specification = specification

    async def livez(self, request: Request) -> Response:  # noqa: ARG002 - the router calls it so
        """The process answers. Nothing else is looked at: a restart mends no database."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def readyz(self, request: Request) -> Response:
        """Every part that a request needs, with what is wrong where something is."""
        failures = {name: await _failure(check) for name, check in self._checks.items()}
        results = {name: error.detail if error else "ok" for name, error in failures.items()}
        for error in failures.values():
            if error is not None:
                return problem(error, request.scope["request_id"], {"checks": results})
        return Response(orjson.dumps({"status": "ok", "checks": results}), media_type="application/json")

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002 - the same
        try:
            self._metrics.backlog.counted(await self._look_at_backlog())
        except GatewayError:
            # The other figures matter most just when the database is away.
            self._metrics.backlog.unknown()
        return Response(self._metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(self, request: Request) -> Response:  # noqa: ARG002 - the same
        return Response(self._specification, media_type="application/yaml")


async def _failure(check: Check) -> GatewayError | None:
    try:
        await check()
    except GatewayError as error:
        return error
    return None
