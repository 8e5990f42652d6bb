"""Lyria 2 (``lyria-002``) on Vertex AI.

Google's reference: "Lyria music generation API", publishers/google/models/lyria-002:predict. ``seed`` lies
in the instance, ``sample_count`` in the parameters, and the two exclude each other.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.model import Deployment, ModelKind, MusicSpec
from gateway.ports import ClipSink, ModelCall, ModelReply
from gateway.upstream.client import VertexClient
from gateway.upstream.prediction import predict
from gateway.upstream.seeds import seed_of


class Lyria2:
    """Clips of 32.8 s at 48 kHz."""

    kind = ModelKind.LYRIA2

    def __init__(self, client: VertexClient) -> None:
        self._client = client

    def calls(self, spec: MusicSpec, missing: Sequence[int]) -> tuple[ModelCall, ...]:
        """Without a seed one call for all; with one a call per clip, as `gateway.ports.MusicModel` says."""
        if not missing:
            return ()
        if spec.seed is None:
            return (ModelCall(spec, tuple(missing), None),)
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
    instance: dict[str, Any] = {"prompt": call.spec.prompt}
    if call.spec.negative_prompt:
        instance["negative_prompt"] = call.spec.negative_prompt
    if call.seed is not None:
        return {"instances": [instance | {"seed": call.seed}], "parameters": {}}
    return {"instances": [instance], "parameters": {"sample_count": len(call.clip_indexes)}}
