"""The shape of a piece: bars, phrases, how full each is, and the harmony under them."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.emulator.music.plan import Plan
from gateway.emulator.music.theory import BRIDGES, VERSES, Chance, Chord, chord_on

PHRASE_BARS = 4

_LONG_PIECE_BARS = 20
_FOUR_PHRASES = 4


class Section(StrEnum):
    INTRO = "intro"
    VERSE = "A"
    BRIDGE = "B"
    BREAK = "C"
    END = "end"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. ``in_phrase`` counts from 0, ``phrase_bars`` is how many its phrase has.

    ``repeat`` counts how often this section has been heard before; ``energy`` goes from 0 to 1.
    """

    index: int
    section: Section
    repeat: int
    in_phrase: int
    phrase_bars: int
    energy: float
    chord: Chord

    @property
    def first(self) -> bool:
        return self.in_phrase == 0

    @property
    def last(self) -> bool:
        return self.in_phrase == self.phrase_bars - 1


#: Phrases after the introduction, for pieces of so many; longer ones go round the cycle below.
_PHRASES: dict[int, str] = {0: "", 1: "A", 2: "AB", 3: "ABA", 4: "AABA"}
_CYCLE = "AABACBAABACA"
_ENERGY = {Section.VERSE: 0.62, Section.BRIDGE: 0.85, Section.BREAK: 0.42}


def shape(plan: Plan, bars: int, chance: Chance) -> list[Bar]:
    """``bars`` bars of music, and one more for the last chord, which is left to ring."""
    verse = chance.integers(len(VERSES[plan.key.mode]))
    bridge = chance.integers(len(BRIDGES[plan.key.mode]))
    progressions = {
        Section.VERSE: VERSES[plan.key.mode][int(verse)],
        Section.BRIDGE: BRIDGES[plan.key.mode][int(bridge)],
    }
    progressions[Section.INTRO] = progressions[Section.VERSE]
    progressions[Section.BREAK] = progressions[Section.VERSE]
    shaped: list[Bar] = []
    heard: dict[Section, int] = {}
    for section, length in _sections(bars):
        repeat = heard.get(section, 0)
        heard[section] = repeat + 1
        energy = _energy(section, repeat, at=len(shaped) / max(1, bars))
        for in_phrase in range(length):
            place = in_phrase // plan.style.bars_per_chord
            if plan.style.bars_per_chord > 1:
                place += repeat * (PHRASE_BARS // plan.style.bars_per_chord)
            root = progressions[section][place % PHRASE_BARS]
            chord = chord_on(plan.key, root, plan.style.chord_size)
            shaped.append(Bar(len(shaped), section, repeat, in_phrase, length, energy, chord))
    tonic = chord_on(plan.key, 0, min(plan.style.chord_size, 4))
    shaped.append(Bar(len(shaped), Section.END, 0, 0, 1, 0.7, tonic))
    return shaped


def _sections(bars: int) -> list[tuple[Section, int]]:
    """Sections and their lengths; what four does not divide goes into the introduction."""
    phrases, intro = divmod(bars, PHRASE_BARS)
    if not intro and bars >= _LONG_PIECE_BARS:
        phrases, intro = phrases - 1, PHRASE_BARS
    names = (
        _PHRASES[phrases] if phrases <= _FOUR_PHRASES else (_CYCLE * (phrases // len(_CYCLE) + 1))[:phrases]
    )
    sections = [(Section.INTRO, intro)] if intro else []
    return sections + [(Section(name), PHRASE_BARS) for name in names]


def _energy(section: Section, repeat: int, *, at: float) -> float:
    if section is Section.INTRO:
        return 0.3
    base = _ENERGY[section] + 0.09 * min(repeat, 3)
    return min(1.0, base + 0.12 * at)
