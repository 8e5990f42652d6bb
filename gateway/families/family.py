"""What a family of models is to the gateway: its traits, and its wire format as pure functions.

A new model is a file beside this one, a line in `gateway.families.registry`, and a page of the emulator.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from gateway.model import AudioFormat, Deployment, ModelKind, MusicSpec

#: Seeds are 32 bits wide, everywhere.
SEED_COUNT = 1 << 32


class Surface(StrEnum):
    """How a model is called at Vertex AI."""

    PUBLISHER = "publisher"  # :predict of a publisher model
    ENDPOINT = "endpoint"  # :predict of an endpoint of the operator's own
    INTERACTIONS = "interactions"  # the Interactions API


class Script(StrEnum):
    """A writing system, as the first word of its characters' names in Unicode has it."""

    LATIN = "LATIN"
    DEVANAGARI = "DEVANAGARI"
    HIRAGANA = "HIRAGANA"
    KATAKANA = "KATAKANA"
    CJK = "CJK"
    HANGUL = "HANGUL"


@dataclass(frozen=True, slots=True)
class Traits:
    """What is fixed for a model. A *take* is one piece of audio that it makes.

    ``take_s`` is how long each is, None where the model is told how long, up to ``longest_s``.
    ``list_price_micros`` is of one take. ``scripts`` are those that its languages are written in.
    ``location`` is the only one that serves it, None where several do. ``headers`` go out with every call.
    """

    kind: ModelKind
    surface: Surface
    native: AudioFormat
    list_price_micros: int
    take_s: float | None
    longest_s: float
    takes_per_call: int
    seeded: bool
    negative_prompt: bool
    scripts: frozenset[Script]
    location: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One paid call: which takes of the task it should yield, and the seed of the first if it is fixed.

    ``takes`` are numbers, in the order in which the answer's audio fills them; `clip_of` says whose they are.
    """

    spec: MusicSpec
    takes: tuple[int, ...]
    seed: int | None


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """Where audio is in an answer: base64 strings under ``fields``, in objects whose type is ``item_type``.

    ``item_type`` None: in any object. Under ``uri_field`` may be where the audio lies in Cloud Storage.
    """

    fields: frozenset[str]
    item_type: str | None = None
    uri_field: str | None = None


class Family(Protocol):
    """A family of models that share a wire format. Everything is pure."""

    @property
    def traits(self) -> Traits: ...

    @property
    def shape(self) -> AnswerShape: ...

    def calls(self, spec: MusicSpec, missing: Sequence[int]) -> tuple[ModelCall, ...]:
        """The paid calls that would yield the missing takes."""
        ...

    def body(self, call: ModelCall, deployment: Deployment) -> dict[str, Any]:
        """What is posted."""
        ...

    def items(self, document: Any) -> Iterator[Any]:
        """What in an answer may hold audio or an error, less the audio; the answer itself first."""
        ...

    def text(self, document: Any) -> str | None:
        """The words that came with the audio: lyrics, a caption."""
        ...


def clip_of(spec: MusicSpec, take: int) -> int:
    """Which clip a take is for. Takes are numbered round by round: the first of every clip comes first."""
    return take % spec.sample_count


def place_of(spec: MusicSpec, take: int) -> int:
    """Where within its clip a take is, from 0."""
    return take // spec.sample_count


def seed_of(seed: int, take: int) -> int:
    """The seed of a take: the caller's plus its number, whichever of them are asked for again."""
    return (seed + take) % SEED_COUNT


def in_rows(missing: Sequence[int], at_most: int) -> tuple[tuple[int, ...], ...]:
    """The missing takes in the fewest calls of so many."""
    return tuple(tuple(missing[at : at + at_most]) for at in range(0, len(missing), at_most))


def one_by_one(spec: MusicSpec, missing: Sequence[int]) -> tuple[ModelCall, ...]:
    """A call for each take."""
    return tuple(
        ModelCall(spec, (take,), None if spec.seed is None else seed_of(spec.seed, take)) for take in missing
    )


def predictions(document: Any) -> Iterator[Any]:
    """The items of a ``:predict`` answer."""
    yield document
    found = document.get("predictions") if isinstance(document, dict) else None
    yield from found if isinstance(found, list) else ()
