"""What each style of music is made of: tempo, feel, harmony, and who plays what. Data only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """One style.

    ``words`` (comma-separated) name it in a prompt. ``bpm`` is the usual range. ``swing8`` and ``swing16``
    delay the off-beat eighths and sixteenths (in beats).

    Each role names the instruments it may be given (`voices`), most typical first; an empty tuple leaves it
    out. ``comping``, ``bass_line`` and ``groove`` name patterns. ``chord_size`` counts notes (3 triads, 4
    sevenths, 5 ninths). ``density`` and ``loudness`` go from 0 to 1; ``reverb_s`` is how long the room rings.
    """

    name: str
    words: str
    bpm: tuple[int, int]
    modes: tuple[str, ...]
    lead: tuple[str, ...] = ()
    comp: tuple[str, ...] = ()
    pad: tuple[str, ...] = ()
    arp: tuple[str, ...] = ()
    bass: tuple[str, ...] = ()
    comping: tuple[str, ...] = ("held",)
    bass_line: tuple[str, ...] = ("held",)
    groove: tuple[str, ...] = ()
    kit: str = "acoustic"
    beats: int = 4
    swing8: float = 0.0
    swing16: float = 0.0
    chord_size: int = 3
    density: float = 0.5
    reverb_s: float = 1.6
    reverb_level: float = 0.22
    loudness: float = 0.6
    bars_per_chord: int = 1
    human: float = 1.0
    pumping: float = 0.0
    vinyl: float = 0.0
    dark: float = 0.0
