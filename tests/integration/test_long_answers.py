"""An answer that is longer than any music: cut off at the limit, told of, and nothing of it left anywhere."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.families.lyria2 import LYRIA2
from gateway.model import KeyMode, TaskState
from gateway.settings import Settings
from tests.emulator import RunningEmulator
from tests.eventually import eventually
from tests.soundness import encoded, tone
from tests.workshop import Workshop, open_workshop

LIMIT_BYTES = 4 << 20
IN_BUFFERS_BYTES = 32 << 20
_WHOLE = base64.b64encode(encoded(tone(1.0)))
#: A multiple of three before it is encoded, so that pieces join up.
_PIECE = base64.b64encode(bytes(range(96)) * 512)


@dataclass
class Flood:
    """A model whose last clip never ends. ``whole`` clips come before it."""

    whole: int = 0
    url: str = ""
    sent_bytes: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
            writer.write(b'{"predictions": [')
            for _ in range(self.whole):
                writer.write(b'{"bytesBase64Encoded": "' + _WHOLE + b'"}, ')
            writer.write(b'{"bytesBase64Encoded": "' + base64.b64encode(encoded(tone(1.0))[:48]))
            while True:
                writer.write(_PIECE)
                await writer.drain()
                self.sent_bytes += len(_PIECE)
        except ConnectionError:
            pass  # hung up on
        finally:
            writer.close()


@asynccontextmanager
async def start_flood(whole: int) -> AsyncIterator[Flood]:
    flood = Flood(whole)
    server = await asyncio.start_server(flood.serve, "127.0.0.1", 0)
    flood.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield flood


@asynccontextmanager
async def flooded(
    settings: Settings, emulator: RunningEmulator, whole: int
) -> AsyncIterator[tuple[Workshop, Flood]]:
    """A workshop whose model floods it, with a limit that is soon reached and one attempt."""
    async with start_flood(whole) as flood:
        settings = settings.model_copy(update={"vertex_url": flood.url, "max_attempts": 1})
        async with open_workshop(settings, emulator) as shop:
            model = shop.pipeline._models[KeyMode.LIVE][LYRIA2]
            model._client._answer_limit_bytes = LIMIT_BYTES
            yield shop, flood


async def test_a_clip_without_end_is_cut_off_and_leaves_nothing(
    settings: Settings, emulator: RunningEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with flooded(settings, emulator, whole=0) as (shop, flood):
        task = await shop.finish(await shop.submit())
        assert (task.state, task.error.code) == (TaskState.FAILED, "model_answer_invalid")
        assert await shop.attempts() == [("failed", "broken", "model_answer_invalid", 0)]
        assert f"the answer is longer than {LIMIT_BYTES} bytes" in caplog.text
        # What lay in buffers on the way was sent too; far from all that would have come.
        assert flood.sent_bytes < LIMIT_BYTES + IN_BUFFERS_BYTES
        assert (shop.stored(), shop.unfinished()) == ([], [])
        await eventually(lambda: shop.pipeline._tools.scratch.used_bytes == 0)


async def test_a_clip_that_came_before_it_is_kept(settings: Settings, emulator: RunningEmulator) -> None:
    async with flooded(settings, emulator, whole=1) as (shop, _):
        task = await shop.finish(await shop.submit(sample_count=2))
        assert [clip.index for clip in task.clips] == [0]
        assert await shop.attempts() == [("failed", "broken", "model_answer_invalid", 1)]
        assert shop.stored() == [f"{task.clips[0].object_name.rsplit('/', 1)[-1]}.object"]
        await eventually(lambda: shop.pipeline._tools.scratch.used_bytes == 0)
