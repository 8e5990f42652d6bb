"""Scales, chords, progressions, and how one chord moves to the next. Pitches are MIDI: 60 is middle C."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Chance = np.random.Generator

OCTAVE = 12

MODES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}

#: Roots as steps of the scale, counted from 0; one progression fills a phrase. A verse sits on the tonic,
#: a bridge sets out from somewhere else and ends where it wants to go home.
VERSES: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 5, 4), (0, 2, 3, 4), (0, 5, 1, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 4), (0, 5, 3, 4), (0, 2, 6, 3), (0, 3, 6, 2)),
    "dorian": ((0, 3, 0, 6), (0, 6, 3, 0), (0, 2, 3, 0), (0, 3, 6, 3)),
    "phrygian": ((0, 1, 2, 1), (0, 1, 0, 6), (0, 6, 1, 0), (0, 1, 3, 1)),
    "lydian": ((0, 1, 0, 4), (0, 1, 5, 4), (0, 4, 1, 0), (0, 2, 1, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 0), (0, 4, 6, 3), (0, 6, 3, 4)),
}
BRIDGES: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": ((3, 4, 2, 5), (5, 3, 0, 4), (1, 4, 2, 4), (3, 0, 1, 4)),
    "minor": ((3, 0, 5, 4), (5, 6, 0, 4), (2, 6, 3, 4), (3, 6, 2, 4)),
    "dorian": ((3, 0, 3, 6), (6, 3, 2, 6), (2, 3, 6, 3)),
    "phrygian": ((5, 1, 3, 1), (3, 2, 1, 1), (6, 5, 1, 1)),
    "lydian": ((1, 4, 5, 4), (5, 1, 2, 4), (2, 5, 1, 4)),
    "mixolydian": ((3, 6, 0, 6), (4, 3, 6, 4), (5, 3, 6, 4)),
}

_LEADING_STEP = 4  # a chord on the fifth
_THIRD = 2


@dataclass(frozen=True, slots=True)
class Key:
    """A tonic (0 is C, 11 is B) and a mode of `MODES`."""

    tonic: int
    mode: str

    def pitch(self, step: int, *, octave: int = 4) -> int:
        """The MIDI pitch ``step`` scale steps above (below) the tonic of ``octave``; 4 holds middle C."""
        scale = MODES[self.mode]
        turns, index = divmod(step, len(scale))
        return (octave + 1 + turns) * OCTAVE + self.tonic + scale[index]

    def nearest_step(self, pitch: float, *, octave: int = 4) -> int:
        """The scale step whose pitch is nearest."""
        return min(range(-21, 29), key=lambda step: (abs(self.pitch(step, octave=octave) - pitch), step))


@dataclass(frozen=True, slots=True)
class Chord:
    """``root`` is a scale step; ``classes`` are its pitch classes, root first."""

    root: int
    classes: tuple[int, ...]

    def holds(self, pitch: int) -> bool:
        return pitch % OCTAVE in self.classes


def chord_on(key: Key, root: int, size: int) -> Chord:
    """A chord of ``size`` stacked thirds. In minor the dominant gets its leading note."""
    classes = [key.pitch(root + _THIRD * index) % OCTAVE for index in range(size)]
    if key.mode == "minor" and root % len(MODES["minor"]) == _LEADING_STEP:
        classes[1] = (key.tonic - 1) % OCTAVE
    return Chord(root, tuple(classes))


def lead_voices(chords: Sequence[Chord], *, centre: int, width: int = 9) -> list[tuple[int, ...]]:
    """Pitches for each chord, close together about ``centre``, every voice moving as little as it can."""
    voicings: list[tuple[int, ...]] = []
    for chord in chords:
        before = voicings[-1] if voicings else None
        voicings.append(
            min(_voicings(chord, centre, width), key=lambda pitches: _cost(pitches, before, centre))
        )
    return voicings


def _voicings(chord: Chord, centre: int, width: int) -> list[tuple[int, ...]]:
    """Every close position of the chord whose lowest voice lies within ``width`` below the centre."""
    found = []
    for lowest in range(centre - width, centre + 3):
        if lowest % OCTAVE not in chord.classes:
            continue
        others = sorted((other - lowest) % OCTAVE for other in chord.classes if other != lowest % OCTAVE)
        found.append((lowest, *(lowest + interval for interval in others)))
    return found


def _cost(pitches: tuple[int, ...], before: tuple[int, ...] | None, centre: int) -> float:
    drift = abs(sum(pitches) / len(pitches) - centre)
    crowding = sum(2.0 for low, high in pairwise(pitches) if high - low == 1)
    if before is None:
        return drift + crowding
    movement = sum(min(abs(pitch - old) for old in before) for pitch in pitches)
    jump = abs(pitches[-1] - before[-1])
    return movement + 0.5 * jump + 0.6 * drift + crowding
