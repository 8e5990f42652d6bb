"""Lyria 3 Clip and Pro, over the Interactions API.

Google's "Interactions API, developer guide" and the model card of Lyria 3. Two shapes of an answer have
been seen: ``outputs`` with typed items, and ``steps`` whose ``content`` has them; both are read. How long a
piece of Pro is to be is said in its prompt. Seed, negative prompt and sample count there are none; images
are not offered.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.families.family import AnswerShape, ModelCall, Script, Surface, Traits, one_by_one
from gateway.model import AudioFormat, Deployment, ModelKind, MusicSpec

LYRIA3_CLIP = ModelKind("lyria-3-clip-preview")
LYRIA3_PRO = ModelKind("lyria-3-pro-preview")

#: That which Google's own client speaks.
_API_REVISION = "2026-05-20"
#: Those of English, German, Spanish, French, Hindi, Japanese, Korean and Portuguese.
_SCRIPTS = frozenset(Script)
#: A piece that comes out a little short of its length needs no second one.
_SPARE_S = 2
_OVERLAP_S = 2


_SHAPE = AnswerShape(frozenset({"data"}), item_type="audio")


@dataclass(frozen=True, slots=True)
class Lyria3:
    """Songs as MP3 at 44.1 kHz, with words and a C2PA manifest."""

    traits: Traits
    shape: AnswerShape = _SHAPE

    def calls(self, spec: MusicSpec, missing: Sequence[int]) -> tuple[ModelCall, ...]:
        """One song a call."""
        return one_by_one(spec, missing)

    def body(self, call: ModelCall, deployment: Deployment) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        """As `gateway.families.family.Family`. ``store`` false: Google is to keep nothing of it."""
        inputs = [{"type": "text", "text": call.spec.prompt}]
        if self.traits.take_s is None and call.spec.duration_s is not None:
            inputs.append({"type": "text", "text": f"Length: {self._seconds(call.spec)} seconds."})
        return {"model": self.traits.kind, "input": inputs, "store": False}

    def _seconds(self, spec: MusicSpec) -> int:
        """What each take is told to last, so that together they reach the length."""
        whole_s = (spec.duration_s or 0) + (spec.takes - 1) * _OVERLAP_S
        return min(int(self.traits.longest_s), math.ceil(whole_s / spec.takes) + _SPARE_S)

    def items(self, document: Any) -> Iterator[Any]:
        """As `gateway.families.family.Family`."""
        yield document
        if isinstance(document, dict):
            yield from _listed(document.get("outputs"))
            for step in _listed(document.get("steps")):
                yield step
                yield from _listed(step.get("content") if isinstance(step, dict) else None)

    def text(self, document: Any) -> str | None:
        """Lyrics with their times, then a caption, as they came."""
        words = [
            item["text"]
            for item in self.items(document)
            if isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str)
        ]
        return "\n\n".join(words) or None


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def lyria3_clip() -> Lyria3:
    """30 s a song."""
    return Lyria3(_traits(LYRIA3_CLIP, take_s=30.0, longest_s=30.0, list_price_micros=40_000))


def lyria3_pro() -> Lyria3:
    """Up to 184 s a song."""
    return Lyria3(_traits(LYRIA3_PRO, take_s=None, longest_s=184.0, list_price_micros=80_000))


def _traits(kind: ModelKind, *, take_s: float | None, longest_s: float, list_price_micros: int) -> Traits:
    return Traits(
        kind=kind,
        surface=Surface.INTERACTIONS,
        native=AudioFormat.MP3,
        list_price_micros=list_price_micros,
        take_s=take_s,
        longest_s=longest_s,
        takes_per_call=1,
        seeded=False,
        negative_prompt=False,
        scripts=_SCRIPTS,
        location="global",
        headers=(("Api-Revision", _API_REVISION),),
    )
