"""The server's HTTP/1.1 side: what anybody may make us hold is bounded, and what is no HTTP is told so.

All of this comes before any key, so no limit of a tenant helps against it.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import ErrorCode, GatewayError
from gateway.web.problems import problem

#: Request line and headers together, beyond the first read; and whatever else is not body, such as trailers.
HEAD_LIMIT_BYTES = 65_536
#: Requests sent ahead on one connection while another is being answered.
PIPELINE_LIMIT = 64
#: For a request to be whole, from its connection or its first byte on. Bodies are small here.
ARRIVAL_S = 30.0
# Closing at once on a client that is still sending resets the connection, and the answer is lost with it.
_LINGER_S = 1.0


class GatewayProtocol(HttpToolsProtocol):
    """uvicorn's protocol; what it would answer in plain text becomes a problem document.

    uvicorn makes one for each connection; `protocol_class` gives the class its source of request ids.
    """

    new_request_id: Callable[[], str]
    arrival_s = ARRIVAL_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._in_message = False
        self._body_came = False
        self._bare_bytes = 0  # since the message began or its last piece of body
        self._refused = False
        self._arrival: asyncio.TimerHandle | None = None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._await_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        message, self._body_came = self.scope, False
        super().data_received(data)
        # The block in which a message begins may hold the end of another: it is not counted.
        if self._in_message and not self._body_came and self.scope is message:
            self._bare_bytes += len(data)
            if self._bare_bytes > HEAD_LIMIT_BYTES and not self._refused:
                self._refuse(
                    f"Request line and headers have at most {HEAD_LIMIT_BYTES} bytes together here.",
                    ErrorCode.HEADERS_TOO_LARGE,
                )
        if self._arrival is None and not self._refused and (self._in_message or self._is_forgotten()):
            self._await_arrival()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINE_LIMIT:
            raise ValueError("too many requests sent ahead")  # the parser makes a refusal of it
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._bare_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers mean nothing here, and must not pass for headers.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self._body_came = True
        self._bare_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._arrived()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._refused and not self.pipeline:
            self.transport.close()
        super().on_response_complete()

    # A request takes its time.

    def _await_arrival(self) -> None:
        self._arrival = self.loop.call_later(self.arrival_s, self._too_late)

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _is_forgotten(self) -> bool:
        """Whether nothing is owed, and uvicorn's own timer was stopped by bytes that are no request."""
        idle = self.cycle is None or self.cycle.response_complete
        return idle and self.timeout_keep_alive_task is None

    def _too_late(self) -> None:
        self._arrival = None
        if self._in_message and not self._refused:
            detail = f"The request was not whole within {self.arrival_s:g} seconds."
            self._refuse(detail, ErrorCode.MALFORMED_REQUEST)
        else:
            self.transport.close()

    # Refusals.

    def send_400_response(self, msg: str) -> None:
        self._refuse(msg, ErrorCode.MALFORMED_REQUEST)

    def _refuse(self, detail: str, code: ErrorCode) -> None:
        """Take nothing more from this connection, say why if it is our turn to speak, and end it."""
        self._refused = True
        self._arrived()
        broken = self.cycle if self._in_message and not self._in_head else None
        if broken is not None and self.pipeline:
            self.pipeline.popleft()  # the newest: it will never be whole
            return
        if broken is None and self.cycle is not None and not self.cycle.response_complete:
            return  # requests before it are whole and get their answers; the last of them closes
        if broken is not None:
            # Its handler hears of a client that left, and what it says goes nowhere.
            broken.disconnected = True
            broken.message_event.set()
        if broken is None or not broken.response_started:
            self._tell(detail, code)
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _tell(self, detail: str, code: ErrorCode) -> None:
        request_id = self.new_request_id()
        response = problem(GatewayError(detail, code=code), request_id)
        status = HTTPStatus(response.status_code)
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))


def protocol_class(new_request_id: Callable[[], str]) -> type[GatewayProtocol]:
    """The class to hand to uvicorn as ``http``."""
    bound = type("BoundGatewayProtocol", (GatewayProtocol,), {"new_request_id": staticmethod(new_request_id)})
    return cast("type[GatewayProtocol]", bound)
