"""Chime: bells of exactly ten seconds, two a call. Made up, to show what a new model takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.families.family import (
    AnswerShape,
    ModelCall,
    Script,
    Surface,
    Traits,
    in_rows,
    predictions,
    seed_of,
)
from gateway.model import AudioFormat, Deployment, ModelKind, MusicSpec

_TRAITS = Traits(
    kind=ModelKind("chime-1"),
    surface=Surface.PUBLISHER,
    native=AudioFormat.WAV,
    list_price_micros=7_000,
    take_s=10.0,
    longest_s=10.0,
    takes_per_call=2,
    seeded=True,
    negative_prompt=False,
    scripts=frozenset({Script.LATIN}),
)
_SHAPE = AnswerShape(frozenset({"bells"}))


@dataclass(frozen=True, slots=True)
class Chime:
    traits: Traits = _TRAITS
    shape: AnswerShape = _SHAPE

    def calls(self, spec: MusicSpec, missing: Sequence[int]) -> tuple[ModelCall, ...]:
        rows = in_rows(missing, self.traits.takes_per_call)
        return tuple(
            ModelCall(spec, row, None if spec.seed is None else seed_of(spec.seed, row[0])) for row in rows
        )

    def body(self, call: ModelCall, deployment: Deployment) -> dict[str, Any]:
        instance = {"words": call.spec.prompt, "count": len(call.takes)}
        return {"instances": [instance | ({} if call.seed is None else {"first_seed": call.seed})]}

    def items(self, document: Any) -> Iterator[Any]:
        return predictions(document)

    def text(self, document: Any) -> str | None:
        return document.get("caption") if isinstance(document, dict) else None
