"""MusicGen behind a Vertex AI endpoint of the operator's own.

The container's contract (``deploy/musicgen``): ``duration_seconds`` 1-300, ``sample_count`` 1-4, and clip i
of a seeded batch is made with ``seed`` + i, so that one call serves a seeded batch. What would be more than
an endpoint may answer is put under ``output_gcs_uri``, and its ``gcsUri`` answered.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.families.family import (
    SEED_COUNT,
    AnswerShape,
    ModelCall,
    Script,
    Surface,
    Traits,
    in_rows,
    one_by_one,
    predictions,
    seed_of,
)
from gateway.model import AudioFormat, Deployment, ModelKind, MusicSpec

MUSICGEN = ModelKind("musicgen")
DEFAULT_DURATION_S = 30


_TRAITS = Traits(
    kind=MUSICGEN,
    surface=Surface.ENDPOINT,
    native=AudioFormat.WAV,
    list_price_micros=0,
    take_s=None,
    longest_s=300,
    takes_per_call=4,
    seeded=True,
    negative_prompt=True,
    scripts=frozenset({Script.LATIN}),
)
_SHAPE = AnswerShape(frozenset({"bytesBase64Encoded", "audioContent"}), uri_field="gcsUri")


@dataclass(frozen=True, slots=True)
class MusicGen:
    """Takes of the length asked for, at 32 kHz."""

    traits: Traits = _TRAITS
    shape: AnswerShape = _SHAPE

    def calls(self, spec: MusicSpec, missing: Sequence[int]) -> tuple[ModelCall, ...]:
        """As many takes a call as there may be; one by one where their seeds do not follow one another."""
        if spec.seed is None:
            return tuple(ModelCall(spec, row, None) for row in in_rows(missing, self.traits.takes_per_call))
        found: list[ModelCall] = []
        for row in in_rows(missing, self.traits.takes_per_call):
            first = seed_of(spec.seed, row[0])
            in_a_row = list(row) == list(range(row[0], row[0] + len(row)))
            if in_a_row and first + len(row) <= SEED_COUNT:
                found.append(ModelCall(spec, row, first))
            else:
                found.extend(one_by_one(spec, row))
        return tuple(found)

    def body(self, call: ModelCall, deployment: Deployment) -> dict[str, Any]:
        """As `gateway.families.family.Family`."""
        spec = call.spec
        instance: dict[str, Any] = {"prompt": spec.prompt}
        if spec.negative_prompt:
            instance["negative_prompt"] = spec.negative_prompt
        parameters: dict[str, Any] = {
            "duration_seconds": spec.duration_s or DEFAULT_DURATION_S,
            "sample_count": len(call.takes),
        }
        if call.seed is not None:
            parameters["seed"] = call.seed
        if deployment.output_uri is not None:
            parameters["output_gcs_uri"] = deployment.output_uri
        return {"instances": [instance], "parameters": parameters}

    def items(self, document: Any) -> Iterator[Any]:
        """As `gateway.families.family.Family`."""
        return predictions(document)

    def text(self, document: Any) -> str | None:  # noqa: ARG002 - the protocol's
        """It says nothing."""
        return None
