"""Drums and cymbals: one hit of each, for every kit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gateway.emulator.music.synth import Signal, decay_curve, noise, ring, spectrum
from gateway.emulator.music.theory import Chance

_HIT_LEVEL = 0.5
_EDGE_S = 0.003


@dataclass(frozen=True, slots=True)
class Drum:
    """A hit: a tone that falls from ``start_hz`` to ``hz``, partials of a skin or a plate, and noise.

    ``tone``, ``plate`` and ``hiss`` are levels; ``*_s`` are seconds until 60 dB down. ``band_hz`` bounds the
    noise. ``claps`` repeats the noise's onset, as hands do. ``pan`` is -1 (left) to 1, ``level`` the place in
    the mix.
    """

    hz: float = 0.0
    start_hz: float = 0.0
    fall_s: float = 0.05
    tone: float = 0.0
    tone_s: float = 0.3
    plate_hz: tuple[float, ...] = ()
    plate: float = 0.0
    plate_s: float = 0.3
    hiss: float = 0.0
    hiss_s: float = 0.1
    band_hz: tuple[float, float] = (200.0, 12_000.0)
    rise_s: float = 0.0
    claps: int = 1
    drive: float = 0.0
    pan: float = 0.0
    level: float = 1.0


_CYMBAL = (312.0, 417.0, 520.0, 687.0, 839.0, 1113.0, 1453.0, 1916.0, 2521.0, 3307.0, 4211.0, 5439.0)
_HAT = (2531.0, 3187.0, 4019.0, 4783.0, 5621.0, 6847.0, 8011.0, 9293.0)
_SKIN = (182.0, 291.0, 330.0, 418.0, 539.0)

_ACOUSTIC: Mapping[str, Drum] = {
    "kick": Drum(
        52, 150, 0.03, tone=1.0, tone_s=0.34, hiss=0.16, hiss_s=0.03, band_hz=(600, 5000), drive=1.2
    ),
    "snare": Drum(
        plate_hz=_SKIN,
        plate=0.5,
        plate_s=0.2,
        hiss=0.75,
        hiss_s=0.24,
        band_hz=(1400, 9500),
        pan=0.05,
        level=0.72,
    ),
    "rim": Drum(plate_hz=(430.0, 1720.0, 2400.0), plate=1.0, plate_s=0.07, pan=0.1, level=0.42),
    "hat": Drum(
        plate_hz=_HAT,
        plate=0.4,
        plate_s=0.07,
        hiss=0.6,
        hiss_s=0.07,
        band_hz=(6500, 15_000),
        pan=0.28,
        level=0.26,
    ),
    "open": Drum(
        plate_hz=_HAT,
        plate=0.4,
        plate_s=0.5,
        hiss=0.6,
        hiss_s=0.5,
        band_hz=(6000, 15_000),
        pan=0.28,
        level=0.26,
    ),
    "ride": Drum(
        plate_hz=_CYMBAL,
        plate=0.7,
        plate_s=1.3,
        hiss=0.3,
        hiss_s=0.5,
        band_hz=(5000, 14_000),
        pan=-0.3,
        level=0.22,
    ),
    "crash": Drum(
        plate_hz=_CYMBAL,
        plate=0.35,
        plate_s=2.2,
        hiss=0.8,
        hiss_s=1.8,
        band_hz=(3000, 14_000),
        pan=-0.2,
        level=0.3,
    ),
    "tom_high": Drum(165, 215, 0.06, tone=1.0, tone_s=0.35, hiss=0.12, hiss_s=0.05, pan=0.3, level=0.7),
    "tom_mid": Drum(120, 160, 0.06, tone=1.0, tone_s=0.42, hiss=0.12, hiss_s=0.05, pan=0.0, level=0.75),
    "tom_low": Drum(84, 115, 0.07, tone=1.0, tone_s=0.55, hiss=0.12, hiss_s=0.05, pan=-0.3, level=0.8),
    "clap": Drum(hiss=1.0, hiss_s=0.22, band_hz=(900, 6500), claps=4, level=0.5),
    "shaker": Drum(hiss=1.0, hiss_s=0.09, band_hz=(5500, 13_000), rise_s=0.018, pan=-0.35, level=0.2),
    "tambourine": Drum(
        plate_hz=_HAT,
        plate=0.5,
        plate_s=0.16,
        hiss=0.6,
        hiss_s=0.12,
        band_hz=(7000, 15_000),
        pan=-0.35,
        level=0.2,
    ),
    "conga_high": Drum(330, 345, 0.02, tone=1.0, tone_s=0.18, hiss=0.1, hiss_s=0.02, pan=-0.3, level=0.4),
    "conga_low": Drum(208, 220, 0.03, tone=1.0, tone_s=0.26, hiss=0.1, hiss_s=0.02, pan=-0.4, level=0.45),
}

_ELECTRONIC: Mapping[str, Drum] = {
    **_ACOUSTIC,
    "kick": Drum(
        46, 220, 0.035, tone=1.0, tone_s=0.42, hiss=0.1, hiss_s=0.012, band_hz=(1500, 9000), drive=1.6
    ),
    "snare": Drum(
        195, 260, 0.02, tone=0.45, tone_s=0.14, hiss=0.8, hiss_s=0.2, band_hz=(1500, 11_000), level=0.68
    ),
    "clap": Drum(hiss=1.0, hiss_s=0.25, band_hz=(900, 8000), claps=4, level=0.58),
    "hat": Drum(hiss=1.0, hiss_s=0.05, band_hz=(8000, 16_000), pan=0.2, level=0.24),
    "open": Drum(hiss=1.0, hiss_s=0.28, band_hz=(7000, 16_000), pan=0.2, level=0.24),
}

_LOFI: Mapping[str, Drum] = {
    **_ACOUSTIC,
    "kick": Drum(55, 110, 0.03, tone=1.0, tone_s=0.24, hiss=0.1, hiss_s=0.02, band_hz=(400, 2500), drive=1.0),
    "snare": Drum(
        plate_hz=_SKIN,
        plate=0.5,
        plate_s=0.13,
        hiss=0.6,
        hiss_s=0.14,
        band_hz=(900, 5000),
        pan=0.05,
        level=0.6,
    ),
    "hat": Drum(hiss=1.0, hiss_s=0.06, band_hz=(4500, 8500), pan=0.25, level=0.2),
    "open": Drum(hiss=1.0, hiss_s=0.2, band_hz=(4500, 8500), pan=0.25, level=0.18),
}

_BRUSHES: Mapping[str, Drum] = {
    **_ACOUSTIC,
    "kick": replace(_ACOUSTIC["kick"], level=0.6, drive=0.5),
    "snare": Drum(
        plate_hz=_SKIN,
        plate=0.15,
        plate_s=0.12,
        hiss=0.8,
        hiss_s=0.22,
        band_hz=(1800, 8000),
        rise_s=0.012,
        level=0.34,
    ),
    "clap": Drum(hiss=1.0, hiss_s=0.3, band_hz=(1500, 7000), rise_s=0.05, level=0.2),
}

_ORCHESTRAL: Mapping[str, Drum] = {
    **_ACOUSTIC,
    "kick": Drum(44, 62, 0.08, tone=1.0, tone_s=1.1, hiss=0.22, hiss_s=0.08, band_hz=(80, 900), level=0.7),
    "snare": replace(_ACOUSTIC["snare"], level=0.32, hiss_s=0.2),
    "tom_low": Drum(
        73, 88, 0.07, tone=1.0, tone_s=0.9, hiss=0.2, hiss_s=0.06, band_hz=(90, 1200), pan=-0.25, level=0.62
    ),
    "tom_mid": Drum(
        98, 116, 0.06, tone=1.0, tone_s=0.7, hiss=0.2, hiss_s=0.06, band_hz=(90, 1500), pan=0.25, level=0.8
    ),
    "crash": replace(_ACOUSTIC["crash"], plate_s=3.0, hiss_s=2.6, level=0.34),
}

_CHIP: Mapping[str, Drum] = {
    **_ELECTRONIC,
    "kick": Drum(60, 300, 0.03, tone=1.0, tone_s=0.16, drive=3.0, level=0.9),
    "snare": Drum(hiss=1.0, hiss_s=0.16, band_hz=(300, 7000), level=0.5),
    "hat": Drum(hiss=1.0, hiss_s=0.04, band_hz=(6000, 14_000), level=0.18),
    "open": Drum(hiss=1.0, hiss_s=0.14, band_hz=(6000, 14_000), level=0.18),
}

KITS: Mapping[str, Mapping[str, Drum]] = {
    "acoustic": _ACOUSTIC,
    "electronic": _ELECTRONIC,
    "lofi": _LOFI,
    "brushes": _BRUSHES,
    "orchestral": _ORCHESTRAL,
    "chip": _CHIP,
}


def strike(drum: Drum, rate_hz: int, chance: Chance) -> Signal:
    """One hit, shape (frames,), its level already that of the mix."""
    seconds = max(
        drum.tone_s * (drum.tone > 0), drum.plate_s * (drum.plate > 0), drum.hiss_s * (drum.hiss > 0)
    )
    frames = max(1, round((seconds + drum.rise_s) * rate_hz))
    sound = np.zeros(frames, np.float32)
    if drum.tone:
        sound += _falling_tone(drum, frames, rate_hz) * np.float32(drum.tone)
    if drum.plate:
        sound += _plate(drum, frames, rate_hz, chance) * np.float32(drum.plate)
    if drum.hiss:
        sound += _hiss(drum, frames, rate_hz, chance) * np.float32(drum.hiss)
    if drum.drive:
        sound = np.tanh(sound * np.float32(1.0 + drum.drive)).astype(np.float32)
    edge = min(frames, round(_EDGE_S * rate_hz))
    sound[frames - edge :] *= np.linspace(1.0, 0.0, edge, dtype=np.float32)
    return sound * np.float32(_HIT_LEVEL * drum.level / max(float(np.abs(sound).max()), 1e-9))


def _falling_tone(drum: Drum, frames: int, rate_hz: int) -> Signal:
    time = np.arange(frames) / rate_hz
    fall = np.exp(-time / drum.fall_s)
    cycles = drum.hz * time + (drum.start_hz - drum.hz) * drum.fall_s * (1.0 - fall)
    return np.sin(2 * np.pi * cycles).astype(np.float32) * decay_curve(frames, drum.tone_s, rate_hz)


def _plate(drum: Drum, frames: int, rate_hz: int, chance: Chance) -> Signal:
    hz = np.array(drum.plate_hz) * chance.uniform(0.985, 1.015, len(drum.plate_hz))
    tones = spectrum(hz, np.full(len(hz), 1.0 / len(hz) ** 0.5), 6.9 / drum.plate_s).audible(rate_hz)
    sound: Signal = ring(tones, chance.uniform(0, 2 * np.pi, (1, len(tones.hz))), frames, rate_hz)[0]
    return sound


def _hiss(drum: Drum, frames: int, rate_hz: int, chance: Chance) -> Signal:
    curve = decay_curve(frames, drum.hiss_s, rate_hz)
    rise = round(drum.rise_s * rate_hz)
    if rise:
        curve = np.concatenate([np.linspace(0.0, 1.0, rise, dtype=np.float32), curve])[:frames]
    gap = round(0.011 * rate_hz)
    for clap in range(drum.claps - 1):
        flam = curve[clap * gap : (clap + 1) * gap]
        flam[:] = np.linspace(0.9, 0.15, len(flam), dtype=np.float32)
    low_hz, high_hz = drum.band_hz
    return noise(frames, low_hz, min(high_hz, 0.45 * rate_hz), rate_hz, chance) * curve * np.float32(0.4)
