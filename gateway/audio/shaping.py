"""A stream of sound made longer or shorter, louder or softer, or of another rate, a moment at a time."""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

from gateway.audio.sound import Block

FADE_S = 0.05


class TooShort(ValueError):
    """There is less than was asked for by more than silence may make up; ``seconds`` is what there is."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"there are only {seconds:.3f} s")
        self.seconds = seconds


class Fitting:
    """Makes a stream exactly ``wanted`` frames long; ``had`` says afterwards how long it was.

    More is cut, with a fade at the end; less, by ``slack`` frames at most, is faded too, and filled up with
    silence.
    """

    def __init__(self, wanted: int, sample_rate_hz: int, slack: int) -> None:
        self._wanted = wanted
        self._rate_hz = sample_rate_hz
        self._slack = slack
        self._fade = min(wanted, round(FADE_S * sample_rate_hz))
        self.had = 0

    def fit(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Raises `TooShort` at the end of what is too short. What comes behind the cut is not read."""
        plain, sent = self._wanted - self._fade, 0
        held: Block = np.zeros((0, 1), dtype=np.float32)
        for block in blocks:
            self.had += len(block)
            held = np.concatenate([held, block]) if len(held) else block
            # As much is kept back as may have to fade, wherever it ends.
            ready = max(0, min(len(held) - self._fade, plain - sent))
            if ready:
                yield held[:ready]
                held, sent = held[ready:], sent + ready
            if self.had > self._wanted:
                yield faded(held[: self._wanted - sent])
                return
        if self.had == self._wanted:
            yield held
            return
        yield from self._padded(held)

    def _padded(self, tail: Block) -> Iterator[Block]:
        lacking = self._wanted - self.had
        if lacking > self._slack or not self.had:
            raise TooShort(self.had / self._rate_hz)
        fade = min(len(tail), self._fade)
        yield tail[: len(tail) - fade]
        yield faded(tail[len(tail) - fade :])
        yield np.zeros((lacking, tail.shape[1]), dtype=np.float32)


def faded(block: Block) -> Block:
    """Falling evenly to silence over its whole length."""
    fall: NDArray[np.float32] = np.linspace(1, 0, len(block) + 1, dtype=np.float32)[1:, np.newaxis]
    return block * fall


def louder(blocks: Iterable[Block], gain: float) -> Iterator[Block]:
    """Times a factor."""
    for block in blocks:
        yield block if gain == 1.0 else block * np.float32(gain)


def skipped(blocks: Iterable[Block], start: int, stop: int) -> Iterator[Block]:
    """The frames from ``start`` up to ``stop``."""
    at = 0
    for block in blocks:
        part = block[max(0, start - at) : max(0, stop - at)]
        at += len(block)
        if len(part):
            yield part
        if at >= stop:
            return


def resampled(blocks: Iterable[Block], from_hz: int, to_hz: int, channels: int) -> Iterator[Block]:
    """At another rate, with soxr's best quality for 16 bits."""
    stream = soxr.ResampleStream(from_hz, to_hz, channels, dtype="float32", quality=soxr.HQ)
    for block in blocks:
        part: Block = stream.resample_chunk(block)
        if len(part):
            yield part
    rest: Block = stream.resample_chunk(np.zeros((0, channels), dtype=np.float32), last=True)
    if len(rest):
        yield rest
