"""Lyria 2 (``lyria-002``).

Google's reference: "Lyria music generation API", publishers/google/models/lyria-002:predict. ``seed`` lies
in the instance, ``sample_count`` in the parameters, and the two exclude each other. The reference says 30 s a
take, the model card 32.8 s; planning goes by the card, and what really came is measured.
"""

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
    one_by_one,
    predictions,
)
from gateway.model import AudioFormat, Deployment, ModelKind, MusicSpec

LYRIA2 = ModelKind("lyria-002")


_TRAITS = Traits(
    kind=LYRIA2,
    surface=Surface.PUBLISHER,
    native=AudioFormat.WAV,
    list_price_micros=60_000,
    take_s=32.8,
    longest_s=32.8,
    takes_per_call=4,
    seeded=True,
    negative_prompt=True,
    scripts=frozenset({Script.LATIN}),
)
#: Google's reference and its samples disagree.
_SHAPE = AnswerShape(frozenset({"bytesBase64Encoded", "audioContent"}))


@dataclass(frozen=True, slots=True)
class Lyria2:
    """Takes of 32.8 s at 48 kHz."""

    traits: Traits = _TRAITS
    shape: AnswerShape = _SHAPE

    def calls(self, spec: MusicSpec, missing: Sequence[int]) -> tuple[ModelCall, ...]:
        """Without a seed as many takes a call as there may be; with one a call for each."""
        if spec.seed is not None:
            return one_by_one(spec, missing)
        return tuple(ModelCall(spec, row, None) for row in in_rows(missing, self.traits.takes_per_call))

    def body(self, call: ModelCall, deployment: Deployment) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        """As `gateway.families.family.Family`."""
        instance: dict[str, Any] = {"prompt": call.spec.prompt}
        if call.spec.negative_prompt:
            instance["negative_prompt"] = call.spec.negative_prompt
        if call.seed is not None:
            return {"instances": [instance | {"seed": call.seed}], "parameters": {}}
        return {"instances": [instance], "parameters": {"sample_count": len(call.takes)}}

    def items(self, document: Any) -> Iterator[Any]:
        """As `gateway.families.family.Family`."""
        return predictions(document)

    def text(self, document: Any) -> str | None:  # noqa: ARG002 - the protocol's
        """It says nothing."""
        return None
