"""Sound files as they are read: what is in them, and their samples block by block."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from gateway.audio.formats import MIME_TYPES
from gateway.audio.riff import missing_bytes
from gateway.audio.sniffing import HEAD_BYTES, sniff
from gateway.model import AudioFormat

#: Frames of every channel, full scale ±1: shape (frames, channels).
Block = NDArray[np.float32]

BLOCK_S = 1.0
MAX_CHANNELS = 2
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
#: No model makes as much; a small file may claim to be days.
LONGEST_S = 3600

_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32}
_SUBTYPES = {
    AudioFormat.WAV: frozenset({"PCM_16", "PCM_24", "PCM_32", "FLOAT"}),
    AudioFormat.FLAC: frozenset({"PCM_S8", "PCM_16", "PCM_24"}),
    AudioFormat.MP3: frozenset({"MPEG_LAYER_III"}),
    AudioFormat.OGG: frozenset({"VORBIS"}),
    AudioFormat.OPUS: frozenset({"OPUS"}),
}


class Undecodable(ValueError):
    """It is no sound that we take; the text says why, for the log."""


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """What is in a file. A frame is one sample of every channel; ``bits`` is None for lossy formats."""

    format: AudioFormat
    sample_rate_hz: int
    channels: int
    frames: int
    bits: int | None

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate_hz

    @property
    def mime_type(self) -> str:
        return MIME_TYPES[self.format]


class SoundReader:
    """An open file. ``facts`` has the length that the file claims; `blocks` gives what there really is."""

    def __init__(self, fd: int) -> None:
        """Raises `Undecodable`. The descriptor stays the caller's, and may be read again."""
        audio_format = sniff(os.pread(fd, HEAD_BYTES, 0))
        if audio_format is None:
            raise Undecodable("it does not begin like any audio")
        if audio_format is AudioFormat.WAV and (lacking := missing_bytes(fd)):
            raise Undecodable(f"it lacks {lacking} bytes of the sound that its header claims")
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            self._file = soundfile.SoundFile(fd, closefd=False)
        except soundfile.SoundFileError as error:
            raise Undecodable(str(error)) from error
        try:
            self.facts = self._checked(audio_format)
        except Undecodable:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def blocks(self) -> Iterator[Block]:
        """All of it from where it was read to, about a second each. Raises `Undecodable`."""
        facts = self.facts
        block_frames, left = round(BLOCK_S * facts.sample_rate_hz), LONGEST_S * facts.sample_rate_hz
        while True:
            try:
                block = self._file.read(block_frames, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError) as error:
                raise Undecodable(str(error)) from error
            if not len(block):
                return
            left -= len(block)
            if left < 0:
                raise Undecodable(f"it is longer than {LONGEST_S} s")
            if not np.isfinite(block).all():
                raise Undecodable("some of its samples are no numbers")
            yield block

    def _checked(self, audio_format: AudioFormat) -> SoundFacts:
        file = self._file
        if file.subtype not in _SUBTYPES[audio_format]:
            raise Undecodable(f"it is {file.format} with {file.subtype}")
        if not 1 <= file.channels <= MAX_CHANNELS:
            raise Undecodable(f"it has {file.channels} channels")
        if not MIN_RATE_HZ <= file.samplerate <= MAX_RATE_HZ:
            raise Undecodable(f"its sample rate is {file.samplerate} Hz")
        return SoundFacts(audio_format, file.samplerate, file.channels, file.frames, _BITS.get(file.subtype))


def open_sound(fd: int) -> SoundReader:
    """Open a file for reading, to be used as a context. Raises `Undecodable`."""
    return SoundReader(fd)
