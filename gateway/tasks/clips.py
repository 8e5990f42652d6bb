"""One clip on its way from a model's answer into storage: sniffed, measured, hashed, cut to length."""

import asyncio
import hashlib
from collections.abc import Callable

from gateway.errors import AttemptFault, ErrorCode, StorageError, UpstreamError
from gateway.metrics import UploadOutcome
from gateway.model import Clip, Task
from gateway.ports import Clock, Storage
from gateway.tasks.cut import WavCutter
from gateway.tasks.deposit import Deposit, Patience
from gateway.tasks.naming import object_name
from gateway.tasks.spool import Spools
from gateway.tasks.wav import AudioFacts, WavError

_MIME_TYPE = "audio/wav"
#: Seconds for which storage may hold up one answer of a model.
_PATIENCE_S = 30.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class ClipWriter:
    """A `gateway.ports.ClipSink` that stores what passes through it. ``clip`` is None until it is visible."""

    def __init__(self, deposit: Deposit, index: int, duration_s: int | None, seed: int | None) -> None:
        self.deposit = deposit
        self._index = index
        self._seed = seed
        self._cutter = WavCutter(duration_s)
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._facts: AudioFacts | None = None

    @property
    def came_whole(self) -> bool:
        return self._facts is not None

    @property
    def clip(self) -> Clip | None:
        if self._facts is None or self.deposit.object_name is None:
            return None
        return Clip(
            index=self._index,
            object_name=self.deposit.object_name,
            mime_type=_MIME_TYPE,
            size_bytes=self._size_bytes,
            sha256=self._sha256.hexdigest(),
            duration_s=self._facts.duration_s,
            sample_rate_hz=self._facts.sample_rate_hz,
            channels=self._facts.channels,
            seed=self._seed,
        )

    async def write(self, block: bytes) -> None:
        try:
            audio = self._cutter.feed(block)
        except WavError as error:
            raise _not_audio(error) from error
        # Nothing is opened in storage before the bytes have shown to be audio.
        if audio:
            await self._store(audio)

    async def finish(self) -> None:
        try:
            tail, facts = self._cutter.finish()
        except WavError as error:
            raise _not_audio(error) from error
        if tail:
            await self._store(tail)
        if not self._size_bytes:
            raise _not_audio(WavError("no audio"))
        self._facts = facts
        await self.deposit.finish()

    async def abort(self) -> None:
        """A clip that came whole is not given up because its call is: the shelf still sees to it."""
        if not self.came_whole:
            await self.deposit.abort()

    async def _store(self, audio: bytes) -> None:
        self._sha256.update(audio)
        self._size_bytes += len(audio)
        await self.deposit.write(audio)


class ClipShelf:
    """Hands out the sinks of one call, remembers what they stored, and sees to what they could not."""

    def __init__(
        self,
        storage: Storage,
        spools: Spools,
        task: Task,
        attempt_id: str,
        seed_of: Callable[[int], int | None],
    ) -> None:
        self._storage = storage
        self._spools = spools
        self._task = task
        self._attempt_id = attempt_id
        self._seed_of = seed_of
        self._patience = Patience(_PATIENCE_S)
        self._writers: list[ClipWriter] = []

    def new_sink(self, index: int) -> ClipWriter:
        deposit = Deposit(
            self._storage,
            self._spools.new(),
            self._patience,
            lambda number: object_name(self._task, index, self._attempt_id, "wav", number),
            _MIME_TYPE,
            {"task": self._task.id},
        )
        writer = ClipWriter(deposit, index, self._task.spec.duration_s, self._seed_of(index))
        self._writers.append(writer)
        return writer

    def begun(self) -> int:
        """How many clips' audio came, whatever became of it."""
        return len(self._writers)

    def stored(self) -> tuple[Clip, ...]:
        return tuple(writer.clip for writer in self._writers if writer.clip is not None)

    async def store_rest(
        self,
        clock: Clock,
        jitter: Callable[[], float],
        deadline_at_ms: int,
        on_retry: Callable[[UploadOutcome], None],
    ) -> UpstreamError | None:
        """Try what came whole and is not stored, at least once, and until the deadline again and again.

        Returns why something is missing in the end.
        """
        ceiling_s = _FIRST_PAUSE_S
        while waiting := [w for w in self._writers if w.came_whole and w.deposit.can_retry]:
            left_s = (deadline_at_ms - clock.now_ms()) / 1000
            # Half of it is certain: storage in trouble is not asked at once, nor by all together.
            await clock.sleep(max(0.0, min(left_s, ceiling_s * (1 + jitter()) / 2)))
            ceiling_s = min(_LONGEST_PAUSE_S, 2 * ceiling_s)
            for writer in waiting:
                await writer.deposit.retry()
                on_retry(UploadOutcome.FAILED if writer.clip is None else UploadOutcome.STORED)
            if clock.now_ms() >= deadline_at_ms:
                break
        missing = [w for w in self._writers if w.came_whole and w.clip is None]
        return _not_stored(missing[0].deposit.trouble) if missing else None

    async def close(self) -> None:
        """Withdraw what is not stored, and forget what was put aside."""
        # Shielded: the clean-up of a cancelled task is often cancelled itself.
        await asyncio.shield(asyncio.gather(*(writer.deposit.abort() for writer in self._writers)))


def _not_audio(error: WavError) -> UpstreamError:
    return UpstreamError(
        "The model's answer was not the audio it should have been.",
        code=ErrorCode.MODEL_ANSWER_INVALID,
        fault=AttemptFault.BROKEN,
        internal=str(error),
    )


def _not_stored(trouble: StorageError | None) -> UpstreamError:
    return UpstreamError(
        "The audio was made but could not be stored.",
        code=ErrorCode.STORAGE_FAILED,
        fault=AttemptFault.UNKNOWN,
        internal=None if trouble is None else trouble.internal or trouble.detail,
    )
