"""What one call to a model makes: received, worked on and stored, take by take."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from gateway.audio.sniffing import HEAD_BYTES, sniff
from gateway.errors import AttemptFault, ErrorCode, StorageError, UpstreamError
from gateway.families.family import ModelCall, clip_of
from gateway.metrics import UploadMetrics, UploadOutcome
from gateway.model import Clip, Take, Task
from gateway.ports import Clock, Storage
from gateway.tasks.deposit import Deposit
from gateway.tasks.naming import object_name
from gateway.tasks.scratch import Scratch, ScratchFile
from gateway.tasks.studio import BadAudio, Piece, Studio, TooShort

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class TakeSink:
    """A `gateway.ports.ClipSink` that puts a take aside. ``trouble`` is the disk's.

    ``when_whole`` is told once the take has come.
    """

    def __init__(self, number: int, file: ScratchFile, when_whole: Callable[["TakeSink"], None]) -> None:
        self.number = number
        self.file = file
        self.came_whole = False
        self._when_whole = when_whole
        self.trouble: StorageError | None = None
        self._head = b""

    async def write(self, block: bytes) -> None:
        if len(self._head) < HEAD_BYTES:
            self._head += block[: HEAD_BYTES - len(self._head)]
            if len(self._head) == HEAD_BYTES:
                self._check_head()
        if self.trouble is None:
            try:
                await self.file.append(block)
            except StorageError as error:
                # The answer was paid for, and may hold other takes: it is read to its end.
                self.trouble = error

    async def finish(self) -> None:
        self._check_head()
        self.came_whole = True
        self._when_whole(self)

    async def abort(self) -> None:
        """A take that came whole is not given up because its call is."""
        if not self.came_whole:
            await self.file.close()

    def _check_head(self) -> None:
        if sniff(self._head) is None:
            raise bad_audio("it does not begin like any audio")


@dataclass(frozen=True, slots=True)
class Tools:
    """What batches work with. ``jitter`` gives numbers in [0, 1)."""

    storage: Storage
    scratch: Scratch
    studio: Studio
    uploads: UploadMetrics
    clock: Clock
    jitter: Callable[[], float]


class Batch:
    """Gives out the sinks of one call, and makes of what they took clips, or takes that are to be joined.

    Each is worked on as soon as it has come, and storage is asked until ``deadline_at_ms``. ``clips`` and
    ``takes`` are what is stored so far, also when it was broken off. `close` is to be called.
    """

    def __init__(
        self, tools: Tools, task: Task, attempt_id: str, call: ModelCall, deadline_at_ms: int
    ) -> None:
        self._tools = tools
        self._task = task
        self._attempt_id = attempt_id
        self._call = call
        self._deadline_at_ms = deadline_at_ms
        self._working: list[asyncio.Task[UpstreamError | None]] = []
        self._sinks: list[TakeSink] = []
        self._files: list[ScratchFile] = []
        self._deposits: list[Deposit] = []
        self._clips: list[Clip] = []
        self._takes: list[Take] = []

    @property
    def clips(self) -> tuple[Clip, ...]:
        return tuple(sorted(self._clips, key=lambda clip: clip.index))

    @property
    def takes(self) -> tuple[Take, ...]:
        return tuple(sorted(self._takes, key=lambda take: take.number))

    @property
    def stored_count(self) -> int:
        return len(self._clips) + len(self._takes)

    @property
    def object_names(self) -> tuple[str, ...]:
        return *(clip.object_name for clip in self._clips), *(take.object_name for take in self._takes)

    @property
    def begun_count(self) -> int:
        """How many takes' audio came, whatever became of it."""
        return len(self._sinks)

    def new_sink(self, number: int) -> TakeSink:
        sink = TakeSink(number, self._new_file(), self._begin)
        self._sinks.append(sink)
        return sink

    async def finish(self, text: str | None) -> UpstreamError | None:
        """Stay until what came whole is stored, or the deadline is there. ``text`` came with the audio.

        Returns why something is missing in the end.
        """
        problems = await asyncio.gather(*self._working)
        self._clips = [replace(clip, text=text) for clip in self._clips]
        self._takes = [replace(take, text=text) for take in self._takes]
        return next((problem for problem in problems if problem is not None), None)

    async def join(self, takes: Sequence[Take]) -> UpstreamError | None:
        """Make a clip of stored takes, in their order. Returns why there is none."""
        files = [self._new_file() for _ in takes]
        try:
            for take, file in zip(takes, files, strict=True):
                async for block in self._tools.storage.read(take.object_name):
                    await file.append(block)
            piece, file = await self._work(files)
        except StorageError as error:
            return unreadable(error)
        except (BadAudio, TooShort) as error:
            return unfit(str(error))
        index = clip_of(self._task.spec, takes[0].number)
        problem = await self._store_clip(index, piece, file, [take.seed for take in takes])
        texts = [take.text for take in takes if take.text]
        self._clips = [replace(clip, text="\n\n".join(texts) or None) for clip in self._clips]
        return problem

    async def stop(self) -> None:
        """Break off what is not stored yet; afterwards nothing more will be."""
        for working in self._working:
            working.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    async def close(self) -> None:
        """Withdraw what is not stored, and forget what was put aside."""
        # Shielded: the clean-up of a cancelled task is often cancelled itself.
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        await self.stop()
        await asyncio.gather(*(deposit.withdraw() for deposit in self._deposits))
        await asyncio.gather(*(file.close() for file in self._files))

    def _begin(self, sink: TakeSink) -> None:
        self._working.append(asyncio.create_task(self._finish(sink)))

    async def _finish(self, sink: TakeSink) -> UpstreamError | None:
        if sink.trouble is not None:
            return not_stored(sink.trouble)
        seed = self._seed_of(sink.number)
        try:
            if self._task.spec.takes > 1:
                duration_s = await self._tools.studio.inspect(sink.file)
                return await self._store_take(sink, duration_s, seed)
            piece, file = await self._work([sink.file])
        except TooShort as short:
            return await self._store_take(sink, short.duration_s, seed)
        except BadAudio as error:
            return bad_audio(str(error))
        except StorageError as error:
            return not_stored(error)
        index = clip_of(self._task.spec, sink.number)
        return await self._store_clip(index, piece, file, [seed])

    async def _work(self, files: Sequence[ScratchFile]) -> tuple[Piece, ScratchFile]:
        out = self._new_file()
        piece = await self._tools.studio.produce(files, self._task.spec, out)
        return piece, files[0] if piece.untouched else out

    async def _store_clip(
        self, index: int, piece: Piece, file: ScratchFile, seeds: Sequence[int | None]
    ) -> UpstreamError | None:
        """``seeds`` are those of the takes that it was made of."""
        stored = await self._store(file, str(index), piece.extension, piece.mime_type)
        if isinstance(stored, UpstreamError):
            return stored
        self._clips.append(
            Clip(
                index=index,
                object_name=stored,
                mime_type=piece.mime_type,
                size_bytes=piece.size_bytes,
                sha256=piece.sha256,
                duration_s=piece.duration_s,
                sample_rate_hz=piece.sample_rate_hz,
                channels=piece.channels,
                seed=seeds[0],
                steps=orjson.dumps([self._made(seeds), *piece.steps]).decode(),
                peak_dbfs=piece.peak_dbfs,
                loudness_lufs=piece.loudness_lufs,
                waveform=piece.waveform,
            )
        )
        self._tools.uploads.stored(self._task.model, piece.size_bytes)
        return None

    def _made(self, seeds: Sequence[int | None]) -> dict[str, Any]:
        return {"step": "generate", "model": self._task.model, "takes": len(seeds), "seeds": list(seeds)}

    async def _store_take(self, sink: TakeSink, duration_s: float, seed: int | None) -> UpstreamError | None:
        stored = await self._store(sink.file, f"t{sink.number}", "take", "application/octet-stream")
        if isinstance(stored, UpstreamError):
            return stored
        self._takes.append(Take(sink.number, self._attempt_id, stored, duration_s, seed))
        return None

    async def _store(
        self, file: ScratchFile, label: str, extension: str, mime_type: str
    ) -> str | UpstreamError:
        name_of = partial(object_name, self._task, label, self._attempt_id, extension)
        deposit = Deposit(self._tools.storage, file, name_of, mime_type, {"task": self._task.id})
        self._deposits.append(deposit)
        await deposit.store()
        ceiling_s = _FIRST_PAUSE_S
        while deposit.object_name is None and (left_s := self._left_s()) > 0:
            # Half of it is certain: storage in trouble is not asked at once, nor by all together.
            await self._tools.clock.sleep(min(left_s, ceiling_s * (1 + self._tools.jitter()) / 2))
            ceiling_s = min(_LONGEST_PAUSE_S, 2 * ceiling_s)
            await deposit.store()
            self._tools.uploads.retried(
                UploadOutcome.FAILED if deposit.object_name is None else UploadOutcome.STORED
            )
        return not_stored(deposit.trouble) if deposit.object_name is None else deposit.object_name

    def _left_s(self) -> float:
        return (self._deadline_at_ms - self._tools.clock.now_ms()) / 1000

    def _new_file(self) -> ScratchFile:
        file = self._tools.scratch.new()
        self._files.append(file)
        return file

    def _seed_of(self, number: int) -> int | None:
        call = self._call
        return None if call.seed is None else (call.seed + call.takes.index(number)) % 2**32


def bad_audio(why: str) -> UpstreamError:
    return UpstreamError(
        "The model's answer was not the audio it should have been.",
        code=ErrorCode.MODEL_ANSWER_INVALID,
        fault=AttemptFault.BROKEN,
        internal=why,
    )


def unfit(why: str) -> UpstreamError:
    """Takes that were paid for and will never make a clip: another call would change nothing."""
    return UpstreamError(
        "The model's takes do not fit together.",
        code=ErrorCode.MODEL_ANSWER_INVALID,
        fault=AttemptFault.REFUSED,
        internal=why,
    )


def not_stored(trouble: StorageError | None) -> UpstreamError:
    """It was paid for, and is lost."""
    return UpstreamError(
        "The audio was made but could not be stored.",
        code=ErrorCode.STORAGE_FAILED,
        fault=AttemptFault.UNKNOWN,
        internal=None if trouble is None else trouble.internal or trouble.detail,
    )


def unreadable(trouble: StorageError) -> UpstreamError:
    """What was stored cannot be read now; nothing is lost, and no call was made."""
    return UpstreamError(
        "The audio was made, and what was stored of it cannot be read at the moment.",
        code=ErrorCode.STORAGE_FAILED,
        fault=AttemptFault.NOT_SENT,
        internal=trouble.internal or trouble.detail,
    )
