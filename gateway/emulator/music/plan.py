"""From words to a plan: style, tempo, key, and who plays. Same words and seed, same plan."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.emulator.music import vocabulary
from gateway.emulator.music.style import Style
from gateway.emulator.music.styles_acoustic import ACOUSTIC
from gateway.emulator.music.styles_electronic import ELECTRONIC
from gateway.emulator.music.theory import MODES, Chance, Key

ROLES = ("lead", "comp", "pad", "arp", "bass")

#: What a prompt that names no style may become.
_NEUTRAL = ("pop", "cinematic", "folk", "synthwave", "piano solo", "lo-fi")

#: Who steps in when all of a style's own players of a role are ruled out.
_SUBSTITUTES: Mapping[str, tuple[str, ...]] = {
    "lead": ("piano", "flute", "violin", "nylon_guitar", "vibraphone", "synth_pluck", "clarinet"),
    "comp": ("piano", "nylon_guitar", "strings", "organ", "warm_pad", "marimba"),
    "pad": ("strings", "warm_pad", "choir", "organ"),
    "arp": ("harp", "marimba", "kalimba", "synth_pluck"),
    "bass": ("upright_bass", "electric_bass", "synth_bass", "contrabass"),
}

_LOWEST_BPM = 48
_HIGHEST_BPM = 200
_NEGATION = re.compile(r"\b(?:no|without|minus|avoid|exclude|excluding)\s+((?:[\w&-]+\s*){1,2})")
_BPM = re.compile(r"\b(\d{2,3})\s*-?\s*bpm\b|\bbpm\s*(?:of|:|=)?\s*(\d{2,3})\b")
_KEY = re.compile(
    r"\b([a-g])(?:\s*(#|♯|♭|\bflat\b|\bsharp\b)|-(flat|sharp)|(b))?\s+(major|minor|dorian|phrygian|lydian|mixolydian)\b"
)
_NATURALS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_TRIPLE = ("waltz", "3/4", "three four", "6/8")


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be played. ``parts`` maps roles to voices; a role that is missing is silent.

    ``bpm`` counts quarter notes. ``groove`` is None without drums.
    """

    style: Style
    bpm: float
    beats: int
    key: Key
    parts: Mapping[str, str]
    groove: str | None
    kit: str
    comping: str
    bass_line: str
    density: float
    loudness: float
    reverb_level: float


def make_plan(prompt: str, negative_prompt: str, chance: Chance) -> Plan:
    """Read the words. What they leave open is drawn by ``chance``."""
    wanted, inner_unwanted = split_wishes(prompt)
    unwanted = f"{negative_prompt.lower()} , {inner_unwanted}"
    style = _style(wanted, unwanted, chance)
    beats = 3 if _has(wanted, _TRIPLE) else style.beats
    groove, kit = _drums(style, wanted, unwanted, chance)
    density = (
        style.density + _sum(wanted, vocabulary.DENSITY_STEPS) - _sum(unwanted, vocabulary.DENSITY_STEPS)
    )
    loudness = (
        style.loudness + _sum(wanted, vocabulary.LOUDNESS_STEPS) - _sum(unwanted, vocabulary.LOUDNESS_STEPS)
    )
    reverb = style.reverb_level * _product(wanted, vocabulary.REVERB_FACTORS)
    return Plan(
        style=style,
        bpm=_bpm(style, wanted, unwanted, chance),
        beats=beats,
        key=_key(style, wanted, unwanted, chance),
        parts=_parts(style, wanted, unwanted, chance),
        groove=groove,
        kit=kit,
        comping="waltz" if beats != style.beats else _pick(style.comping, chance),
        bass_line="waltz" if beats != style.beats else _pick(style.bass_line, chance),
        density=_between(density, 0.05, 1.0),
        loudness=_between(loudness, 0.15, 1.0),
        reverb_level=0.04 if _has(unwanted, ("reverb", "echo")) else _between(reverb, 0.03, 0.6),
    )


def split_wishes(prompt: str) -> tuple[str, str]:
    """What a prompt asks for, and what it says it does not want ("without piano"); lower case."""
    text = prompt.lower()
    return _NEGATION.sub(" , ", text), " , ".join(match[1] for match in _NEGATION.finditer(text))


def _style(wanted: str, unwanted: str, chance: Chance) -> Style:
    styles = {style.name: style for style in (*ELECTRONIC, *ACOUSTIC)}
    scores = {name: _score(wanted, style) for name, style in styles.items() if not _score(unwanted, style)}
    best = max(scores.values(), default=0.0)
    if best > 0:
        return styles[_pick([name for name, score in scores.items() if score == best], chance, evenly=True)]
    hinted = [name for words, name in _HINTS if _has(wanted, words.split(", ")) and name in scores]
    return styles[hinted[0] if hinted else _pick(_NEUTRAL, chance, evenly=True)]


#: Words of a style that other styles are often described with.
_WEAK = frozenset(
    (
        *(
            "piano",
            "synth",
            "acoustic",
            "retro",
            "waltz",
            "epic",
            "adventure",
            "movie",
            "dramatic",
            "romantic",
        ),
        *(
            "space",
            "beach",
            "summer",
            "chill",
            "groove",
            "groovy",
            "dance",
            "upbeat",
            "happy",
            "sunny",
            "catchy",
        ),
        *("cozy", "winter", "atmospheric", "electronic dance"),
    )
)

#: Styles that instruments and moods suggest when no style is named.
_HINTS = (
    ("distorted guitar, electric guitar, guitar riff", "rock"),
    ("guitar, ukulele, fiddle, banjo, harmonica, whistle", "folk"),
    ("saxophone, sax, upright bass, double bass, brushes", "jazz"),
    ("violin, cello, strings, choir, brass, trumpet, horn, timpani, taiko", "cinematic"),
    ("calm, peaceful, relaxing, dreamy, quiet, pad, pads", "ambient"),
    ("dark, tense, scary, suspense, mysterious", "cinematic"),
    ("kalimba, handpan, marimba", "ambient"),
    ("arpeggio, synthesizer", "synthwave"),
    ("drums, beat", "hip hop"),
    ("energetic, fun, playful, bright", "pop"),
)


def _score(text: str, style: Style) -> float:
    """Longer names say more; words that go with many styles say little."""
    found = [word for word in style.words.split(", ") if _has(text, (word,))]
    return sum(0.4 if word in _WEAK else 1.0 + 0.6 * word.count(" ") for word in found)


def _bpm(style: Style, wanted: str, unwanted: str, chance: Chance) -> float:
    asked = _BPM.search(wanted)
    if asked:
        return _between(float(asked[1] or asked[2]), _LOWEST_BPM - 8, _HIGHEST_BPM)
    drawn = float(chance.integers(style.bpm[0], style.bpm[1] + 1))
    for word, bpm in vocabulary.TEMPO_MARKS.items():
        if _has(wanted, (word,)):
            return bpm
    factor = _product(wanted, vocabulary.TEMPO_FACTORS) / _product(unwanted, vocabulary.TEMPO_FACTORS)
    return float(round(_between(drawn * _between(factor, 0.6, 1.5), _LOWEST_BPM, _HIGHEST_BPM)))


def _key(style: Style, wanted: str, unwanted: str, chance: Chance) -> Key:
    tonic = int(chance.integers(12))
    mode = _pick(style.modes, chance)
    named = _KEY.search(wanted)
    if named:
        accidental = named[2] or named[3] or named[4] or ""
        shift = {"#": 1, "♯": 1, "sharp": 1, "♭": -1, "flat": -1, "b": -1}.get(accidental, 0)
        return Key((_NATURALS[named[1]] + shift) % 12, named[5])
    moods = [modes for words, modes in vocabulary.MOOD_MODES if _has(wanted, words.split(", "))]
    if moods:
        mode = _pick(moods[0], chance)
    mode = next((name for name in MODES if _has(wanted, (name,))), mode)
    unhappy = _has(unwanted, ("minor", "sad", "dark", "melancholic", "gloomy"))
    if unhappy and mode in {"minor", "dorian", "phrygian"}:
        mode = "major"
    if _has(unwanted, ("major", "happy", "cheerful", "bright")) and mode in {"major", "lydian", "mixolydian"}:
        mode = "minor"
    return Key(tonic, mode)


def _parts(style: Style, wanted: str, unwanted: str, chance: Chance) -> Mapping[str, str]:
    banned = _banned(unwanted)
    named = _named(wanted, banned)
    if _alone(wanted, named):
        voice, roles = named[0]
        # One instrument: it accompanies itself if it can play chords.
        return dict.fromkeys([role for role in ("lead", "comp") if role in roles] or roles[:1], voice)
    parts: dict[str, str] = {}
    for voice, roles in named:
        free = [role for role in roles if role not in parts]
        if free:
            parts[free[0]] = voice
    for role in ROLES:
        own: Sequence[str] = getattr(style, role)
        if role in parts or not own:
            continue
        allowed = [voice for voice in own if voice not in banned]
        allowed = allowed or [voice for voice in _SUBSTITUTES[role] if voice not in banned][:1]
        fresh = [voice for voice in allowed if voice not in parts.values()]
        if allowed:
            parts[role] = _pick(fresh or allowed, chance)
    if _has(unwanted, vocabulary.BASS_WORDS):
        parts.pop("bass", None)
    if _has(unwanted, vocabulary.LEAD_WORDS) and len(parts) > 1:
        parts.pop("lead", None)
    return parts or {"pad": "warm_pad"}


def _alone(wanted: str, named: Sequence[tuple[str, tuple[str, ...]]]) -> bool:
    """Whether one instrument is to play by itself. A "guitar solo" is an instrument, not solitude."""
    text = wanted
    for name in vocabulary.INSTRUMENTS:
        text = _pattern(name).sub(" ", text) if " " in name else text
    return len(named) == 1 and _has(text, vocabulary.SOLO_WORDS)


def _named(wanted: str, banned: set[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The instruments in the order of the text; a longer name hides the shorter one inside it."""
    found: list[tuple[int, str, tuple[str, ...]]] = []
    text = wanted
    for name in sorted(vocabulary.INSTRUMENTS, key=len, reverse=True):
        voice, roles = vocabulary.INSTRUMENTS[name]
        match = _pattern(name).search(text)
        if match and voice not in banned:
            found.append((match.start(), voice, roles))
        if match:
            text = _pattern(name).sub(lambda hit: " " * len(hit[0]), text)
    return [(voice, roles) for _, voice, roles in sorted(found)]


def _banned(unwanted: str) -> set[str]:
    named = {voice for name, (voice, _) in vocabulary.INSTRUMENTS.items() if _has(unwanted, (name,))}
    return named.union(*(voices for word, voices in vocabulary.FAMILIES.items() if _has(unwanted, (word,))))


def _drums(style: Style, wanted: str, unwanted: str, chance: Chance) -> tuple[str | None, str]:
    groove = _pick(style.groove, chance) if style.groove else None
    kit = style.kit
    alone = _alone(wanted, _named(wanted, set())) and not _has(wanted, vocabulary.DRUM_WORDS)
    if alone or _has(unwanted, vocabulary.DRUM_WORDS):
        return None, kit
    if groove is None:
        named = [sound for word, sound in vocabulary.PERCUSSION.items() if _has(wanted, (word,))]
        return named[0] if named else (None, kit)
    return groove, kit


def _has(text: str, words: Iterable[str]) -> bool:
    return any(_pattern(word).search(text) for word in words)


def _pattern(word: str) -> "re.Pattern[str]":
    """The word by itself, singular or plural. ``re`` keeps the compiled ones."""
    return re.compile(rf"(?<![\w-]){re.escape(word)}(?:s|es)?(?![\w-])")


def _sum(text: str, steps: Mapping[str, float]) -> float:
    return sum(step for word, step in steps.items() if _has(text, (word,)))


def _product(text: str, factors: Mapping[str, float]) -> float:
    result = 1.0
    for word, factor in factors.items():
        if _has(text, (word,)):
            result *= factor
    return result


def _pick(choices: Sequence[str], chance: Chance, *, evenly: bool = False) -> str:
    """One of them; unless ``evenly``, each is twice as likely as the next."""
    weights = [1.0 if evenly else 0.5**index for index in range(len(choices))]
    point = float(chance.random()) * sum(weights)
    for choice, weight in zip(choices, weights, strict=True):
        point -= weight
        if point < 0:
            return choice
    return choices[-1]


def _between(value: float, lowest: float, highest: float) -> float:
    return max(lowest, min(highest, value))
