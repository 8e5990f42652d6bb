"""Lyria 3 Clip and Pro, over the Interactions API: one song a call, as MP3 with words, in either known shape.

Sources: Google's Interactions guide, the model card of Lyria 3, and the two shapes that users have met.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.emulator import vertex
from gateway.emulator.answers import AnswerBody, AudioText, Clip, Encoding, spoiled_audio, spoiled_body
from gateway.emulator.desk import Settings
from gateway.emulator.faults import Fault
from gateway.emulator.music.composer import Order
from gateway.emulator.vertex import PredictRequest, VertexError

RATE_HZ = 44_100
_USUAL_PRO_S = 60.0
#: English, German, Spanish, French and Portuguese; Hindi; Japanese; Korean.
_SCRIPTS = ("LATIN", "DEVANAGARI", "HIRAGANA", "KATAKANA", "CJK", "HANGUL")
_LANGUAGES = "de, en, es, fr, hi, ja, ko, pt"
_FIELDS = {"model", "input", "store", "background", "stream", "response_modalities", "system_instruction"}
_LENGTH = re.compile(r"(\d{1,4})[ -]*(seconds?|secs?|s\b|minutes?|mins?)", re.IGNORECASE)
_MINUTE_S = 60
_PLACEHOLDER = "@audio"


@dataclass(frozen=True, slots=True)
class Lyria3Page:
    """As `gateway.emulator.pages.page.Page`."""

    name: str
    encoding: Encoding = Encoding.MP3

    def read(self, resource: str, body: bytes) -> PredictRequest:
        document = vertex.object_of(vertex.parse(body), "")
        vertex.known_names(document, "", _FIELDS)
        store = document.get("store", True)
        if not isinstance(store, bool):
            raise VertexError(400, "Invalid value at 'store': expected a boolean.")
        prompt = "\n".join(_texts(document.get("input")))
        if not prompt.strip():
            raise VertexError(400, "Invalid request: `input` must hold text.")
        if vertex.mostly_foreign_script(prompt, _SCRIPTS):
            raise vertex.unsupported_language(_LANGUAGES)
        return PredictRequest(self.name, resource, prompt, about={"store": store})

    def order(self, asked: PredictRequest, seed: int, settings: Settings) -> Order:
        seconds = settings.lyria3_clip_seconds
        if "pro" in self.name:
            seconds = min(_length_s(asked.prompt), settings.lyria3_pro_seconds)
        return Order(asked.prompt, "", seed, max(1, round(seconds * RATE_HZ)), RATE_HZ, 2)

    def answer(
        self,
        asked: PredictRequest,
        entries: Sequence[Clip | None],
        fault: Fault,
        settings: Settings,
        number: int,
    ) -> AnswerBody:
        clip = entries[0] if entries else None
        # A front end may change its shape from one day to the next.
        legacy = settings.interactions_shape == "outputs" or (
            settings.interactions_shape == "alternate" and number % 2 == 0
        )
        items = [] if clip is None or fault.interaction_status else _items(asked, fault, legacy=legacy)
        document: dict[str, Any] = {
            "id": f"interaction-{number}",
            "object": "interaction",
            "model": self.name,
            "status": fault.interaction_status or "completed",
        }
        if fault.message and fault.interaction_status:
            items = [{"type": "text", "text": fault.message}]
        if not fault.no_predictions:
            document |= (
                {"outputs": items} if legacy else {"steps": [{"type": "model_output", "content": items}]}
            )
        before, mark, after = json.dumps(document, indent=2).partition(f'"{_PLACEHOLDER}"')
        if not mark or clip is None:
            return spoiled_body([before.encode()], fault)
        audio = AudioText(spoiled_audio(clip.audio, fault), escaped=fault.escaped, spoiled=fault.bad_base64)
        return spoiled_body([f'{before}"'.encode(), audio, f'"{after}'.encode()], fault)


def _items(asked: PredictRequest, fault: Fault, *, legacy: bool) -> list[Mapping[str, Any]]:
    field = "soundData" if fault.unknown_field else "data"
    audio: dict[str, Any] = {"type": "audio", "mime_type": "audio/mpeg", field: _PLACEHOLDER}
    if fault.data_first:
        audio = dict(reversed(audio.items()))
    words = [{"type": "text", "text": f"A piece after these words: {asked.prompt[:200]}"}]
    if "instrumental" not in asked.prompt.lower():
        words.insert(0, {"type": "text", "text": "[00:00.00] La la la\n[00:04.00] La la la"})
    credentials = {"type": "content_credentials", "data": "bm90IHNvdW5k"}
    return [*words, credentials, audio] if legacy else [*words, audio]


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise VertexError(400, "Invalid value at 'input': expected a string or a list of typed items.")
    found = []
    for index, item in enumerate(value):
        kind = vertex.object_of(item, f"input[{index}]").get("type")
        if kind == "image":
            raise VertexError(400, f"Invalid value at 'input[{index}]': images are not played here.")
        if kind != "text" or not isinstance(item.get("text"), str):
            raise VertexError(400, f"Invalid value at 'input[{index}]': expected a text item.")
        found.append(item["text"])
    return found


def _length_s(prompt: str) -> float:
    """The last length that a prompt names; without one, about a minute."""
    found = _LENGTH.findall(prompt)
    if not found:
        return _USUAL_PRO_S
    number, unit = found[-1]
    return float(number) * (_MINUTE_S if unit.lower().startswith("m") else 1)
