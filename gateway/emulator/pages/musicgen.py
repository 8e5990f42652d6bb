"""MusicGen on an endpoint, by the contract of our own container (``deploy/musicgen``)."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.emulator import vertex
from gateway.emulator.answers import AnswerBody, Clip, Encoding
from gateway.emulator.desk import Settings
from gateway.emulator.faults import Fault
from gateway.emulator.music.composer import Order
from gateway.emulator.pages.page import predictions
from gateway.emulator.vertex import PredictRequest

RATE_HZ = 32_000
_DEPLOYED_ID = "5050505050505050505"


@dataclass(frozen=True, slots=True)
class MusicGenPage:
    """As `gateway.emulator.pages.page.Page`."""

    name: str = "musicgen"
    encoding: Encoding = Encoding.WAV

    def read(self, resource: str, body: bytes) -> PredictRequest:
        document = vertex.object_of(vertex.parse(body), "")
        vertex.known_names(document, "", {"instances", "parameters", "labels"})
        instance = vertex.single_instance(document)
        parameters = vertex.object_of(document.get("parameters") or {}, "parameters")
        vertex.known_names(instance, "instances[0]", {"prompt", "negative_prompt"})
        vertex.known_names(
            parameters, "parameters", {"duration_seconds", "sample_count", "seed", "output_gcs_uri"}
        )
        duration_s = vertex.integer_of(
            parameters.get("duration_seconds"), "duration_seconds", 1, vertex.MAX_DURATION_S
        )
        count = vertex.agreed_count({"parameters.sample_count": parameters.get("sample_count")})
        return PredictRequest(
            self.name,
            resource,
            vertex.prompt_of(instance),
            negative_prompt=vertex.text_of(instance, "negative_prompt"),
            seed=vertex.integer_of(parameters.get("seed"), "seed", 0, vertex.MAX_SEED),
            sample_count=count,
            duration_s=vertex.DEFAULT_DURATION_S if duration_s is None else duration_s,
            labels=vertex.labels_of(document),
            output_uri=vertex.text_of(parameters, "output_gcs_uri", "parameters") or None,
        )

    def order(self, asked: PredictRequest, seed: int, settings: Settings) -> Order:  # noqa: ARG002 - the protocol's
        return Order(asked.prompt, asked.negative_prompt, seed, (asked.duration_s or 0) * RATE_HZ, RATE_HZ, 1)

    def answer(
        self,
        asked: PredictRequest,
        entries: Sequence[Clip | None],
        fault: Fault,
        settings: Settings,  # noqa: ARG002 - the protocol's
        number: int,  # noqa: ARG002 - the protocol's
    ) -> AnswerBody:
        project = asked.resource.rsplit("/endpoints/", 1)[0]
        about = {
            "deployedModelId": _DEPLOYED_ID,
            "model": f"{project}/models/musicgen",
            "modelDisplayName": "musicgen",
            "modelVersionId": "1",
        }
        extras = [{} if clip is None else {"seed": clip.seed} for clip in entries]
        return predictions(entries, about, fault, field="audioContent", extras=extras)
