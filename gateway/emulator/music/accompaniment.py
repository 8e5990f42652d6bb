"""Everything under the tune: chords, pads, figures, bass and drums."""

from collections.abc import Mapping

from gateway.emulator.music.form import Bar, Section
from gateway.emulator.music.grooves import bar_of_drums
from gateway.emulator.music.plan import Plan
from gateway.emulator.music.score import Beat, Note
from gateway.emulator.music.theory import OCTAVE, Chance, lead_voices

_STEPS_PER_BEAT = 4
_COMP_CENTRE = 60
_PAD_CENTRE = 63
_ARP_CENTRE = 74
_POWER_LOWEST = 40
_END_BARS = 2.0
_LAST_EIGHTH = 14
_LEFT_OUT = 0.2
_CRASHING = 0.5

#: (sixteenth, length, who): c the whole chord, u all but its lowest note, b a low root, p a power chord,
#: 0-9 one voice of the chord counted from below, S and s a strum down and up.
Figure = tuple[tuple[int, float, str], ...]

COMPINGS: Mapping[str, Figure] = {
    "held": ((0, 15.5, "c"),),
    "lazy": ((0, 7, "c"), (10, 5.5, "u")),
    "syncopated": ((0, 3, "c"), (6, 4, "u"), (12, 2, "u")),
    "charleston": ((0, 4, "c"), (6, 2, "u")),
    "stabs": ((0, 1.6, "c"), (3, 1.6, "c"), (6, 1.6, "c"), (10, 1.6, "c"), (12, 1.6, "u")),
    "house": ((0, 1.8, "c"), (3, 1.8, "u"), (6, 2.5, "c"), (11, 1.8, "u"), (14, 1.8, "c")),
    "bossa": ((0, 1.5, "b"), (0, 3, "u"), (4, 2, "u"), (6, 1.5, "b"), (7, 3, "u"), (12, 2, "u"), (14, 1.5,
        "b")),
    "scratch": ((2, 0.8, "u"), (3, 0.8, "u"), (6, 0.8, "u"), (10, 1.6, "u"), (11, 0.8, "u"), (14, 0.8, "u")),
    "skank": ((2, 1.4, "u"), (6, 1.4, "u"), (10, 1.4, "u"), (14, 1.4, "u")),
    "power": tuple((step, 1.9, "p") for step in range(0, 16, 2)),
    "gallop": tuple((beat + step, length, "p") for beat in (0, 4, 8, 12) for step, length in ((0, 1.7), (2,
        0.9), (3, 0.9))),
    "strum": ((0, 4, "S"), (4, 2, "S"), (6, 2, "s"), (10, 2, "s"), (12, 2, "S"), (14, 2, "s")),
    "picked": ((0, 7, "b"), (0, 4, "2"), (2, 4, "0"), (4, 4, "3"), (6, 4, "1"), (8, 6, "b"), (10, 4, "2"),
        (12, 4, "3"),
               (14, 2, "1")),
    "broken": ((0, 12, "b"), (2, 4, "0"), (4, 4, "1"), (6, 4, "2"), (8, 6, "3"), (10, 4, "2"), (12, 4, "1"),
        (14, 2, "2")),
    "alberti": ((0, 15, "b"), (0, 2.5, "0"), (2, 2.5, "2"), (4, 2.5, "1"), (6, 2.5, "2"), (8, 2.5, "0"), (10,
        2.5, "2"),
                (12, 2.5, "1"), (14, 2.5, "2")),
    "waltz": ((4, 2.5, "u"), (8, 2.5, "u")),
    "ostinato": tuple((step, 1.5, "c" if step in {0, 6, 12} else "0") for step in range(0, 16, 2)),
    "eighths": ((0, 3.6, "c"), (4, 3.6, "u"), (8, 3.6, "c"), (12, 1.8, "u"), (14, 1.8, "u")),
}  # fmt: skip

#: (sixteenth, length, what): r root, 5 fifth, o octave, t third, a a step before the next root.
BASS_LINES: Mapping[str, Figure] = {
    "held": ((0, 15.5, "r"),),
    "pulse": ((0, 3.5, "r"), (4, 3.5, "r"), (8, 3.5, "r"), (12, 3.5, "r")),
    "root_fifth": ((0, 7, "r"), (8, 7, "5")),
    "pop": ((0, 5.5, "r"), (6, 1.8, "r"), (8, 3.6, "r"), (12, 1.8, "5"), (14, 1.8, "a")),
    "lazy": ((0, 6, "r"), (7, 2.5, "o"), (10, 4, "r"), (14, 1.8, "5")),
    "eighths": tuple((step, 1.8, "a" if step == _LAST_EIGHTH else "r") for step in range(0, 16, 2)),
    "octaves": tuple((step, 1.6, "o" if step % 4 else "r") for step in range(0, 16, 2)),
    "offbeat": ((2, 1.7, "r"), (6, 1.7, "r"), (10, 1.7, "r"), (14, 1.7, "o")),
    "house": ((0, 1.7, "r"), (3, 1.7, "r"), (6, 1.7, "o"), (8, 1.7, "r"), (11, 1.7, "5"), (14, 1.7, "o")),
    "rolling": tuple((beat + step, 0.9, "r") for beat in (0, 4, 8, 12) for step in (1, 2, 3)),
    "halftime": ((0, 5.5, "r"), (6, 1.5, "r"), (10, 5.5, "5")),
    "sliding": ((0, 9, "r"), (10, 2.6, "r"), (13, 2.6, "o")),
    "walking": ((0, 3.8, "r"), (4, 3.8, "t"), (8, 3.8, "5"), (12, 3.8, "a")),
    "bossa": ((0, 5.6, "r"), (6, 1.8, "5"), (8, 5.6, "5"), (14, 1.8, "r")),
    "funk": ((0, 1.6, "r"), (3, 0.9, "o"), (6, 1.6, "r"), (8, 0.9, "r"), (10, 1.6, "5"), (13, 0.9, "o"), (14,
        1.6, "a")),
    "reggae": ((0, 2.6, "r"), (3, 2.6, "5"), (6, 1.6, "r"), (10, 2.6, "t"), (13, 2.6, "r")),
    "gallop": tuple((beat + step, length, "r") for beat in (0, 4, 8, 12) for step, length in ((0, 1.7), (2,
        0.9), (3, 0.9))),
    "waltz": ((0, 5, "r"),),
}  # fmt: skip

_STRUM_BEATS = 0.035


def write_comping(plan: Plan, bars: list[Bar], chance: Chance) -> list[Note]:
    """Chords in the plan's pattern. Without a bass they bring their own low notes."""
    voicings = lead_voices([bar.chord for bar in bars], centre=_COMP_CENTRE)
    figure = COMPINGS[plan.comping]
    if plan.parts["comp"] == "distorted_guitar":
        figure = figure if plan.comping in {"power", "gallop"} else COMPINGS["power"]
    rooted = "bass" not in plan.parts
    notes: list[Note] = []
    for bar, voicing in zip(bars, voicings, strict=True):
        if bar.section is Section.END:
            notes += _last_chord(plan, bar, voicing, low=rooted)
            continue
        sparse = bar.section is Section.INTRO and plan.density < 0.6  # noqa: PLR2004 - dense music begins dense
        for step, length, who in figure:
            if step >= plan.beats * _STEPS_PER_BEAT or (sparse and chance.random() < _LEFT_OUT and step):
                continue
            if who == "b" and not rooted:
                continue
            notes += _chord_notes(plan, bar, voicing, step, length, who)
        if rooted and not any(who == "b" for _, _, who in figure):
            notes.append(Note(bar.index * plan.beats, plan.beats * 0.95, _root(bar, plan, 38), 0.6))
    return notes


def _chord_notes(
    plan: Plan, bar: Bar, voicing: tuple[int, ...], step: int, length: float, who: str
) -> list[Note]:
    at = bar.index * plan.beats + step / _STEPS_PER_BEAT
    beats = min(length / _STEPS_PER_BEAT, plan.beats - step / _STEPS_PER_BEAT)
    force = 0.5 + 0.25 * bar.energy + (0.1 if step % 8 == 0 else 0.0)
    if who in "Ss":
        strings = (_root(bar, plan, 45), *voicing) if who == "S" else tuple(reversed(voicing[-3:]))
        return [
            Note(at + index * _STRUM_BEATS, beats, pitch, force * (1.0 if who == "S" else 0.75))
            for index, pitch in enumerate(strings)
        ]
    if who == "p":
        root = _root(bar, plan, _POWER_LOWEST + 5)
        pitches: tuple[int, ...] = (root, root + 7, root + OCTAVE)
    elif who == "b":
        pitches = (_root(bar, plan, 43),)
    elif who.isdigit():
        index = int(who)
        pitches = (voicing[index % len(voicing)] + OCTAVE * (index // len(voicing)),)
    else:
        pitches = voicing if who == "c" else voicing[1:]
    return [Note(at, beats, pitch, force) for pitch in pitches]


def _last_chord(plan: Plan, bar: Bar, voicing: tuple[int, ...], *, low: bool) -> list[Note]:
    """The last chord, rolled from below, left to ring."""
    pitches = (_root(bar, plan, 38), *voicing) if low else voicing
    return [
        Note(bar.index * plan.beats + index * _STRUM_BEATS, plan.beats * _END_BARS, pitch, 0.7)
        for index, pitch in enumerate(pitches)
    ]


def write_pad(plan: Plan, bars: list[Bar]) -> list[Note]:
    """Long chords; a chord that stays is not struck again."""
    voicings = lead_voices([bar.chord for bar in bars], centre=_PAD_CENTRE)
    notes: list[Note] = []
    start = 0
    for index in range(1, len(bars) + 1):
        if (
            index < len(bars)
            and voicings[index] == voicings[start]
            and bars[index].section is bars[start].section
        ):
            continue
        length = (index - start) * plan.beats if index < len(bars) else plan.beats * _END_BARS
        force = 0.45 + 0.35 * bars[start].energy
        notes += [Note(start * plan.beats, length * 1.02, pitch, force) for pitch in voicings[start]]
        start = index
    return notes


def write_arpeggio(plan: Plan, bars: list[Bar], chance: Chance) -> list[Note]:
    """Chords taken apart, in one of a few orders, quicker when the plan is dense."""
    voicings = lead_voices([bar.chord for bar in bars], centre=_ARP_CENTRE)
    orders = ((0, 1, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0), (0, 1, 2, 3, 2, 1), (0, 2, 3, 2))
    order = orders[int(chance.integers(len(orders)))]
    stride = 1 if plan.density > 0.6 else 2  # noqa: PLR2004 - sixteenths when dense, else eighths
    notes = []
    for bar, voicing in zip(bars, voicings, strict=True):
        if bar.section is Section.VERSE and not bar.repeat:
            continue
        steps = 1 if bar.section is Section.END else plan.beats * _STEPS_PER_BEAT // stride
        for index in range(steps):
            place = order[index % len(order)]
            pitch = voicing[place % len(voicing)] + OCTAVE * (place // len(voicing))
            force = 0.45 + 0.2 * bar.energy + (0.12 if index % 4 == 0 else 0.0)
            at = bar.index * plan.beats + index * stride / _STEPS_PER_BEAT
            notes.append(Note(at, stride / _STEPS_PER_BEAT * 1.1, pitch, force))
    return notes


def write_bass(plan: Plan, bars: list[Bar], centre: int) -> list[Note]:
    """The plan's line; quiet sections get the root alone."""
    notes: list[Note] = []
    for index, bar in enumerate(bars):
        at = bar.index * plan.beats
        root = _root(bar, plan, centre)
        if bar.section is Section.END:
            notes.append(Note(at, plan.beats * _END_BARS, root, 0.75))
        elif bar.section is Section.INTRO:
            if bar.in_phrase >= bar.phrase_bars // 2:
                notes.append(Note(at, plan.beats * 0.97, root, 0.6))
        else:
            following = _root(bars[min(index + 1, len(bars) - 1)], plan, centre)
            figure = BASS_LINES["held" if bar.section is Section.BREAK else plan.bass_line]
            notes += _bass_bar(plan, bar, figure, root, following)
    return notes


def _bass_bar(plan: Plan, bar: Bar, figure: Figure, root: int, following: int) -> list[Note]:
    classes = bar.chord.classes
    third = root + (classes[1] - root) % OCTAVE
    fifth = root + (classes[2] - root) % OCTAVE
    alternate = plan.bass_line == "waltz" and bar.in_phrase % 2
    approach = following + (-1 if following > root else 1 if following < root else -OCTAVE + 7)
    pitches = {"r": fifth if alternate else root, "5": fifth, "t": third, "o": root + OCTAVE, "a": approach}
    steps = plan.beats * _STEPS_PER_BEAT
    return [
        Note(
            bar.index * plan.beats + step / _STEPS_PER_BEAT,
            min(length, steps - step) / _STEPS_PER_BEAT,
            pitches[who],
            0.7 + 0.15 * bar.energy + (0.08 if step == 0 else 0.0),
        )
        for step, length, who in figure
        if step < steps
    ]


def write_drums(plan: Plan, bars: list[Bar], chance: Chance) -> list[Beat]:
    """The plan's groove: light in quiet places, a fill where a phrase ends, a cymbal where one starts."""
    if plan.groove is None:
        return []
    beats: list[Beat] = []
    for bar in bars:
        at = bar.index * plan.beats
        if bar.section is Section.END:
            beats += [Beat(at, "kick", 0.85), Beat(at, "crash", 0.7 * plan.loudness)]
            continue
        waiting = bar.section is Section.INTRO and bar.in_phrase < bar.phrase_bars // 2
        if waiting and plan.style.human > 0.3:  # noqa: PLR2004 - machines start with the beat, people come in
            continue
        opening = bar.first and bar.section in {Section.VERSE, Section.BRIDGE} and plan.loudness > 0.5  # noqa: PLR2004 - no crash in quiet music
        for hit in bar_of_drums(
            plan.groove, beats=plan.beats, loudness=bar.energy, fill=bar.last, crash=opening, chance=chance
        ):
            beats.append(Beat(at + hit.step / _STEPS_PER_BEAT, hit.drum, hit.force))
    return beats


def _root(bar: Bar, plan: Plan, near: int) -> int:
    """The chord's root, as near to a pitch as it gets."""
    pitch_class = plan.key.pitch(bar.chord.root) % OCTAVE
    return near - 6 + (pitch_class - (near - 6)) % OCTAVE
