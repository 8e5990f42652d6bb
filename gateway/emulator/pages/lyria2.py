"""Lyria 2: takes of 32.8 s. Google's own code puts the count in three places; all are read."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.emulator import vertex
from gateway.emulator.answers import AnswerBody, Clip, Encoding
from gateway.emulator.desk import Settings
from gateway.emulator.faults import Fault
from gateway.emulator.music.composer import Order
from gateway.emulator.pages.page import predictions
from gateway.emulator.vertex import PredictRequest, VertexError

RATE_HZ = 48_000
_DEPLOYED_ID = "7020022002200220022"


@dataclass(frozen=True, slots=True)
class Lyria2Page:
    """As `gateway.emulator.pages.page.Page`."""

    name: str = "lyria-002"
    encoding: Encoding = Encoding.WAV

    def read(self, resource: str, body: bytes) -> PredictRequest:
        document = vertex.object_of(vertex.parse(body), "")
        vertex.known_names(document, "", {"instances", "parameters", "labels"})
        instance = vertex.single_instance(document)
        parameters = vertex.object_of(document.get("parameters") or {}, "parameters")
        vertex.known_names(instance, "instances[0]", {"prompt", "negative_prompt", "seed", "sample_count"})
        vertex.known_names(parameters, "parameters", {"sample_count", "sampleCount"})
        count = vertex.agreed_count(
            {
                "instances[0].sample_count": instance.get("sample_count"),
                "parameters.sample_count": parameters.get("sample_count"),
                "parameters.sampleCount": parameters.get("sampleCount"),
            }
        )
        seed = vertex.integer_of(instance.get("seed"), "seed", 0, vertex.MAX_SEED)
        if seed is not None and count > 1:
            raise VertexError(400, "`seed` and `sample_count` cannot be set at the same time.")
        prompt = vertex.prompt_of(instance)
        if vertex.mostly_foreign_script(prompt):
            raise vertex.unsupported_language()
        return PredictRequest(
            self.name,
            resource,
            prompt,
            negative_prompt=vertex.text_of(instance, "negative_prompt"),
            seed=seed,
            sample_count=count,
            labels=vertex.labels_of(document),
        )

    def order(self, asked: PredictRequest, seed: int, settings: Settings) -> Order:
        frames = max(1, round(settings.lyria_seconds * RATE_HZ))
        return Order(asked.prompt, asked.negative_prompt, seed, frames, RATE_HZ, 2)

    def answer(
        self,
        asked: PredictRequest,
        entries: Sequence[Clip | None],
        fault: Fault,
        settings: Settings,  # noqa: ARG002 - the protocol's
        number: int,  # noqa: ARG002 - the protocol's
    ) -> AnswerBody:
        about = {"deployedModelId": _DEPLOYED_ID, "model": asked.resource, "modelDisplayName": "Lyria 2"}
        return predictions(entries, about, fault, field="audioContent", extras=[{}] * len(entries))
