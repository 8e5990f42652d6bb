"""The body of a prediction, its answer, and what is refused.

Vertex AI, "Custom container requirements": ``{"instances": [...], "parameters": {...}}`` becomes
``{"predictions": [...]}``. What is inside is ours; the README describes it. Numbers may arrive as ``30.0``,
because on their way through Vertex AI they are protobuf values, which know no integers.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from musicgen_server.settings import is_gcs_uri

MOST_SECONDS = 300
MOST_SAMPLES = 4
SEED_COUNT = 2**32
PROMPT_CHARS = 4_000
OUTPUT_URI_CHARS = 800
WAV_TYPE = "audio/wav"

T = TypeVar("T")

_DEFAULT_SECONDS = 30
_INSTANCE = frozenset({"prompt", "negative_prompt"})
_PARAMETERS = frozenset({"duration_seconds", "sample_count", "seed", "output_gcs_uri"})


class Refusal(Exception):
    """Not served: HTTP's number, Google's word for it, and what is wrong, for the caller to read."""

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message

    def body(self) -> bytes:
        return _json({"error": {"code": self.code, "message": self.message, "status": self.status}})


def invalid(message: str) -> Refusal:
    """The request is malformed; it will never be served as it stands."""
    return Refusal(400, "INVALID_ARGUMENT", message)


def impossible(message: str) -> Refusal:
    """The request is in order, but something has to be set or allowed first."""
    return Refusal(400, "FAILED_PRECONDITION", message)


def unavailable(message: str) -> Refusal:
    """Another try may succeed."""
    return Refusal(503, "UNAVAILABLE", message)


@dataclass(frozen=True, slots=True)
class Piece:
    """What the model is asked for, but for the seed."""

    prompt: str
    negative_prompt: str | None
    seconds: int


@dataclass(frozen=True, slots=True)
class Order:
    """A prediction that is in order. `seed` is the first clip's; the others' follow."""

    piece: Piece
    samples: int
    seed: int | None
    output_uri: str | None

    def seeds(self, draw: Callable[[int], int]) -> list[int]:
        """One a clip. Without a seed each is drawn, `draw` giving a number below its argument."""
        if self.seed is None:
            return [draw(SEED_COUNT) for _ in range(self.samples)]
        return [(self.seed + i) % SEED_COUNT for i in range(self.samples)]


@dataclass(frozen=True, slots=True)
class Clip:
    """A finished clip: `audio` is the file itself, or `uri` says where in Cloud Storage it is."""

    seed: int
    seconds: int
    size_bytes: int
    audio: bytes | None = None
    uri: str | None = None

    def prediction(self) -> dict[str, Any]:
        where = (
            {"gcsUri": self.uri}
            if self.audio is None
            else {"bytesBase64Encoded": base64.b64encode(self.audio).decode("ascii")}
        )
        about = {
            "mimeType": WAV_TYPE,
            "seed": self.seed,
            "seconds": self.seconds,
            "sizeBytes": self.size_bytes,
        }
        return where | about


def answer(clips: Sequence[Clip]) -> bytes:
    """The body of the answer."""
    return _json({"predictions": [clip.prediction() for clip in clips]})


def inline_bytes(order: Order, size_bytes: int) -> int:
    """At most how long an answer is that holds every clip, each a file of this size."""
    empty = answer([Clip(SEED_COUNT - 1, order.piece.seconds, size_bytes, audio=b"")] * order.samples)
    return len(empty) + order.samples * 4 * -(-size_bytes // 3)


def parse(body: bytes) -> Order:
    """Raises `Refusal` that says what is wrong with the body."""
    document = _members(_document(body), "The body", frozenset({"instances", "parameters"}))
    instances = document.get("instances")
    if not isinstance(instances, list) or len(instances) != 1:
        raise invalid(
            'instances: send a list of exactly one, as in {"instances": [{"prompt": "..."}]}. '
            f"For more clips of a prompt set parameters.sample_count, up to {MOST_SAMPLES}."
        )
    instance = _members(instances[0], "instances[0]", _INSTANCE)
    parameters = _members(_or(document.get("parameters"), {}), "parameters", _PARAMETERS)
    prompt = _text(instance, "prompt", "instances[0].prompt")
    if prompt is None:
        raise invalid("instances[0].prompt: say in words what to play.")
    seconds = _whole(parameters, "duration_seconds", 1, MOST_SECONDS)
    samples = _whole(parameters, "sample_count", 1, MOST_SAMPLES)
    return Order(
        Piece(
            prompt,
            _text(instance, "negative_prompt", "instances[0].negative_prompt"),
            _or(seconds, _DEFAULT_SECONDS),
        ),
        _or(samples, 1),
        _whole(parameters, "seed", 0, SEED_COUNT - 1),
        _output_uri(parameters),
    )


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise invalid('The body is not JSON. Send {"instances": [{"prompt": "..."}]}.') from None


def _members(value: Any, name: str, known: frozenset[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{name}: send a JSON object.")
    if unknown := sorted(set(value) - known):
        raise invalid(f"{name}: {unknown[0]!r} is not known here; known are {', '.join(sorted(known))}.")
    return value


def _text(value: dict[str, Any], key: str, name: str) -> str | None:
    """None when it is absent or blank."""
    found = _or(value.get(key), "")
    if not isinstance(found, str):
        raise invalid(f"{name}: send a string.")
    if len(found) > PROMPT_CHARS:
        raise invalid(f"{name}: it has {len(found)} characters; send at most {PROMPT_CHARS}.")
    if any("\ud800" <= character <= "\udfff" for character in found):
        raise invalid(f"{name}: it holds half a character (a lone surrogate); send Unicode text.")
    return found if found.strip() else None


def _whole(value: dict[str, Any], key: str, least: int, most: int) -> int | None:
    found = value.get(key)
    if found is None:
        return None
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        raise invalid(f"parameters.{key}: send a whole number from {least} to {most}.")
    return found


def _output_uri(parameters: dict[str, Any]) -> str | None:
    found = _or(parameters.get("output_gcs_uri"), "")
    if found == "":
        return None
    if not isinstance(found, str) or not is_gcs_uri(found) or len(found) > OUTPUT_URI_CHARS:
        raise invalid(
            f"parameters.output_gcs_uri: send gs://BUCKET/PREFIX of at most {OUTPUT_URI_CHARS} characters."
        )
    return found


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
