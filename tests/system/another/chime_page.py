"""Chime, as the emulator plays it: 44.1 kHz, one channel, ten seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.emulator import vertex
from gateway.emulator.answers import AnswerBody, Clip, Encoding
from gateway.emulator.desk import Settings
from gateway.emulator.faults import Fault
from gateway.emulator.music.composer import Order
from gateway.emulator.pages.page import predictions
from gateway.emulator.vertex import PredictRequest


@dataclass(frozen=True, slots=True)
class ChimePage:
    name: str = "chime-1"
    encoding: Encoding = Encoding.WAV

    def read(self, resource: str, body: bytes) -> PredictRequest:
        document = vertex.object_of(vertex.parse(body), "")
        instance = vertex.single_instance(document)
        vertex.known_names(instance, "instances[0]", {"words", "count", "first_seed"})
        return PredictRequest(
            self.name,
            resource,
            vertex.text_of(instance, "words"),
            seed=vertex.integer_of(instance.get("first_seed"), "first_seed", 0, vertex.MAX_SEED),
            sample_count=vertex.integer_of(instance.get("count"), "count", 1, 2) or 1,
        )

    def order(self, asked: PredictRequest, seed: int, settings: Settings) -> Order:
        return Order(asked.prompt, "", seed, 441_000, 44_100, 1)

    def answer(
        self,
        asked: PredictRequest,
        entries: Sequence[Clip | None],
        fault: Fault,
        settings: Settings,
        number: int,
    ) -> AnswerBody:
        about = {"caption": "bells, ringing"}
        return predictions(entries, about, fault, field="bells", extras=[{}] * len(entries))
