"""From the takes of a clip to the file that was asked for: joined, cut, made as loud, resampled, encoded.

Two passes at the most over what came, and one more to know how loud a piece is before it is made louder; each
holds about a second of it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from gateway.audio import seams
from gateway.audio.encode import OPUS_RATE_HZ, SoundWriter
from gateway.audio.formats import DEFAULT_BITRATE_KBPS
from gateway.audio.lengths import SLACK_S
from gateway.audio.shaping import FADE_S, Fitting, TooShort, louder, resampled
from gateway.audio.sound import Block, SoundFacts, SoundReader, Undecodable, open_sound
from gateway.audio.survey import Survey, Surveyor, look_at
from gateway.model import AudioFormat

__all__ = ["Product", "Recipe", "Step", "TooShort", "produce"]

#: A piece is not made louder than this.
_HIGHEST_PEAK_DBFS = -1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make. None leaves it as the takes are: format, length, and loudness (integrated, EBU R128)."""

    audio_format: AudioFormat | None
    duration_s: int | None = None
    bitrate_kbps: int | None = None
    loudness_lufs: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, and with which figures."""

    kind: str
    figures: tuple[tuple[str, Any], ...]

    def render(self) -> dict[str, Any]:
        return {"step": self.kind, **dict(self.figures)}


@dataclass(frozen=True, slots=True)
class Product:
    """What was made. ``untouched``: nothing had to be done, and the first take is the product as it came."""

    untouched: bool
    facts: SoundFacts
    peak_dbfs: float | None
    loudness_lufs: float | None
    waveform: bytes
    steps: tuple[Step, ...]


def produce(takes: Sequence[int], recipe: Recipe, out: int) -> Product:
    """Make it, into the descriptor ``out`` unless nothing is to be done. All stay the caller's.

    Raises `Undecodable` for what is no sound, `TooShort` when the takes are not as long as asked.
    """
    if len(takes) == 1 and _leaves_alone(takes[0], recipe):
        with open_sound(takes[0]) as reader:
            survey = look_at(reader)
        if (
            recipe.duration_s is None
            or survey.facts.frames == recipe.duration_s * survey.facts.sample_rate_hz
        ):
            return _product(survey, (), untouched=True)
    return _Making(takes, recipe).make(out)


def _leaves_alone(take: int, recipe: Recipe) -> bool:
    """Whether it may be that nothing has to be done: only decoding tells how long it really is."""
    with open_sound(take) as reader:
        facts = reader.facts
    return (
        recipe.audio_format in {None, facts.format}
        and recipe.bitrate_kbps is None
        and recipe.loudness_lufs is None
        and (recipe.duration_s is None or facts.frames == recipe.duration_s * facts.sample_rate_hz)
    )


class _Making:
    """One piece on its way. ``steps`` are told as they become known."""

    def __init__(self, takes: Sequence[int], recipe: Recipe) -> None:
        self._takes = takes
        self._recipe = recipe
        self._surveys: list[Survey] = []
        self._seams: list[seams.Seam] = []
        self._gains = [1.0] * len(takes)
        with open_sound(takes[0]) as reader:
            self._source = reader.facts

    def make(self, out: int) -> Product:
        recipe, steps = self._recipe, []
        if len(self._takes) > 1:
            steps.append(self._join())
        like = self._target()
        gain = 1.0
        if recipe.loudness_lufs is not None:
            gain, normalise = self._gain(recipe.loudness_lufs)
            steps.append(normalise)
        fitting = self._fitting()
        surveyor = Surveyor(like.sample_rate_hz, like.channels)
        with SoundWriter(out, like, recipe.bitrate_kbps) as writer:
            for block in self._finished(fitting, gain, like):
                writer.write(block)
                surveyor.see(block)
        if not writer.frames:
            raise Undecodable("it has no sound")
        if fitting is not None and (step := _fitted(fitting, recipe.duration_s, self._source)) is not None:
            steps.append(step)
        if like.sample_rate_hz != self._source.sample_rate_hz:
            steps.append(
                Step("resample", (("from_hz", self._source.sample_rate_hz), ("to_hz", like.sample_rate_hz)))
            )
        rate = recipe.bitrate_kbps or DEFAULT_BITRATE_KBPS.get(like.format)
        steps.append(Step("encode", (("format", like.format.value), ("bitrate_kbps", rate))))
        return _product(surveyor.survey(replace(like, frames=writer.frames)), tuple(steps), untouched=False)

    def _join(self) -> Step:
        for take in self._takes:
            with open_sound(take) as reader:
                self._surveys.append(look_at(reader))
        first = self._surveys[0].facts
        if any(_shape(survey.facts) != _shape(first) for survey in self._surveys):
            raise Undecodable("the takes differ in sample rate or channels")
        wanted = self._wanted()
        self._seams = seams.find_seams(self._surveys, wanted)
        self._gains = seams.gains_of(self._surveys)
        rate_hz, lengths = first.sample_rate_hz, [survey.facts.frames for survey in self._surveys]
        return Step(
            "join",
            (
                ("takes", len(self._takes)),
                ("at_s", [round(at, 3) for at in seams.seconds_of(self._seams, lengths, rate_hz)]),
                ("overlap_s", [round(seam.overlap / rate_hz, 3) for seam in self._seams]),
                ("gains", [round(gain, 4) for gain in self._gains]),
            ),
        )

    def _target(self) -> SoundFacts:
        audio_format = self._recipe.audio_format or self._source.format
        rate_hz = OPUS_RATE_HZ if audio_format is AudioFormat.OPUS else self._source.sample_rate_hz
        return replace(self._source, format=audio_format, sample_rate_hz=rate_hz, frames=0)

    def _wanted(self) -> int | None:
        seconds = self._recipe.duration_s
        return None if seconds is None else seconds * self._source.sample_rate_hz

    def _fitting(self) -> Fitting | None:
        wanted, rate_hz = self._wanted(), self._source.sample_rate_hz
        return None if wanted is None else Fitting(wanted, rate_hz, round(SLACK_S * rate_hz))

    def _gain(self, target_lufs: float) -> tuple[float, Step]:
        """What brings the piece to a loudness, as far as its peaks allow."""
        surveyor = Surveyor(self._source.sample_rate_hz, self._source.channels)
        for block in self._fitted(self._fitting()):
            surveyor.see(block)
        found = surveyor.survey(self._source)
        gain_db = 0.0
        if found.loudness_lufs is not None and found.peak_dbfs is not None:
            gain_db = min(target_lufs - found.loudness_lufs, _HIGHEST_PEAK_DBFS - found.peak_dbfs)
        before = None if found.loudness_lufs is None else round(found.loudness_lufs, 2)
        after = None if before is None else round(before + gain_db, 2)
        figures = (("gain_db", round(gain_db, 2)), ("from_lufs", before), ("to_lufs", after))
        return 10 ** (gain_db / 20), Step("normalise", figures)

    def _finished(self, fitting: Fitting | None, gain: float, like: SoundFacts) -> Iterator[Block]:
        blocks: Iterable[Block] = louder(self._fitted(fitting), gain)
        if like.sample_rate_hz != self._source.sample_rate_hz:
            blocks = resampled(blocks, self._source.sample_rate_hz, like.sample_rate_hz, like.channels)
        yield from blocks

    def _fitted(self, fitting: Fitting | None) -> Iterator[Block]:
        with ExitStack() as stack:
            open_one: Callable[[int], SoundReader] = lambda take: stack.enter_context(open_sound(take))  # noqa: E731
            blocks = self._joined(open_one)
            yield from blocks if fitting is None else fitting.fit(blocks)

    def _joined(self, open_one: Callable[[int], SoundReader]) -> Iterator[Block]:
        if len(self._takes) == 1:
            return open_one(self._takes[0]).blocks()
        streams = [
            louder(open_one(take).blocks(), gain) for take, gain in zip(self._takes, self._gains, strict=True)
        ]
        return seams.splice(streams, [survey.facts.frames for survey in self._surveys], self._seams)


def _shape(facts: SoundFacts) -> tuple[int, int]:
    return facts.sample_rate_hz, facts.channels


def _fitted(fitting: Fitting, duration_s: int | None, source: SoundFacts) -> Step | None:
    had_s = fitting.had / source.sample_rate_hz
    if duration_s is None or had_s == duration_s:
        return None
    kind = "trim" if had_s > duration_s else "pad"
    return Step(kind, (("to_s", duration_s), ("fade_s", FADE_S)))


def _product(survey: Survey, steps: tuple[Step, ...], *, untouched: bool) -> Product:
    return Product(untouched, survey.facts, survey.peak_dbfs, survey.loudness_lufs, survey.waveform, steps)
