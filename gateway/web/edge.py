"""Everything around a handler, in one pass: request id, errors, headers, the log line, the metrics.

One ASGI layer rather than a stack of five: on the polling path each layer is a tenth of the time.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import ErrorCode, GatewayError
from gateway.metrics import Metrics
from gateway.telemetry import log_context, redact, trace_names
from gateway.web.problems import problem

logger = logging.getLogger("gateway.access")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_READS = frozenset({"GET", "HEAD"})
_CLIENT_CLOSED = 499


class Edge:
    """Wraps the router. Every answer that leaves has passed here, 404 and 500 included."""

    def __init__(self, router: ASGIApp, metrics: Metrics, new_request_id: Callable[[], str]) -> None:
        self._router = router
        self._metrics = metrics
        self._new_request_id = new_request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        await _Exchange(scope, send, self._request_id(scope)).run(self._router, receive, self._metrics)

    def _request_id(self, scope: Scope) -> str:
        offered = _header(scope, b"x-request-id")
        if not _REQUEST_ID.fullmatch(offered):
            return self._new_request_id()
        name = offered.decode()
        # A key put into the wrong header would be kept with the task and told back.
        return name if redact(name) == name else self._new_request_id()


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._status = 0
        self._started_s = time.perf_counter()
        scope["request_id"] = request_id
        # Starlette's router then raises for 404 and 405 instead of answering in a shape of its own.
        scope["app"] = self

    async def run(self, router: ASGIApp, receive: Receive, metrics: Metrics) -> None:
        trace = trace_names(_header(self._scope, b"traceparent").decode("latin-1"))
        with log_context(request_id=self._request_id, **trace):
            try:
                await router(self._scope, receive, self.send)
            except GatewayError as error:
                await self._fail(error, receive)
            except HTTPException as error:
                await self._fail(_routing_error(error, self._scope), receive, _allow(error))
            except ClientDisconnect:
                self._status = _CLIENT_CLOSED
            except Exception:  # the edge: whatever a handler got wrong becomes a 500 with a request id
                logger.exception("unexpected error")
                await self._fail(_mistake(), receive)
            self._record(metrics)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"].append((b"x-request-id", self._request_id.encode()))
        await self._send(message)

    async def _fail(
        self, error: GatewayError, receive: Receive, headers: Mapping[str, str] | None = None
    ) -> None:
        if self._status:
            # The answer has begun, its status is out: all that is left is to break it off.
            logger.error("failed after the answer began: %s", error.detail)
            raise error
        response = problem(error, self._request_id)
        response.headers.update(headers or {})
        if response.status_code >= 500:  # noqa: PLR2004 - the range of what is our fault
            logger.error("%s: %s", error.code.value, error.internal or error.detail)
        await response(self._scope, receive, self.send)

    def _record(self, metrics: Metrics) -> None:
        seconds = time.perf_counter() - self._started_s
        route = getattr(self._scope.get("route"), "path", "unmatched")
        method = self._scope["method"] if self._scope["method"] in _METHODS else "other"
        metrics.request_answered(route, method, self._status, None if self._scope.get("lasting") else seconds)
        # Polls, probes and downloads that go well say nothing that the metrics do not.
        well = self._scope["method"] in _READS and self._status < 400  # noqa: PLR2004 - where errors begin
        level = logging.DEBUG if well else logging.INFO
        if logger.isEnabledFor(level):
            # As it was sent, percent-encoded: no line break gets into the log. Without its query: a signed
            # link's query is a secret.
            path = self._scope["raw_path"].decode("latin-1")
            # https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#HttpRequest
            http = {"requestMethod": method, "requestUrl": path, "status": self._status}
            http["latency"] = f"{seconds:.6f}s"
            extra = {"status": self._status, "ms": round(seconds * 1000, 2), "http": http}
            logger.log(level, "%s %s", method, path, extra=extra | self._scope.get("ids", {}))


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def _routing_error(error: HTTPException, scope: Scope) -> GatewayError:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{scope['method']} is not for this address; use {_allow(error)['Allow']}."
        return GatewayError(detail, code=ErrorCode.METHOD_NOT_ALLOWED)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return GatewayError(
            "There is nothing at this address. /openapi.yaml lists what there is.",
            code=ErrorCode.ROUTE_NOT_FOUND,
        )
    if error.status_code >= 500:  # noqa: PLR2004 - the range of what is our fault
        return _mistake()
    return GatewayError(str(error.detail), code=ErrorCode.MALFORMED_REQUEST)


def _allow(error: HTTPException) -> dict[str, str]:
    """The Allow header of a 405, in one order: the framework's is that of a set."""
    allowed = (error.headers or {}).get("Allow")
    return {"Allow": ", ".join(sorted(allowed.split(", ")))} if allowed else {}


def _mistake() -> GatewayError:
    return GatewayError(
        "Something went wrong inside the gateway. Tell its operator the request id.",
        code=ErrorCode.INTERNAL_ERROR,
    )
