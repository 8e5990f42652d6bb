"""A few hundred peaks for players, gathered as the sound passes by."""

import numpy as np
from numpy.typing import NDArray

from gateway.audio.sound import Block

BARS = 256
_STEP_S = 0.01
_FULL = 255


class WaveformMeter:
    """Keeps the peak of each 10 ms, and folds them into bars in the end."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._step_frames = max(1, round(_STEP_S * sample_rate_hz))
        self._rest = np.zeros(0, dtype=np.float32)
        self._peaks: list[NDArray[np.float32]] = []

    def feed(self, block: Block) -> None:
        # Channel by channel: along its short axis an array is slow to reduce.
        level = np.abs(block[:, 0])
        for channel in block.T[1:]:
            np.maximum(level, np.abs(channel), out=level)
        level = np.concatenate([self._rest, level])
        whole = len(level) // self._step_frames
        self._peaks.append(level[: whole * self._step_frames].reshape(whole, self._step_frames).max(axis=1))
        self._rest = level[whole * self._step_frames :]

    def bars(self, count: int = BARS) -> bytes:
        """One byte a bar, 0 to 255 of full scale: the peak of that stretch. Fewer of very short sounds."""
        last = self._rest.max(keepdims=True) if len(self._rest) else self._rest
        peaks = np.concatenate([*self._peaks, last])
        count = min(count, len(peaks))
        if not count:
            return b""
        starts = np.arange(count) * len(peaks) // count
        folded = np.maximum.reduceat(peaks, starts)
        return bytes(np.rint(np.clip(folded, 0, 1) * _FULL).astype(np.uint8))
