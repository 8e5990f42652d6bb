"""Decoded audio on its way from one answer into the sinks of the clips that were asked for."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from gateway.errors import GatewayError, UpstreamError
from gateway.families.family import ModelCall
from gateway.ports import ClipSink
from gateway.upstream import faults
from gateway.upstream.audiojson import ClipFailed, ClipStarted, Event

#: Sinks hash and write to a disk or a network: a few large blocks cost them less than many small ones.
BLOCK_BYTES = 256 << 10

_log = logging.getLogger(__name__)


class ClipRouter:
    """Opens a sink per clip when its first audio comes, and finishes or aborts every one it opened.

    They fill ``call.takes`` in the order in which they come, but those of a seeded call by their place in the
    answer, since place i was made with seed + i. What was not asked for is dropped. A sink that refuses its
    audio with `UpstreamError` loses that clip only; the reason joins ``problems``. Where ``untyped`` strings
    may turn out to be no audio at all, what comes next may take the lost one's place.
    """

    def __init__(
        self,
        call: ModelCall,
        new_sink: Callable[[int], ClipSink],
        block_bytes: int = BLOCK_BYTES,
        *,
        untyped: bool = False,
    ) -> None:
        self.delivered = 0
        self.problems: list[UpstreamError] = []
        self._call = call
        self._new_sink = new_sink
        self._block_bytes = block_bytes
        self._untyped = untyped
        self._unfilled = list(call.takes)
        self._index: int | None = None  # the clip being received; None: what comes is dropped
        self._sink: ClipSink | None = None
        self._blocks: list[bytes] = []
        self._size_bytes = 0

    async def take(self, events: Iterable[Event]) -> None:
        """What the parser saw. What else a sink raises passes through; `close` is still to be called."""
        for event in events:
            if isinstance(event, ClipStarted):
                self._index = self._index_for(event)
            elif self._index is None:
                continue
            elif isinstance(event, bytes):
                self._blocks.append(event)
                self._size_bytes += len(event)
                if self._size_bytes >= self._block_bytes:
                    await self._or_lose_clip(self._flush(self._index))
            elif isinstance(event, ClipFailed):
                self.problems.append(faults.bad_answer(f"clip {event.number} is not base64: {event.reason}"))
                await self.close()
            else:
                await self._or_lose_clip(self._finish(self._index))

    async def close(self) -> None:
        """Abort the sink still open, if any, also while the task is being cancelled. Safe to repeat."""
        self._index = None
        self._blocks.clear()
        self._size_bytes = 0
        sink, self._sink = self._sink, None
        if sink is not None:
            await _abort(sink)

    def _index_for(self, clip: ClipStarted) -> int | None:
        index: int | None = None
        if self._call.seed is None or clip.position is None:
            index = self._unfilled[0] if self._unfilled else None
        elif clip.position < len(self._call.takes):
            index = self._call.takes[clip.position]
        if index is None or index not in self._unfilled:
            return None
        self._unfilled.remove(index)
        return index

    async def _or_lose_clip(self, step: Awaitable[None]) -> None:
        try:
            await step
        except UpstreamError as error:
            self.problems.append(error)
            if self._untyped and self._index is not None:
                self._unfilled.insert(0, self._index)
            await self.close()

    async def _flush(self, index: int) -> None:
        block = b"".join(self._blocks)
        self._blocks.clear()
        self._size_bytes = 0
        if self._sink is None:
            self._sink = self._new_sink(index)
        await self._sink.write(block)

    async def _finish(self, index: int) -> None:
        if self._blocks:
            await self._flush(index)
        if self._sink is None:
            raise faults.bad_answer(f"clip {index} has no audio")
        await self._sink.finish()
        self._sink = None
        self._index = None
        self.delivered += 1


async def _abort(sink: ClipSink) -> None:
    """Abort to the end: a second cancellation waits until the first has cleaned up."""
    aborting = asyncio.ensure_future(sink.abort())
    cancelled: asyncio.CancelledError | None = None
    while not aborting.done():
        try:
            await asyncio.wait({aborting})
        except asyncio.CancelledError as error:
            cancelled = error
    if not aborting.cancelled() and (failure := aborting.exception()) is not None:
        if not isinstance(failure, GatewayError):
            raise failure
        # Whatever made us abort matters more to the caller than this.
        _log.warning("a clip could not be withdrawn: %s", failure.internal or failure.detail)
    if cancelled is not None:
        raise cancelled
