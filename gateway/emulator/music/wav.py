"""RIFF/WAVE, 16-bit PCM: a 44-byte header and little-endian samples."""

import struct

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 44
_BYTES_PER_SAMPLE = 2
_FULL_SCALE = 32767


def wav_bytes(signal: NDArray[np.floating], sample_rate_hz: int) -> bytes:
    """A WAV file of ``signal``: shape (channels, frames), full scale ±1; what is louder is clipped."""
    channels, frames = signal.shape
    samples: NDArray[np.int16] = np.rint(np.clip(signal, -1.0, 1.0).T * _FULL_SCALE).astype("<i2")
    return _header(frames, channels, sample_rate_hz) + samples.tobytes()


def _header(frames: int, channels: int, sample_rate_hz: int) -> bytes:
    block_bytes = channels * _BYTES_PER_SAMPLE
    data_bytes = frames * block_bytes
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        HEADER_BYTES - 8 + data_bytes,
        b"WAVE",
        b"fmt ",
        16,
        1,
        channels,
        sample_rate_hz,
        sample_rate_hz * block_bytes,
        block_bytes,
        _BYTES_PER_SAMPLE * 8,
        b"data",
        data_bytes,
    )
