"""Integrated loudness after EBU R128 and ITU-R BS.1770-4, measured as the sound passes by.

The K-weighting filters of BS.1770 are recursive, which Python cannot do sample by sample; they are applied
as what they are in the frequency domain, block by block (overlap-save), to within what their response has
decayed to over the overlap: less than 1e-15.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from gateway.audio.sound import Block

#: One value for so long: fine enough to find beats by.
HOP_S = 0.02
#: ITU-R BS.1770-4: gating blocks of 400 ms, a new one every 100 ms.
_HOPS_PER_STEP = 5
_STEPS_PER_GATE = 4
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_OFFSET = -0.691
#: Long enough for the slower filter, whose poles lie at 38 Hz, to decay.
_OVERLAP_S = 0.17
_BLOCKS_PER_OVERLAP = 8
#: The filters' corner frequency (Hz), quality and gain (dB): those of the standard's coefficients at 48 kHz.
_SHELF = (1681.974450955533, 0.7071752369554196, 3.999843853973347)
_SHELF_EXPONENT = 0.4996667741545416
_HIGH_PASS = (38.13547087602444, 0.5003270373238773)


class LoudnessMeter:
    """Feed it everything in order, then ask."""

    def __init__(self, sample_rate_hz: int, channels: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._hop_frames = hop_frames(sample_rate_hz)
        self._overlap = 1 << math.ceil(math.log2(_OVERLAP_S * sample_rate_hz))
        self._size = _BLOCKS_PER_OVERLAP * self._overlap
        # What the filters have seen, and what they are still to be given.
        self._input = np.zeros((channels, self._size), dtype=np.float32)
        self._filled = self._overlap
        self._rest = np.zeros(0, dtype=np.float32)
        self._hops: list[NDArray[np.float64]] = []
        self._peak = 0.0

    def feed(self, block: Block) -> None:
        """The next frames, any number of them."""
        if not len(block):
            return
        self._peak = max(self._peak, float(block.max()), -float(block.min()))
        samples, at = block.T, 0
        while at < samples.shape[1]:
            taken = min(self._size - self._filled, samples.shape[1] - at)
            self._input[:, self._filled : self._filled + taken] = samples[:, at : at + taken]
            self._filled += taken
            at += taken
            if self._filled == self._size:
                self._weigh()

    def peak_dbfs(self) -> float | None:
        """The highest sample in dB below full scale; None for silence."""
        return None if self._peak == 0 else 20 * math.log10(self._peak)

    def levels(self) -> NDArray[np.float64]:
        """The mean square of each `HOP_S`, as heard: weighted, and of all channels together."""
        self._weigh()
        self._hops = [np.concatenate(self._hops)] if self._hops else [np.zeros(0)]
        return self._hops[0]

    def integrated_lufs(self) -> float | None:
        """Of all that was fed. None for silence, and for less than the 400 ms that it takes to tell."""
        hops = self.levels()
        whole = len(hops) // _HOPS_PER_STEP * _HOPS_PER_STEP
        energies = hops[:whole].reshape(-1, _HOPS_PER_STEP).mean(axis=1)
        if len(energies) < _STEPS_PER_GATE:
            return None
        gates = np.lib.stride_tricks.sliding_window_view(energies, _STEPS_PER_GATE).mean(axis=1)
        loud = gates[gates > _energy(_ABSOLUTE_GATE_LUFS)]
        if not len(loud):
            return None
        louder = loud[loud > loud.mean() * 10 ** (_RELATIVE_GATE_LU / 10)]
        return _OFFSET + 10 * math.log10(float(louder.mean()))

    def _weigh(self) -> None:
        """Filter what there is, and add up its energy hop by hop."""
        fresh = self._filled - self._overlap
        if not fresh:
            return
        # No more than holds it: the last piece of a sound is short, and of a short sound there is no other.
        size = 1 << (self._filled - 1).bit_length()
        self._input[:, self._filled : size] = 0
        spectrum = np.fft.rfft(self._input[:, :size]) * _k_weighting(self._sample_rate_hz, size)
        weighted = np.fft.irfft(spectrum, size)
        power = np.square(weighted[:, self._overlap : self._filled]).sum(axis=0)
        self._input[:, : self._overlap] = self._input[:, self._filled - self._overlap : self._filled].copy()
        self._filled = self._overlap
        power = np.concatenate([self._rest, power])
        whole = len(power) // self._hop_frames
        hops = power[: whole * self._hop_frames].reshape(whole, self._hop_frames)
        self._hops.append(hops.mean(axis=1, dtype=np.float64))
        self._rest = power[whole * self._hop_frames :]


def hop_frames(sample_rate_hz: int) -> int:
    """How many frames `HOP_S` are."""
    return round(HOP_S * sample_rate_hz)


def _energy(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET) / 10))


# The models' rates are few; a quarter of a megabyte each. Nobody writes to it.
@functools.lru_cache(maxsize=8)
def _k_weighting(sample_rate_hz: int, size: int) -> NDArray[np.complex64]:
    """What both filters make of each frequency."""
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    frequency, quality, gain_db = _SHELF
    k, high = math.tan(math.pi * frequency / sample_rate_hz), 10 ** (gain_db / 20)
    middle = high**_SHELF_EXPONENT
    shelf = _biquad(
        z,
        (high + middle * k / quality + k * k, 2 * (k * k - high), high - middle * k / quality + k * k),
        (1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k),
    )
    frequency, quality = _HIGH_PASS
    k = math.tan(math.pi * frequency / sample_rate_hz)
    a0 = 1 + k / quality + k * k
    # The standard leaves the numerator of this one as it is.
    high_pass = _biquad(z, (1, -2, 1), (1, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0))
    response: NDArray[np.complex64] = (shelf * high_pass).astype(np.complex64)
    return response


def _biquad(
    z: NDArray[np.complex128], b: tuple[float, float, float], a: tuple[float, float, float]
) -> NDArray[np.complex128]:
    found: NDArray[np.complex128] = (b[0] + b[1] * z + b[2] * z * z) / (a[0] + a[1] * z + a[2] * z * z)
    return found
