"""The tune: a motif of two bars, repeated over changing chords, answered, varied, and brought home."""

from dataclasses import dataclass

from gateway.emulator.music.form import Bar, Section
from gateway.emulator.music.plan import Plan
from gateway.emulator.music.score import Note
from gateway.emulator.music.theory import OCTAVE, Chance

_STEPS_PER_BEAT = 4
_STEPS_PER_OCTAVE = 7
_RANGE = 10
_SEARCH = 3
_LONG_STEPS = 6

#: How likely the answer takes over the rhythm, the tune begins upward, a step goes on in its direction.
_SAME_RHYTHM = 0.35
_UPWARD = 0.6
_ONWARD = 0.72

Rhythm = tuple[tuple[int, int], ...]

#: One bar each: (sixteenth, length in sixteenths), from sparse to dense, by beats in the bar.
_RHYTHMS: dict[int, tuple[tuple[Rhythm, ...], ...]] = {
    4: (
        (((0, 8), (8, 7)), ((0, 12), (12, 3)), ((0, 6), (6, 9)), ((4, 11),), ((0, 14),)),
        (
            ((0, 4), (4, 4), (8, 7)),
            ((0, 6), (6, 2), (8, 7)),
            ((0, 3), (3, 3), (6, 2), (8, 6)),
            ((2, 2), (4, 4), (8, 5), (14, 2)),
            ((0, 4), (6, 2), (8, 4), (12, 3)),
            ((0, 2), (2, 2), (4, 6), (12, 4)),
        ),
        (
            ((0, 2), (2, 2), (4, 4), (8, 2), (10, 2), (12, 4)),
            ((0, 3), (3, 3), (6, 4), (10, 2), (12, 2), (14, 2)),
            ((0, 2), (2, 2), (4, 2), (6, 4), (10, 2), (12, 3)),
            ((0, 2), (3, 1), (4, 2), (6, 2), (8, 4), (12, 2), (14, 2)),
        ),
    ),
    3: (
        (((0, 8), (8, 4)), ((0, 11),), ((0, 6), (6, 5))),
        (
            ((0, 4), (4, 4), (8, 4)),
            ((0, 6), (6, 2), (8, 4)),
            ((0, 8), (8, 2), (10, 2)),
            ((0, 4), (4, 2), (6, 2), (8, 4)),
        ),
        (((0, 2), (2, 2), (4, 2), (6, 2), (8, 4)), ((0, 4), (4, 2), (6, 2), (8, 2), (10, 2))),
    ),
}


@dataclass(frozen=True, slots=True)
class _Tone:
    """A note of the motif: when, how long (sixteenths), and how many scale steps from the note before."""

    step: int
    length: int
    move: int


Motif = tuple[tuple[_Tone, ...], ...]


def write_melody(plan: Plan, bars: list[Bar], centre: int, chance: Chance) -> list[Note]:
    """The tune, about the pitch ``centre``. It waits through the introduction if others play there."""
    motifs = {section: _motif(plan, chance) for section in (Section.VERSE, Section.BRIDGE)}
    motifs[Section.INTRO] = motifs[Section.BREAK] = motifs[Section.VERSE]
    alone = set(plan.parts) <= {"lead", "bass"}
    notes: list[Note] = []
    for bar in bars:
        if bar.section is Section.END:
            notes += _last_note(plan, bar, centre)
        elif alone or _sings(bar):
            notes += _bar(plan, bar, motifs[bar.section], centre, chance)
    return notes


def _sings(bar: Bar) -> bool:
    if bar.section is Section.BREAK:
        return bar.in_phrase % 2 == 0
    return bar.section is not Section.INTRO


def _motif(plan: Plan, chance: Chance) -> Motif:
    """Two bars: a statement, and an answer that shares its rhythm or contrasts with it."""
    levels = _RHYTHMS[plan.beats]
    level = min(len(levels) - 1, int(plan.density * len(levels)))
    pool = levels[level]
    first = pool[int(chance.integers(len(pool)))]
    second = first if chance.random() < _SAME_RHYTHM else pool[int(chance.integers(len(pool)))]
    direction = 1 if chance.random() < _UPWARD else -1
    return _contour(first, direction, chance), _contour(second, -direction, chance)


def _contour(rhythm: Rhythm, direction: int, chance: Chance) -> tuple[_Tone, ...]:
    """Mostly steps in one direction; a leap is followed by a step back."""
    tones: list[_Tone] = []
    owed = 0
    for index, (step, length) in enumerate(rhythm):
        if index == 0:
            move = 0
        elif owed:
            move, owed = owed, 0
        else:
            size = int(chance.choice((1, 1, 1, 1, 2, 2, 3, 4, 0)))
            move = size * (direction if chance.random() < _ONWARD else -direction)
            owed = -1 if move > 2 else int(move < -2)  # noqa: PLR2004 - a third is no leap
        tones.append(_Tone(step, length, move))
    return tuple(tones)


def _bar(plan: Plan, bar: Bar, motif: Motif, centre: int, chance: Chance) -> list[Note]:
    start = plan.key.nearest_step(centre) + (3 if bar.section is Section.BRIDGE else 0)
    tones = _cadence(plan, bar, chance) if bar.last else motif[bar.in_phrase % len(motif)]
    if bar.repeat and bar.in_phrase == 2:  # noqa: PLR2004 - the third bar is where a repeat is varied
        tones = _ornamented(tones)
    lift = 2 if bar.in_phrase == 2 and bar.energy > 0.75 else 0  # noqa: PLR2004 - the same, near the climax
    position = start + lift
    notes = []
    for tone in tones:
        position = _turned_back(plan, position, tone.move, centre)
        if tone.step % 8 == 0 or tone.length >= _LONG_STEPS:
            position = _on_chord(plan, bar, position)
        pitch = _sharpened(plan, bar, plan.key.pitch(position))
        force = 0.62 + 0.22 * bar.energy + (0.1 if tone.step % 8 == 0 else 0.0)
        at = bar.index * plan.beats + tone.step / _STEPS_PER_BEAT
        notes.append(Note(at, tone.length / _STEPS_PER_BEAT * 0.96, pitch, force))
        if bar.energy > 0.9 and tone.length >= _LONG_STEPS:  # noqa: PLR2004 - the climax is sung in two voices
            notes.append(Note(at, tone.length / _STEPS_PER_BEAT, plan.key.pitch(position - 2), force * 0.6))
    return notes


def _cadence(plan: Plan, bar: Bar, chance: Chance) -> tuple[_Tone, ...]:
    """The end of a phrase: one long note, sometimes approached, then breath."""
    long = plan.beats * _STEPS_PER_BEAT * 5 // 8
    if plan.density > 0.3 and chance.random() < 0.6:  # noqa: PLR2004 - more often than not, unless sparse
        return _Tone(0, 4, 1), _Tone(4, long, -1 if bar.repeat % 2 else 1)
    return (_Tone(0, long + 2, 0),)


def _ornamented(tones: tuple[_Tone, ...]) -> tuple[_Tone, ...]:
    """The longest note gains a neighbour."""
    longest = max(tones, key=lambda tone: tone.length)
    if longest.length < 4:  # noqa: PLR2004 - too short to divide
        return tones
    half = longest.length // 2
    split = (
        _Tone(longest.step, half, longest.move),
        _Tone(longest.step + half, longest.length - half, 1),
    )
    return tuple(part for tone in tones for part in (split if tone is longest else (tone,)))


def _turned_back(plan: Plan, position: int, move: int, centre: int) -> int:
    """The next scale step, reflected where it would leave the range."""
    moved = position + move
    return position - move if abs(plan.key.pitch(moved) - centre) > _RANGE else moved


def _on_chord(plan: Plan, bar: Bar, position: int) -> int:
    near = sorted(range(position - _SEARCH, position + _SEARCH + 1), key=lambda step: abs(step - position))
    return next((step for step in near if bar.chord.holds(plan.key.pitch(step))), position)


def _sharpened(plan: Plan, bar: Bar, pitch: int) -> int:
    """Over the dominant in minor the seventh step is raised, as the chord's own third is."""
    leading = (plan.key.tonic - 1) % OCTAVE
    clash = plan.key.mode == "minor" and (pitch + 1) % OCTAVE == leading and leading in bar.chord.classes
    return pitch + 1 if clash else pitch


def _last_note(plan: Plan, bar: Bar, centre: int) -> list[Note]:
    """Home: the tonic nearest to where the tune has been."""
    octaves = round(plan.key.nearest_step(centre) / _STEPS_PER_OCTAVE)
    pitch = plan.key.pitch(octaves * _STEPS_PER_OCTAVE)
    return [Note(bar.index * plan.beats, plan.beats * 2.0, pitch, 0.75)]
