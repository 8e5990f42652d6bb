"""Writing an answer to the wire in pieces, and breaking the connection on purpose."""

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.emulator.answers import AnswerBody
from gateway.emulator.calls import Outcome
from gateway.emulator.faults import Fault

JSON_TYPE = "application/json; charset=UTF-8"

_TRANSPORT = "emulator.transport"

#: SO_LINGER on, zero seconds: closing sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ExposedTransport(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with the transport in the ASGI scope so that a fault can break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: {"transport": self.transport}}


@dataclass(frozen=True, slots=True)
class Wire:
    """One request's connection, as ASGI and as a transport."""

    scope: Scope
    receive: Receive
    send: Send

    @property
    def transport(self) -> asyncio.Transport:
        transport: asyncio.Transport = self.scope["extensions"][_TRANSPORT]["transport"]
        return transport

    async def respond(self, response: Response) -> None:
        await response(self.scope, self.receive, self.send)

    async def until_gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def close(self, *, reset: bool) -> None:
        """Close once all that was written has left this process; a reset may destroy what is not yet read."""
        transport = self.transport
        while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110 - no such event
            await asyncio.sleep(0.001)
        if reset:
            connection: Any = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        else:
            transport.close()
        await self.until_gone()


async def send_answer(wire: Wire, body: AnswerBody, fault: Fault) -> Outcome:
    """200 and the body, as fast as the client takes it, broken off where ``fault`` says."""
    headers = [
        (b"content-type", JSON_TYPE.encode()),
        (b"content-length", str(body.size_bytes).encode()),
    ]
    await wire.send({"type": "http.response.start", "status": 200, "headers": headers})
    left = body.size_bytes if fault.cut_at_byte is None else min(fault.cut_at_byte, body.size_bytes)
    for block in body.blocks(fault.chunk_bytes):
        piece = block[:left]
        left -= len(piece)
        await wire.send({"type": "http.response.body", "body": piece, "more_body": True})
        if wire.transport.is_closing():
            return Outcome.ABANDONED
        if fault.chunk_delay_s:
            await asyncio.sleep(fault.chunk_delay_s)
        if not left:
            break
    if fault.cut_at_byte is not None:
        await wire.close(reset=fault.reset)
        return Outcome.CUT
    await wire.send({"type": "http.response.body", "body": b""})
    return Outcome.ANSWERED
