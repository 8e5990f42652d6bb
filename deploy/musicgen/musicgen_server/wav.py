"""WAV of 16-bit PCM: how large it will be, and writing it block by block."""

import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_HEADER_BYTES = 44
_SAMPLE_BYTES = 2


@dataclass(frozen=True, slots=True)
class Format:
    """What a model makes: frames a second, and one channel or two."""

    rate_hz: int
    channels: int

    def frames(self, seconds: int) -> int:
        return seconds * self.rate_hz

    def size_bytes(self, seconds: int) -> int:
        """Of the whole file."""
        return _HEADER_BYTES + self.frames(seconds) * self.channels * _SAMPLE_BYTES


def write(path: Path, form: Format, blocks: Iterable[bytes]) -> None:
    """`blocks` are interleaved little-endian samples. Only one of them is in memory at a time."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(form.channels)
        file.setsampwidth(_SAMPLE_BYTES)
        file.setframerate(form.rate_hz)
        for block in blocks:
            file.writeframesraw(block)
