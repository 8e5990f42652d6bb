"""Where sound is worked on: in a few threads, beside the event loop, on files.

The libraries for it are imported with the first piece of audio: a gateway that only answers questions does
without.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.model import MusicSpec
from gateway.tasks.scratch import ScratchFile

T = TypeVar("T")

_BLOCK_BYTES = 1 << 20


class BadAudio(ValueError):
    """It cannot be decoded; the text says why."""


class TooShort(ValueError):
    """It is good, and not as long as was asked for; ``duration_s`` says how long it is."""

    def __init__(self, duration_s: float) -> None:
        super().__init__(f"{duration_s} s")
        self.duration_s = duration_s


@dataclass(frozen=True, slots=True)
class Piece:
    """A finished piece of audio, as it is in a file. ``steps`` tell what was done to make it.

    ``untouched``: nothing had to be done, and it is in the file that it came in.
    """

    untouched: bool
    mime_type: str
    extension: str
    size_bytes: int
    sha256: str
    duration_s: float
    sample_rate_hz: int
    channels: int
    peak_dbfs: float | None
    loudness_lufs: float | None
    waveform: bytes
    steps: tuple[dict[str, Any], ...]


class Studio:
    """At most ``workers`` pieces are worked on at once; the others wait."""

    def __init__(self, workers: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="studio")

    async def produce(self, takes: Sequence[ScratchFile], spec: MusicSpec, out: ScratchFile) -> Piece:
        """Make what ``spec`` asks for from the takes of one clip, in ``out`` unless nothing is to be done.

        Raises `BadAudio`, `TooShort`, or `StorageError` when the disk will not do.
        """
        piece = await self._run([*takes, out], lambda fds: _produce(fds[:-1], spec, fds[-1]))
        await out.measure()
        return piece

    async def inspect(self, take: ScratchFile) -> float:
        """Seconds of a take that is to be joined. Raises as `produce`."""
        return await self._run([take], lambda fds: _inspect(fds[0]))

    def close(self) -> None:
        """What is being worked on is finished and thrown away."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, files: Sequence[ScratchFile], work: Callable[[list[int]], T]) -> T:
        fds: list[int] = []
        try:
            fds.extend([await file.duplicate() for file in files])
        except BaseException:  # also of who is cancelled while they are opened
            _close(fds)
            raise
        loop = asyncio.get_running_loop()
        try:
            # Descriptors of their own: who is cancelled closes its files, and leaves the thread behind.
            running = loop.run_in_executor(self._threads, _and_close, work, fds)
        except RuntimeError:
            _close(fds)
            raise
        running.add_done_callback(lambda done: _close(fds) if done.cancelled() else done.exception())
        return await running


def _and_close(work: Callable[[list[int]], T], fds: list[int]) -> T:
    try:
        return work(fds)
    finally:
        _close(fds)


def _close(fds: list[int]) -> None:
    with ExitStack() as stack:
        while fds:
            stack.callback(os.close, fds.pop())


def _produce(takes: list[int], spec: MusicSpec, out: int) -> Piece:
    from gateway.audio import produce, sound  # noqa: PLC0415 - see the module's docstring

    recipe = produce.Recipe(spec.audio_format, spec.duration_s, spec.bitrate_kbps, spec.loudness_lufs)
    try:
        product = produce.produce(takes, recipe, out)
    except sound.Undecodable as error:
        raise BadAudio(str(error)) from error
    except produce.TooShort as error:
        raise TooShort(error.seconds) from error
    facts = product.facts
    size_bytes, sha256 = _digest(takes[0] if product.untouched else out)
    return Piece(
        untouched=product.untouched,
        mime_type=facts.mime_type,
        extension=facts.format.value,
        size_bytes=size_bytes,
        sha256=sha256,
        duration_s=facts.duration_s,
        sample_rate_hz=facts.sample_rate_hz,
        channels=facts.channels,
        peak_dbfs=product.peak_dbfs,
        loudness_lufs=product.loudness_lufs,
        waveform=product.waveform,
        steps=tuple(step.render() for step in product.steps),
    )


def _inspect(take: int) -> float:
    from gateway.audio import sound  # noqa: PLC0415 - see the module's docstring

    try:
        with sound.open_sound(take) as reader:
            return reader.facts.duration_s
    except sound.Undecodable as error:
        raise BadAudio(str(error)) from error


def _digest(fd: int) -> tuple[int, str]:
    sha256, at = hashlib.sha256(), 0
    while block := os.pread(fd, _BLOCK_BYTES, at):
        sha256.update(block)
        at += len(block)
    return at, sha256.hexdigest()
