"""An instant upstream: prebuilt answers over raw sockets, so that it is never what is measured.

    python -m tests.bench.upstream PORT

Any path ending in ``:predict`` answers as Vertex AI's Lyria 2 does, and ``/v1/chat/completions`` as an
OpenAI-compatible model. What the prompt says chooses the answer: `TINY` one clip of 1.1 kB, `BIG` four clips
of 6.3 MB each, which is 33 MB of JSON, `HELD` none until the connection is closed, `GATED` a tiny one for all
who wait for it once somebody asks for ``/release``, `FLOOD` one clip of a gigabyte, its length not said.
"""

import asyncio
import base64
import json
import random
import struct
import sys
from typing import cast

import uvloop

TINY, BIG, HELD, GATED = "a tiny clip", "four long clips", "a clip that never comes", "a clip in its time"
FLOOD = "a clip of a gigabyte"
FLOOD_BYTES = 1 << 30

_FRAMES_BIG, _FRAMES_TINY = 32_800 * 48, 256
_FRAME_BYTES = 4
_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "fake",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


def big_answer_bytes() -> int:
    """The length of the body that `BIG` gives."""
    return len(_lyria_answer(_FRAMES_BIG, 4))


def _wav(frames: int) -> bytes:
    sound = random.Random(frames).randbytes(frames * _FRAME_BYTES)
    return _wav_head(len(sound)) + sound


def _wav_head(sound_bytes: int) -> bytes:
    return struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 36 + sound_bytes, b"WAVE", b"fmt ", 16, 1, 2, 48_000, 192_000, 4, 16
    ) + struct.pack("<4sI", b"data", sound_bytes)


def _lyria_answer(frames: int, clips: int) -> bytes:
    clip = {"bytesBase64Encoded": base64.b64encode(_wav(frames)).decode(), "mimeType": "audio/wav"}
    return json.dumps({"predictions": [clip] * clips, "deployedModelId": "1", "model": "lyria-002"}).encode()


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Answers:
    """Made once."""

    def __init__(self) -> None:
        self.ok = _response(b'{"status":"ok"}')
        self.chat = _response(json.dumps(_CHAT).encode())
        self.tiny = _response(_lyria_answer(_FRAMES_TINY, 1))
        self.big = _response(_lyria_answer(_FRAMES_BIG, 4))
        self.waiting: list[asyncio.Transport] = []
        # Heads and pieces are of whole groups of base64, so they join up.
        head = _wav_head(FLOOD_BYTES).ljust(48, b"\0")
        self.flood_head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
            b'{"predictions": [{"bytesBase64Encoded": "' + base64.b64encode(head)
        )
        self.flood_piece = base64.b64encode(bytes(range(48)) * 1024)

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for transport in waiting:
            transport.write(self.tiny)

    def choose(self, head: bytes, body: bytes) -> bytes | None:
        if b":predict " in head:
            if HELD.encode() in body:
                return None
            return self.big if BIG.encode() in body else self.tiny
        return self.chat if b"/chat/completions " in head else self.ok


class Connection(asyncio.Protocol):
    """Reads a whole request, writes a whole answer; keep-alive."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._flood_left_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as what they are.
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._flood(self._transport)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the base class's
        self._flood_left_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            length = _content_length(head) if found else 0
            if not found or len(rest) < length:
                return
            self._received = rest[length:]
            if self._transport is not None:
                self._answer(self._transport, head, rest[:length])

    def _answer(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        if GATED.encode() in body:
            self._answers.waiting.append(transport)
            return
        if FLOOD.encode() in body:
            transport.write(self._answers.flood_head)
            self._flood_left_bytes = FLOOD_BYTES
            self._flood(transport)
            return
        if head.startswith(b"POST /release "):
            self._answers.release()
        answer = self._answers.choose(head, body)
        if answer is not None:
            transport.write(answer)

    def _flood(self, transport: asyncio.Transport) -> None:
        """As much as the other side takes now."""
        while self._flood_left_bytes > 0 and not self._paused and not transport.is_closing():
            transport.write(self._answers.flood_piece)
            self._flood_left_bytes -= len(self._answers.flood_piece)
            if self._flood_left_bytes <= 0:
                transport.write(b'"}]}')
                transport.close()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def serve(port: int) -> None:
    answers = Answers()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answers), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
