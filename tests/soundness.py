"""Sounds to test with, and measures of what came of them that share nothing with the gateway."""

import functools
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyloudnorm
import soundfile
from numpy.typing import NDArray

from gateway.emulator.music.composer import Order, compose

Samples = NDArray[np.float32]


@contextmanager
def a_file(content: bytes = b"") -> Iterator[int]:
    """The descriptor of a file without a name."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


def content_of(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def tone(
    seconds: float, rate_hz: int = 48_000, channels: int = 2, hz: float = 1000, dbfs: float = -20
) -> Samples:
    moments = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = 10 ** (dbfs / 20) * np.sin(2 * np.pi * hz * moments)
    return np.repeat(wave[:, np.newaxis], channels, axis=1).astype(np.float32)


def encoded(samples: Samples, rate_hz: int = 48_000, fmt: str = "WAV", subtype: str | None = None) -> bytes:
    """A whole file, by the library and not by the gateway."""
    held = io.BytesIO()
    soundfile.write(held, samples, rate_hz, format=fmt, subtype=subtype)
    return held.getvalue()


def decoded(content: bytes) -> tuple[Samples, int]:
    samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return samples, rate_hz


@functools.cache
def music(seed: int, seconds: float = 12.0, prompt: str = "slow piano with soft strings") -> bytes:
    """A composed WAV, stereo at 48 kHz."""
    return compose(Order(prompt, "", seed, round(seconds * 48_000), 48_000, 2))


def flux(samples: Samples, rate_hz: int, window_s: float = 0.02) -> NDArray[np.float64]:
    """How much the spectrum changes from each window to the next: a click stands out."""
    size = round(window_s * rate_hz)
    mono = samples.mean(axis=1)
    frames = mono[: len(mono) // size * size].reshape(-1, size) * np.hanning(size)
    spectra = np.abs(np.fft.rfft(frames, axis=1))
    change: NDArray[np.float64] = np.maximum(0, np.diff(spectra, axis=0)).sum(axis=1)
    return change


def loudness_between(samples: Samples, rate_hz: int, from_s: float, to_s: float) -> float:
    part = samples[max(0, round(from_s * rate_hz)) : round(to_s * rate_hz)]
    return float(pyloudnorm.Meter(rate_hz).integrated_loudness(part.astype(np.float64)))
