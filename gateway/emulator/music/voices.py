"""The pitched instruments: what one note of each is made of.

Three families cover them: *plucked or struck* (partials that die away), *held* (partials that last, several
copies slightly out of tune for a section of players) and *bars and bells* (partials that are not harmonic).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gateway.emulator.music.synth import (
    CENTS_PER_OCTAVE,
    Signal,
    Spectrum,
    hz_of,
    noise,
    ring,
    spectrum,
    swell,
    with_vibrato,
)
from gateway.emulator.music.theory import Chance

Shape = Callable[[float, float], Spectrum]

_MOST_PARTIALS = 32
_LEVEL_WINDOW_S = 0.1
_NOTE_LEVEL = 0.1
_LONGEST_NOTE_S = 9.0
_STEREO = 2


@dataclass(frozen=True, slots=True)
class Voice:
    """One instrument. ``shape(hz, brightness)`` gives the partials of a note.

    ``centre`` is the pitch about which it likes to play a tune. ``copies`` are detunings in cents. A note
    lasts until it is let go and ``release_s`` longer; ``ring_s`` lets it sound on at least so long.
    ``breath`` and ``knock`` are levels of noise, throughout and at the start. ``vibrato`` is (Hz, cents,
    seconds until it sets in).
    """

    shape: Shape
    centre: int = 72
    copies: tuple[float, ...] = (0.0,)
    attack_s: float = 0.002
    release_s: float = 0.35
    ring_s: float = 0.0
    wide: bool = False
    breath: float = 0.0
    knock: float = 0.0
    vibrato: tuple[float, float, float] | None = None


def play(
    voice: Voice, pitch: int, length_s: float, *, hard: bool, rate_hz: int, channels: int, chance: Chance
) -> Signal:
    """One note, level, shape (channels or 1, frames): wide voices have their own sound on each side."""
    held_s = min(max(length_s, voice.ring_s), _LONGEST_NOTE_S)
    frames = round((held_s + voice.release_s) * rate_hz)
    one = voice.shape(hz_of(pitch), 1.5 if hard else 1.0)
    detune = 2.0 ** (np.array(voice.copies) / CENTS_PER_OCTAVE)
    tones = Spectrum(
        np.outer(detune, one.hz).ravel(),
        np.tile(one.amplitude, len(detune)),
        np.tile(one.decay, len(detune)),
        np.tile(one.rise_s, len(detune)),
    ).audible(rate_hz)
    sides = _STEREO if voice.wide and channels == _STEREO else 1
    # Sections start anywhere in their cycle; a single string starts at rest, which keeps its attack crisp.
    spread = 2 * np.pi if len(detune) > 1 else 0.0
    phases = chance.uniform(0.0, 1.0, (sides, len(tones.hz))) * spread - np.pi / 2
    sound = ring(tones, phases, frames, rate_hz)
    if voice.vibrato is not None:
        speed_hz, cents, delay_s = voice.vibrato
        sound = with_vibrato(sound, rate_hz, speed_hz=speed_hz, cents=cents, delay_s=delay_s)
    sound = _levelled(sound * swell(frames, voice.attack_s, held_s, voice.release_s, rate_hz), rate_hz)
    return _with_noises(sound, voice, hz_of(pitch), held_s, rate_hz, chance)


def _levelled(sound: Signal, rate_hz: int) -> Signal:
    """Scaled so that its loudest tenth of a second has a fixed RMS."""
    window = max(1, round(_LEVEL_WINDOW_S * rate_hz))
    blocks = sound.shape[1] // window
    power = sound[0, : blocks * window].reshape(blocks, window) if blocks else sound[:1]
    level = float(np.sqrt(np.mean(power**2, axis=1).max()))
    return sound * np.float32(_NOTE_LEVEL / max(level, 1e-9))


def _with_noises(
    sound: Signal, voice: Voice, hz: float, held_s: float, rate_hz: int, chance: Chance
) -> Signal:
    frames = sound.shape[1]
    if voice.breath:
        air = noise(frames, hz, hz * 4.0, rate_hz, chance)
        air *= swell(frames, voice.attack_s * 0.6, held_s, voice.release_s, rate_hz)
        sound = sound + air * np.float32(voice.breath * _NOTE_LEVEL)
    if voice.knock:
        short = min(frames, round(0.06 * rate_hz))
        thump = noise(short, 60.0, 1800.0, rate_hz, chance)
        sound[:, :short] += (
            thump * swell(short, 0.001, 0.004, 0.06, rate_hz) * np.float32(voice.knock * _NOTE_LEVEL)
        )
    return sound


def plucked(position: float, slope: float, decay: float, damping: float) -> Shape:
    """A string plucked at ``position`` of its length lacks some partials; high ones die sooner."""

    def shape(hz: float, brightness: float) -> Spectrum:
        n = _harmonics(hz)
        amplitude = (np.abs(np.sin(np.pi * n * position)) + 0.04) * n ** (-slope / brightness**0.4)
        stiff = n * hz * np.sqrt(1 + 0.00008 * n * n)
        return spectrum(stiff, amplitude, (decay + damping * n**1.25) * (hz / 220.0) ** 0.55)

    return shape


def hammered(softness: float) -> Shape:
    """Piano strings: stiff, in pairs that beat slowly, a quick decay first and a long one behind it."""

    def shape(hz: float, brightness: float) -> Spectrum:
        n = _harmonics(hz)[:20]
        stiff = n * hz * np.sqrt(1 + 0.0003 * (hz / 261.0) * n * n)
        amplitude = (np.abs(np.sin(np.pi * n / 8.0)) + 0.15) * n**-1.0 * np.exp(-n * softness / brightness)
        decay = (0.9 + 0.38 * n) * (hz / 261.0) ** 0.6
        return spectrum(
            np.concatenate([stiff, stiff * 1.0007]),
            np.concatenate([amplitude * 0.7, amplitude * 0.4]),
            np.concatenate([decay * 1.6, decay * 0.4]),
        )

    return shape


def sawtooth(slope: float, cutoff_hz: float, *, decay: float = 0.0, rise_s: float = 0.0) -> Shape:
    """All harmonics, softened above ``cutoff_hz``.

    With ``decay`` the high ones die first, as under a filter;
    with ``rise_s`` they come in later, as in brass.
    """

    def shape(hz: float, brightness: float) -> Spectrum:
        n = _harmonics(hz)
        amplitude = n**-slope * np.exp(-n * hz / (cutoff_hz * brightness))
        return spectrum(n * hz, amplitude, decay * n**1.1, rise_s * n)

    return shape


def pulse(width: float, slope: float, *, decay: float = 0.0) -> Shape:
    """A pulse wave; width 0.5 is a square."""

    def shape(hz: float, brightness: float) -> Spectrum:
        n = _harmonics(hz)
        amplitude = np.abs(np.sin(np.pi * n * width)) * n ** -(slope / brightness**0.3)
        return spectrum(n * hz, amplitude, decay * n)

    return shape


def listed(ratios: tuple[float, ...], levels: tuple[float, ...], decays: tuple[float, ...] = ()) -> Shape:
    """Partials one by one: bars, bells, drawbars. Decays (1/s) are those of a note at 440 Hz."""

    def shape(hz: float, brightness: float) -> Spectrum:
        ratio, level = np.array(ratios), np.array(levels)
        tilt = np.where(ratio > 1.0, brightness**0.5, 1.0)
        decay = np.array(decays) * (hz / 440.0) ** 0.4 if decays else 0.0
        return spectrum(ratio * hz, level * tilt, decay)

    return shape


def sung(formants: tuple[tuple[float, float, float], ...]) -> Shape:
    """A voice: harmonics under the humps of a vowel, each (Hz, width in Hz, level)."""

    def shape(hz: float, brightness: float) -> Spectrum:
        n = _harmonics(hz)
        humps = sum(level * np.exp(-(((n * hz - at) / width) ** 2)) for at, width, level in formants)
        return spectrum(n * hz, n**-0.6 * (humps + 0.03 * brightness))

    return shape


def _harmonics(hz: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.arange(1.0, 1.0 + max(3, min(_MOST_PARTIALS, int(11_000 / hz))))


_SECTION = (-9.0, -3.5, 2.0, 8.0)
_AH = ((650.0, 180.0, 1.0), (1080.0, 200.0, 0.6), (2650.0, 400.0, 0.22))

VOICES: dict[str, Voice] = {
    # struck and plucked
    "piano": Voice(hammered(0.10), release_s=0.4, knock=0.25),
    "felt_piano": Voice(hammered(0.30), release_s=0.5, knock=0.55),
    "house_piano": Voice(hammered(0.04), release_s=0.2, knock=0.2),
    "electric_piano": Voice(
        listed((1, 2, 3, 4, 7.1, 14.2), (1, 0.32, 0.14, 0.06, 0.14, 0.05), (1.1, 1.9, 2.6, 3.6, 13, 20)),
        copies=(-1.5, 1.5),
        wide=True,
        release_s=0.35,
        knock=0.1,
    ),
    "nylon_guitar": Voice(plucked(0.23, 1.35, 0.9, 0.22), centre=67, ring_s=0.5, knock=0.3),
    "steel_guitar": Voice(plucked(0.13, 0.95, 0.7, 0.12), centre=67, ring_s=0.6, knock=0.15),
    "clean_guitar": Voice(
        plucked(0.18, 1.15, 0.8, 0.17), centre=67, release_s=0.12, copies=(-2, 2), wide=True
    ),
    "distorted_guitar": Voice(plucked(0.16, 0.9, 0.25, 0.05), centre=52, release_s=0.05),
    "lead_guitar": Voice(
        plucked(0.2, 1.0, 0.15, 0.03), centre=72, attack_s=0.006, release_s=0.2, vibrato=(5.6, 22, 0.3)
    ),
    "harp": Voice(plucked(0.36, 1.7, 0.9, 0.25), centre=74, ring_s=1.2, release_s=0.5),
    "pizzicato": Voice(plucked(0.3, 1.4, 5.0, 1.2), centre=69, copies=(-5, 4), ring_s=0.35, knock=0.4),
    "koto": Voice(plucked(0.07, 1.0, 1.2, 0.3), centre=72, ring_s=0.7, knock=0.2),
    "upright_bass": Voice(plucked(0.28, 1.55, 1.6, 0.5), centre=40, release_s=0.15, knock=0.5),
    "electric_bass": Voice(plucked(0.22, 1.3, 0.9, 0.28), centre=40, release_s=0.08, knock=0.15),
    # held
    "violin": Voice(
        sawtooth(1.0, 4200, rise_s=0.004),
        centre=76,
        attack_s=0.07,
        release_s=0.3,
        breath=0.05,
        vibrato=(5.7, 17, 0.25),
    ),
    "cello": Voice(
        sawtooth(1.1, 2300, rise_s=0.005),
        centre=57,
        attack_s=0.08,
        release_s=0.35,
        breath=0.04,
        vibrato=(5.1, 14, 0.3),
    ),
    "strings": Voice(
        sawtooth(1.15, 3000), copies=_SECTION, wide=True, attack_s=0.16, release_s=0.6, breath=0.03
    ),
    "contrabass": Voice(sawtooth(1.2, 900), centre=38, copies=(-4, 4), attack_s=0.05, release_s=0.4),
    "horn": Voice(
        sawtooth(1.1, 1000, rise_s=0.012),
        centre=62,
        copies=(-3, 3),
        attack_s=0.06,
        release_s=0.35,
        vibrato=(4.8, 6, 0.6),
    ),
    "trumpet": Voice(
        sawtooth(0.75, 2600, rise_s=0.007), centre=71, attack_s=0.025, release_s=0.2, vibrato=(5.4, 11, 0.4)
    ),
    "muted_trumpet": Voice(
        sung(((1500.0, 700.0, 1.0), (2800.0, 900.0, 0.6), (500.0, 300.0, 0.35))),
        centre=71,
        attack_s=0.03,
        release_s=0.18,
        vibrato=(5.3, 13, 0.35),
    ),
    "brass": Voice(
        sawtooth(0.85, 2200, rise_s=0.008),
        centre=67,
        copies=(-6, 0, 6),
        wide=True,
        attack_s=0.03,
        release_s=0.18,
    ),
    "saxophone": Voice(
        sung(((520.0, 380.0, 1.0), (1250.0, 550.0, 0.7), (2500.0, 800.0, 0.3))),
        centre=67,
        attack_s=0.04,
        release_s=0.2,
        breath=0.1,
        vibrato=(5.2, 16, 0.35),
    ),
    "clarinet": Voice(pulse(0.5, 1.25), centre=70, attack_s=0.04, release_s=0.18, breath=0.04),
    "oboe": Voice(
        sung(((1100.0, 500.0, 1.0), (2900.0, 700.0, 0.5), (450.0, 250.0, 0.3))),
        centre=74,
        attack_s=0.04,
        release_s=0.2,
        vibrato=(5.3, 12, 0.35),
    ),
    "flute": Voice(
        listed((1, 2, 3, 4, 5), (1, 0.34, 0.14, 0.05, 0.02)),
        centre=79,
        attack_s=0.06,
        release_s=0.25,
        breath=0.16,
        vibrato=(5.0, 13, 0.3),
    ),
    "accordion": Voice(
        sawtooth(0.8, 3400),
        copies=(-8, 0, 8),
        wide=True,
        centre=74,
        attack_s=0.04,
        release_s=0.12,
        breath=0.03,
    ),
    "harmonica": Voice(pulse(0.3, 0.9), copies=(-3, 3), centre=72, attack_s=0.04, vibrato=(5.8, 12, 0.2)),
    "organ": Voice(
        listed((0.5, 1, 1.5, 2, 3, 4, 6, 8), (0.5, 1, 0.5, 0.7, 0.35, 0.4, 0.15, 0.2)),
        copies=(-3, 3),
        wide=True,
        attack_s=0.008,
        release_s=0.08,
        vibrato=(6.4, 5, 0.1),
    ),
    "choir": Voice(sung(_AH), copies=(-11, -4, 5, 12), wide=True, attack_s=0.3, release_s=0.8, breath=0.04),
    # machines
    "warm_pad": Voice(sawtooth(1.5, 1600), copies=(-10, -4, 4, 10), wide=True, attack_s=0.4, release_s=1.2),
    "glass_pad": Voice(
        listed((1, 2, 3, 4.01, 6.02), (1, 0.5, 0.2, 0.22, 0.1)),
        copies=(-6, 0, 6),
        wide=True,
        attack_s=0.5,
        release_s=1.4,
    ),
    "supersaw": Voice(
        sawtooth(1.0, 6500), copies=(-16, -9, -3, 4, 10, 17), wide=True, attack_s=0.02, release_s=0.3
    ),
    "saw_lead": Voice(
        sawtooth(0.95, 4200), copies=(-5, 5), centre=74, attack_s=0.01, release_s=0.2, vibrato=(5.6, 12, 0.3)
    ),
    "square_lead": Voice(
        pulse(0.5, 1.15), copies=(-3, 3), centre=74, attack_s=0.008, release_s=0.15, vibrato=(5.6, 10, 0.3)
    ),
    "synth_pluck": Voice(
        sawtooth(0.9, 6000, decay=2.4), copies=(-5, 5), wide=True, centre=74, ring_s=0.4, release_s=0.2
    ),
    "synth_bass": Voice(sawtooth(0.95, 1500, decay=1.1), copies=(-3, 3), centre=38, release_s=0.05),
    "sub_bass": Voice(listed((1, 2, 3), (1, 0.22, 0.07)), centre=36, attack_s=0.02, release_s=0.2),
    "deep_808": Voice(
        listed((1, 2, 3, 4), (1, 0.2, 0.12, 0.05), (0.5, 1.2, 2, 3)), centre=34, release_s=0.15, knock=0.7
    ),
    "chip_lead": Voice(pulse(0.25, 1.0), centre=76, release_s=0.02, vibrato=(6.5, 16, 0.25)),
    "chip_pulse": Voice(pulse(0.125, 1.0, decay=0.8), centre=76, release_s=0.02),
    "chip_bass": Voice(pulse(0.5, 2.0), centre=40, release_s=0.02),
    # bars and bells
    "glass_bells": Voice(
        listed((1, 2.0, 2.76, 4.07, 5.4), (1, 0.5, 0.35, 0.2, 0.12), (1.0, 1.6, 2.2, 3.4, 5)),
        copies=(-2, 2),
        wide=True,
        centre=79,
        ring_s=1.6,
        release_s=0.6,
    ),
    "tubular_bells": Voice(
        listed(
            (0.5, 1, 1.19, 1.5, 2, 2.52, 3.01, 4.17),
            (0.5, 1, 0.5, 0.4, 0.5, 0.3, 0.2, 0.15),
            (0.5, 0.6, 0.9, 1.1, 1.3, 2, 2.6, 4),
        ),
        centre=67,
        ring_s=2.4,
        release_s=0.8,
    ),
    "glockenspiel": Voice(
        listed((1, 2.756, 5.404), (1, 0.4, 0.2), (1.7, 5, 9)), centre=86, ring_s=1.0, release_s=0.4
    ),
    "celesta": Voice(listed((1, 2, 4.1), (1, 0.25, 0.14), (1.8, 3, 6)), centre=82, ring_s=1.0, knock=0.15),
    "music_box": Voice(
        listed((1, 3.0, 6.24), (1, 0.3, 0.16), (1.5, 4, 10)), centre=82, ring_s=1.3, release_s=0.4, knock=0.2
    ),
    "marimba": Voice(listed((1, 3.93, 9.5), (1, 0.3, 0.1), (5, 12, 26)), centre=70, ring_s=0.5, knock=0.25),
    "vibraphone": Voice(
        listed((1, 4.0, 10.0), (1, 0.22, 0.06), (0.9, 3, 9)),
        copies=(-1.5, 1.5),
        wide=True,
        centre=74,
        ring_s=0.9,
        release_s=0.4,
    ),
    "kalimba": Voice(listed((1, 2.9, 5.9), (1, 0.16, 0.1), (2.6, 9, 16)), centre=74, ring_s=0.7, knock=0.35),
}
