"""One clip on its way from a model's answer into storage: sniffed, measured, hashed, cut to length."""

import hashlib
from collections.abc import Callable

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.model import Clip, Task
from gateway.ports import ObjectWriter, Storage
from gateway.tasks.cut import WavCutter
from gateway.tasks.wav import WavError

_MIME_TYPE = "audio/wav"


class ClipWriter:
    """A `gateway.ports.ClipSink` that stores what passes through it. ``clip`` is set once it is visible."""

    def __init__(self, storage: Storage, task: Task, index: int, object_name: str, seed: int | None) -> None:
        self._storage = storage
        self._task = task
        self._index = index
        self._object_name = object_name
        self._seed = seed
        self._cutter = WavCutter(task.spec.duration_s)
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._writer: ObjectWriter | None = None
        self.clip: Clip | None = None

    async def write(self, block: bytes) -> None:
        try:
            audio = self._cutter.feed(block)
        except WavError as error:
            raise _not_audio(error) from error
        if audio:
            await self._store(audio)

    async def finish(self) -> None:
        try:
            tail, facts = self._cutter.finish()
        except WavError as error:
            raise _not_audio(error) from error
        if tail:
            await self._store(tail)
        if self._writer is None:
            raise _not_audio(WavError("no audio"))
        await self._writer.commit()
        self.clip = Clip(
            index=self._index,
            object_name=self._object_name,
            mime_type=_MIME_TYPE,
            size_bytes=self._size_bytes,
            sha256=self._sha256.hexdigest(),
            duration_s=facts.duration_s,
            sample_rate_hz=facts.sample_rate_hz,
            channels=facts.channels,
            seed=self._seed,
        )

    async def abort(self) -> None:
        if self._writer is not None:
            await self._writer.abort()

    async def _store(self, audio: bytes) -> None:
        if self._writer is None:
            # Nothing is opened in storage before the bytes have shown to be audio.
            self._writer = await self._storage.create(
                self._object_name, content_type=_MIME_TYPE, metadata={"task": self._task.id}
            )
        self._sha256.update(audio)
        self._size_bytes += len(audio)
        await self._writer.write(audio)


class ClipShelf:
    """Hands out the sinks of one call and remembers what they stored."""

    def __init__(
        self, storage: Storage, task: Task, attempt_id: str, seed_of: Callable[[int], int | None]
    ) -> None:
        self._storage = storage
        self._task = task
        self._attempt_id = attempt_id
        self._seed_of = seed_of
        self._writers: list[ClipWriter] = []

    def new_sink(self, index: int) -> ClipWriter:
        # The attempt is part of the name: a worker that lost its lease can never write over its successor.
        name = f"{self._task.tenant_id}/{self._task.id}/{index}-{self._attempt_id}.wav"
        writer = ClipWriter(self._storage, self._task, index, name, self._seed_of(index))
        self._writers.append(writer)
        return writer

    def begun(self) -> int:
        """How many clips' audio came, whatever became of it."""
        return len(self._writers)

    def stored(self) -> tuple[Clip, ...]:
        return tuple(writer.clip for writer in self._writers if writer.clip is not None)


def _not_audio(error: WavError) -> UpstreamError:
    return UpstreamError(
        "The model's answer was not the audio it should have been.",
        code=ErrorCode.MODEL_ANSWER_INVALID,
        fault=AttemptFault.BROKEN,
        internal=str(error),
    )
