"""Raw sound: sums of decaying sines by matrix product, shaped noise, envelopes, vibrato.

A decaying sine is geometric: z**(a + b) = z**a * z**b. Written as rows (z**a, coarse steps) times columns
(z**b, fine steps), a whole note with all its partials is one small matrix product instead of a sine per
partial and sample.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.emulator.music.theory import Chance

Signal = NDArray[np.float32]
Values = NDArray[np.float64]

A4_PITCH = 69
A4_HZ = 440.0
CENTS_PER_OCTAVE = 1200.0

_STEP_FRAMES = 128
#: Multiplications in one product: below this the linear algebra library does not wake its threads, which
#: would cost more than they bring, and the order of additions does not hang on the machine's cores.
_PRODUCT_SIZE = 262_144
_HIGHEST_PARTIAL = 0.42  # of the sample rate: clear of the Nyquist frequency
_INAUDIBLE = 1e-4
_EDGE_S = 0.004
_60_DB = 6.9078  # as a natural logarithm


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Partials of one tone: frequencies in Hz, amplitudes, decays (1/s), and rises (s; 0 sounds at once)."""

    hz: Values
    amplitude: Values
    decay: Values
    rise_s: Values

    def audible(self, rate_hz: int) -> "Spectrum":
        keep = (self.hz < _HIGHEST_PARTIAL * rate_hz) & (np.abs(self.amplitude) > _INAUDIBLE)
        return Spectrum(self.hz[keep], self.amplitude[keep], self.decay[keep], self.rise_s[keep])


def spectrum(
    hz: Values, amplitude: Values, decay: Values | float = 0.0, rise_s: Values | float = 0.0
) -> Spectrum:
    return Spectrum(hz, amplitude, np.broadcast_to(decay, hz.shape), np.broadcast_to(rise_s, hz.shape))


def hz_of(pitch: float) -> float:
    """Frequency of a MIDI pitch, equal temperament."""
    return float(A4_HZ * 2.0 ** ((pitch - A4_PITCH) / 12.0))


def ring(tones: Spectrum, phases: Values, frames: int, rate_hz: int) -> Signal:
    """The sum of ``tones``; ``phases`` has one row (radians) for each channel. Shape (channels, frames)."""
    rising = tones.rise_s > 0
    hz = np.concatenate([tones.hz, tones.hz[rising]])
    decay = np.concatenate([tones.decay, tones.decay[rising] + 1.0 / tones.rise_s[rising]])
    amplitude = np.concatenate([tones.amplitude, -tones.amplitude[rising]])
    phase = np.concatenate([phases, phases[:, rising]], axis=1)
    exponent = (2j * np.pi * hz - decay) / rate_hz
    width = max(1, _PRODUCT_SIZE // (_STEP_FRAMES * 2 * len(hz)))
    products = -(-frames // (_STEP_FRAMES * width))
    fine = np.exp(np.outer(exponent, np.arange(float(_STEP_FRAMES))))
    columns = np.concatenate([fine.real, -fine.imag]).astype(np.float32)
    middle = np.exp(np.outer(np.arange(width) * float(_STEP_FRAMES), exponent))
    coarse = np.exp(np.outer(np.arange(products) * float(_STEP_FRAMES * width), exponent))
    out = np.empty((len(phase), frames), np.float32)
    for channel, row in enumerate(phase):
        turned = (coarse * (amplitude * np.exp(1j * row)))[:, None, :] * middle
        rows = np.concatenate([turned.real, turned.imag], axis=2).astype(np.float32)
        out[channel] = (rows @ columns).reshape(-1)[:frames]
    return out


def noise(frames: int, low_hz: float, high_hz: float, rate_hz: int, chance: Chance) -> Signal:
    """White noise between two frequencies with soft edges, RMS 1."""
    length = good_length(max(frames, 64))
    bins = np.fft.rfft(chance.standard_normal(length).astype(np.float32))
    hz = np.fft.rfftfreq(length, 1.0 / rate_hz)
    mask = 1.0 / (1.0 + (low_hz / np.maximum(hz, 1.0)) ** 4) / (1.0 + (hz / high_hz) ** 4)
    sound = np.fft.irfft(bins * mask.astype(np.float32), length)[:frames].astype(np.float32)
    level = float(np.sqrt(np.mean(sound**2)))
    return sound / np.float32(level or 1.0)


def decay_curve(frames: int, seconds: float, rate_hz: int) -> Signal:
    """Exponential, down 60 dB after ``seconds``."""
    curve: Signal = np.exp(np.arange(frames) * (-_60_DB / (seconds * rate_hz))).astype(np.float32)
    return curve


def swell(frames: int, attack_s: float, held_s: float, release_s: float, rate_hz: int) -> Signal:
    """Rises over ``attack_s``, holds until ``held_s``, falls 60 dB over ``release_s``; ends in silence."""
    curve = np.ones(frames, np.float32)
    attack = min(frames, max(2, round(attack_s * rate_hz)))
    curve[:attack] = 0.5 - 0.5 * np.cos(np.pi * np.arange(attack) / attack)
    held = round(held_s * rate_hz)
    if held < frames:
        curve[held:] *= decay_curve(frames - held, release_s, rate_hz)
    edge = min(frames, round(_EDGE_S * rate_hz))
    curve[frames - edge :] *= np.linspace(1.0, 0.0, edge, dtype=np.float32)
    return curve


def with_vibrato(sound: Signal, rate_hz: int, *, speed_hz: float, cents: float, delay_s: float) -> Signal:
    """Pitch swinging by ``cents`` either way, setting in over ``delay_s``."""
    frames = sound.shape[1]
    time = np.arange(frames) / rate_hz
    onset = np.clip(time / max(delay_s, 1e-3) - 0.6, 0.0, 1.0)
    swing = 2.0 ** (cents / CENTS_PER_OCTAVE) - 1.0
    # A delay of d·sin(2πvt) seconds bends the pitch by 2πv·d at most.
    shift = onset * np.sin(2 * np.pi * speed_hz * time) * (swing / (2 * np.pi * speed_hz)) * rate_hz
    where = np.clip(np.arange(frames) + shift, 0, frames - 1)
    left = np.minimum(where.astype(np.int64), frames - 2)
    part = (where - left).astype(np.float32)
    bent: Signal = sound[:, left] * (1 - part) + sound[:, left + 1] * part
    return bent


def good_length(frames: int) -> int:
    """The next length that the transform likes: 2^a · 3^b · 5^c."""
    best = 1 << (frames - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three << max(0, (-(-frames // three) - 1).bit_length())
            best = min(best, two)
            three *= 3
        five *= 5
    return best
