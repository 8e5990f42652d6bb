"""MusicGen behind a Vertex AI endpoint of the operator's own.

The container's contract (``deploy/musicgen``): ``duration_seconds`` 1-300, ``sample_count`` 1-4, and clip i
of a seeded batch is made with ``seed`` + i, so that one call serves a seeded batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.model import Deployment, ModelKind, MusicSpec
from gateway.ports import ClipSink, ModelCall, ModelReply
from gateway.upstream.client import VertexClient
from gateway.upstream.prediction import predict
from gateway.upstream.seeds import SEED_COUNT, seed_of

DEFAULT_DURATION_S = 30


class MusicGen:
    """Clips of the length asked for, at 32 kHz."""

    kind = ModelKind.MUSICGEN

    def __init__(self, client: VertexClient) -> None:
        self._client = client

    def calls(self, spec: MusicSpec, missing: Sequence[int]) -> tuple[ModelCall, ...]:
        """One call for all, but one per clip where the seeds do not follow one another."""
        if not missing:
            return ()
        if spec.seed is None:
            return (ModelCall(spec, tuple(missing), None),)
        first = seed_of(spec.seed, missing[0])
        in_a_row = list(missing) == list(range(missing[0], missing[0] + len(missing)))
        if in_a_row and first + len(missing) <= SEED_COUNT:
            return (ModelCall(spec, tuple(missing), first),)
        return tuple(ModelCall(spec, (index,), seed_of(spec.seed, index)) for index in missing)

    async def generate(
        self,
        deployment: Deployment,
        call: ModelCall,
        new_sink: Callable[[int], ClipSink],
        *,
        deadline_s: float,
        traceparent: str | None = None,
    ) -> ModelReply:
        """As `gateway.ports.MusicModel`; ``traceparent`` goes out as the header of that name."""
        return await predict(
            self._client,
            deployment,
            _body(call),
            call,
            new_sink,
            deadline_s=deadline_s,
            traceparent=traceparent,
        )


def _body(call: ModelCall) -> dict[str, Any]:
    spec = call.spec
    instance: dict[str, Any] = {"prompt": spec.prompt}
    if spec.negative_prompt:
        instance["negative_prompt"] = spec.negative_prompt
    parameters: dict[str, Any] = {
        "duration_seconds": spec.duration_s or DEFAULT_DURATION_S,
        "sample_count": len(call.clip_indexes),
    }
    if call.seed is not None:
        parameters["seed"] = call.seed
    return {"instances": [instance], "parameters": parameters}
