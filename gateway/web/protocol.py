"""The server's HTTP/1.1 side, with a limit on headers and our error shape where no application is reached."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import ErrorCode, GatewayError
from gateway.web.problems import problem

#: Request line and headers together, beyond the first read. They come before any key, so anybody can make
#: us hold this much.
HEAD_LIMIT_BYTES = 65_536
# Closing at once on a client that is still sending resets the connection, and the answer is lost with it.
_LINGER_S = 1.0


class GatewayProtocol(HttpToolsProtocol):
    """uvicorn's protocol; what it would answer in plain text becomes a problem document.

    uvicorn makes one for each connection; `protocol_class` gives the class its source of request ids.
    """

    new_request_id: Callable[[], str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._head_bytes = 0
        self._refused = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        message = self.scope
        super().data_received(data)
        # The block in which a message begins may hold the end of another: it is not counted.
        if self._in_head and self.scope is message:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES and not self._refused:
                self._refuse(
                    f"Request line and headers have at most {HEAD_LIMIT_BYTES} bytes together here.",
                    ErrorCode.HEADERS_TOO_LARGE,
                )

    def send_400_response(self, msg: str) -> None:
        self._refuse(msg, ErrorCode.MALFORMED_REQUEST)

    def _refuse(self, detail: str, code: ErrorCode) -> None:
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
        self._refused = True
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)


def protocol_class(new_request_id: Callable[[], str]) -> type[GatewayProtocol]:
    """The class to hand to uvicorn as ``http``."""
    bound = type("BoundGatewayProtocol", (GatewayProtocol,), {"new_request_id": staticmethod(new_request_id)})
    return cast("type[GatewayProtocol]", bound)
