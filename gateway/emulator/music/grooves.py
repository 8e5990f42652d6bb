"""Drum patterns: a character for each sixteenth of the bar; a digit is how hard, a point is silence."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.emulator.music.theory import Chance

Pattern = Mapping[str, str]

#: Each groove has a light and a full form, for quiet and for loud parts of the piece.
GROOVES: Mapping[str, tuple[Pattern, Pattern]] = {
    "house": (
        {"kick": "9...9...9...9...", "hat": "..6...6...6...6."},
        {
            "kick": "9...9...9...9...",
            "clap": "....8.......8...",
            "open": "..7...7...7...7.",
            "hat": "4.2.4.2.4.2.4.23",
            "shaker": "3535353535353535",
        },
    ),
    "garage": (
        {"kick": "9.........8.....", "hat": "..5...5...5...5."},
        {
            "kick": "9.....4...8.....",
            "clap": "....8.......8...",
            "hat": "4.63.4634.63.463",
            "rim": "...3..3....3....",
        },
    ),
    "techno": (
        {"kick": "9...9...9...9...", "hat": "..5...5...5...5."},
        {
            "kick": "9...9...9...9...",
            "clap": "............7...",
            "open": "..8...8...8...8.",
            "hat": "5353535353535353",
            "rim": "...4..4...4..4..",
        },
    ),
    "breakbeat": (
        {"kick": "9...............", "snare": "....7.......7...", "hat": "4.4.4.4.4.4.4.4."},
        {
            "kick": "9.........9.....",
            "snare": "....9..3.3..9..3",
            "hat": "6.4.6.4.6.4.6.4.",
            "ride": "5...5...5...5...",
        },
    ),
    "backbeat": (
        {"kick": "9.......8.......", "hat": "5...5...5...5..."},
        {
            "kick": "9......58.......",
            "snare": "....9.......9...",
            "hat": "6.4.6.4.6.4.6.45",
            "tambourine": "....5.......5...",
        },
    ),
    "drive": (
        {"kick": "9...9...9...9...", "hat": "..5...5...5...5."},
        {"kick": "9.....7.9.......", "snare": "....9.......9..2", "hat": "6353635363536353"},
    ),
    "rock": (
        {"kick": "9.......8.......", "hat": "6...6...6...6..."},
        {"kick": "9.......8.8.....", "snare": "....9.......9...", "hat": "7.5.7.5.7.5.7.5."},
    ),
    "metal": (
        {"kick": "9.......9.......", "snare": "....8.......8...", "ride": "7...7...7...7..."},
        {"kick": "9.889.889.889.88", "snare": "....9.......9...", "ride": "8...8...8...8..."},
    ),
    "lofi": (
        {"kick": "8.........6.....", "hat": "4.3.4.3.4.3.4.3."},
        {"kick": "8..4......7.....", "snare": "....7.......7..2", "hat": "5.3.5.325.3.5.3."},
    ),
    "boombap": (
        {"kick": "9.......6.......", "hat": "4.4.4.4.4.4.4.4."},
        {"kick": "9..6...5..8.....", "snare": "....9..2....9...", "hat": "6.4.6.4.6.4.6.43"},
    ),
    "trap": (
        {"kick": "9...............", "hat": "5.5.5.5.5.5.5.5."},
        {
            "kick": "9......6..8.....",
            "clap": "........9.......",
            "hat": "6.5.6.5.6.556.56",
            "open": "..............4.",
            "rim": "...3......3.....",
        },
    ),
    "ride": (
        {"ride": "6...5.4.6...5.4.", "hat": "....4.......4..."},
        {
            "kick": "4...3...4...3...",
            "ride": "7...6.5.7...6.5.",
            "hat": "....6.......6...",
            "snare": "......3.......2.",
        },
    ),
    "bossa": (
        {"shaker": "5353535353535353", "rim": "6.....5...6....."},
        {
            "kick": "7..56..57..56..5",
            "rim": "7..7..7...7..7..",
            "shaker": "6464646464646464",
            "conga_high": "......4.......45",
        },
    ),
    "disco": (
        {"kick": "9...9...9...9...", "hat": "4.5.4.5.4.5.4.5."},
        {
            "kick": "9...9...9...9...",
            "snare": "....8.......8...",
            "open": "..7...7...7...7.",
            "hat": "5.3.5.3.5.3.5.3.",
            "conga_high": "...4..4....4..4.",
        },
    ),
    "funk": (
        {"kick": "9.......6.......", "hat": "5.4.5.4.5.4.5.4."},
        {"kick": "9.7.......7..5..", "snare": "....9..3.3..9..3", "hat": "6465646564656465"},
    ),
    "onedrop": (
        {"rim": "........7.......", "hat": "..5...5...5...5."},
        {"kick": "........9.......", "snare": "........6.......", "hat": "..6.3.6...6.3.64"},
    ),
    "shaker": (
        {"shaker": "6.4.6.4.6.4.6.4."},
        {"kick": "6.......5.......", "shaker": "6344634463446344", "tambourine": "....5.......5..."},
    ),
    "cinematic": (
        {"kick": "8...............", "tom_mid": "............5.6."},
        {
            "kick": "9.......8.......",
            "tom_low": "9..6..6.8..6..6.",
            "tom_mid": "......5...5...67",
            "snare": "..3.3.34..3.3456",
        },
    ),
    "waltz": (
        {"kick": "5...........", "hat": "....4...4..."},
        {"kick": "6...........", "snare": "....5...5...", "ride": "5...........", "shaker": "....3...3..."},
    ),
}

_LOUD = 0.5
_HARDEST = 9.0
_STEPS_PER_BEAT = 4

#: What a fill may be, by its last beats; the first is for half a bar, the rest for one beat.
_FILLS: tuple[Pattern, ...] = (
    {"tom_high": "67......", "tom_mid": "..77....", "tom_low": "....78..", "snare": "......89"},
    {"snare": "56789...", "tom_low": "....8.89"},
    {"snare": "5.67"},
    {"snare": ".678", "kick": "9..."},
    {"tom_high": "7...", "tom_mid": ".78.", "tom_low": "...9"},
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A drum of the kit, the sixteenth of the bar it falls on, and how hard (0 to 1)."""

    drum: str
    step: int
    force: float


def bar_of_drums(
    groove: str, *, beats: int, loudness: float, fill: bool, crash: bool, chance: Chance
) -> list[Hit]:
    """One bar. Below half loudness the light form; ``fill`` replaces its end, ``crash`` marks its start."""
    light, full = GROOVES[groove]
    pattern = full if loudness >= _LOUD else light
    steps = beats * _STEPS_PER_BEAT
    hits = _hits(pattern, 0, steps)
    if fill and loudness >= _LOUD:
        choice = _FILLS[int(chance.integers(len(_FILLS)))]
        length = len(next(iter(choice.values())))
        start = steps - length
        hits = [hit for hit in hits if hit.step < start or hit.drum == "kick"] + _hits(choice, start, steps)
    if crash:
        hits.append(Hit("crash", 0, 0.8))
    return hits


def _hits(pattern: Pattern, start: int, steps: int) -> list[Hit]:
    return [
        Hit(drum, start + offset, int(mark) / _HARDEST)
        for drum, marks in pattern.items()
        for offset, mark in enumerate(_fitted(marks, steps - start))
        if mark != "."
    ]


def _fitted(marks: str, steps: int) -> str:
    """Patterns for another bar length are cut, or go on from their start."""
    return (marks * (-(-steps // len(marks))))[:steps]
