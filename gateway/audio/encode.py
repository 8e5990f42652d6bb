"""Sound files as they are written, in any format and at any bit rate that it has."""

import os
from types import TracebackType
from typing import Any, Self

import numpy as np
import soundfile

from gateway.audio.formats import DEFAULT_BITRATE_KBPS
from gateway.audio.sound import Block, SoundFacts
from gateway.model import AudioFormat

_CONTAINERS = {AudioFormat.OPUS: "OGG"}
_SUBTYPES = {AudioFormat.MP3: "MPEG_LAYER_III", AudioFormat.OGG: "VORBIS", AudioFormat.OPUS: "OPUS"}
_LOSSLESS_BITS = 16
#: libsndfile makes a bit rate of a level between 0 and 1: of MP3 from 320 down to 32 kbit/s,
_MP3_KBPS = (320, 32)
#: of Opus, for each channel, from 256 down to 6,
_OPUS_KBPS = (256, 6)
#: and of Vorbis a quality, which libvorbis aims at these rates with, for two channels.
_VORBIS_QUALITY = {80: 0.1, 96: 0.2, 112: 0.3, 128: 0.4, 160: 0.5, 192: 0.6, 224: 0.7, 256: 0.8, 320: 0.9}
#: What Opus is written at: the models' rates are none of its five.
OPUS_RATE_HZ = 48_000


class SoundWriter:
    """Writes blocks to a descriptor, which stays the caller's. To be used as a context."""

    def __init__(self, fd: int, like: SoundFacts, bitrate_kbps: int | None) -> None:
        """``like`` says the format, rate, channels and bits; its length is what will have been written."""
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        self.frames = 0
        self._file = soundfile.SoundFile(
            fd,
            "w",
            samplerate=like.sample_rate_hz,
            channels=like.channels,
            format=_CONTAINERS.get(like.format, like.format.value.upper()),
            subtype=_SUBTYPES.get(like.format)
            or ("PCM_16" if (like.bits or 16) <= _LOSSLESS_BITS else "PCM_24"),
            closefd=False,
            **_quality(like.format, bitrate_kbps, like.channels),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, block: Block) -> None:
        """Samples beyond full scale become full scale."""
        self._file.write(np.clip(block, -1.0, 1.0))
        self.frames += len(block)


def _quality(audio_format: AudioFormat, bitrate_kbps: int | None, channels: int) -> dict[str, Any]:
    rate = bitrate_kbps or DEFAULT_BITRATE_KBPS.get(audio_format)
    if rate is None:
        return {}
    if audio_format is AudioFormat.MP3:
        return {"bitrate_mode": "CONSTANT", "compression_level": _level(rate, *_MP3_KBPS)}
    if audio_format is AudioFormat.OPUS:
        return {"compression_level": _level(rate / channels, *_OPUS_KBPS)}
    return {"compression_level": 1 - _VORBIS_QUALITY[rate]}


def _level(kbps: float, highest: float, lowest: float) -> float:
    return min(1.0, max(0.0, (highest - kbps) / (highest - lowest)))
