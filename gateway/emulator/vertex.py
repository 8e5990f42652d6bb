"""What Google's front end does before a model runs: checks a request, and words its refusals.

Sources: the Lyria 2 API reference (instances, parameters, seed and sample_count exclude each other), the
error bodies that users of Vertex AI report, and ``google.rpc.Status``. Numbers in ``instances`` and
``parameters`` are ``google.protobuf.Value`` at Google, that is doubles: ``2.0`` is the integer 2, ``true`` is
no number.
"""

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_REQUEST_BYTES = 1_572_864
MAX_SAMPLES = 4
MAX_SEED = 2**32 - 1
MAX_DURATION_S = 300
DEFAULT_DURATION_S = 30

_GENERATION_FAILED = "Audio generation failed with the following error: "

CANONICAL_STATUS: dict[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class VertexError(Exception):
    """A refusal in Google's words. ``blocked`` marks a refusal by the model rather than by the front end."""

    def __init__(
        self,
        http_status: int,
        message: str,
        *,
        status: str | None = None,
        details: tuple[Mapping[str, Any], ...] = (),
        blocked: bool = False,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.message = message
        self.status = status or CANONICAL_STATUS.get(http_status, "UNKNOWN")
        self.details = details
        self.blocked = blocked

    def body(self) -> dict[str, Any]:
        """Google's envelope: ``{"error": {"code", "message", "status", "details"?}}``."""
        error: dict[str, Any] = {"code": self.http_status, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A request that passed the checks. ``model`` is the name of its page.

    ``duration_s`` is None where the model has one length, or finds one itself. ``output_uri`` is where audio
    may be put that is too much for an answer; ``about`` are further facts for the log of calls.
    """

    model: str
    resource: str
    prompt: str
    negative_prompt: str = ""
    seed: int | None = None
    sample_count: int = 1
    duration_s: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    output_uri: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def recitation() -> VertexError:
    return VertexError(
        400,
        f"{_GENERATION_FAILED}All responses were blocked by recitation checks. "
        "Please modify your prompt and try again.",
        blocked=True,
    )


def safety() -> VertexError:
    return VertexError(
        400,
        f"{_GENERATION_FAILED}Music generation failed. Prompt flagged by safety filters. "
        "Please modify your prompt and try again.",
        blocked=True,
    )


def unsupported_language(languages: str = "en") -> VertexError:
    return VertexError(
        400,
        f"{_GENERATION_FAILED}Unsupported language detected. Please use one of the supported languages: "
        f"{languages}.",
        blocked=True,
    )


def quota_exceeded(model: str) -> VertexError:
    return VertexError(
        429,
        "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model "
        f"with base model: {model}. Please submit a quota increase request. "
        "https://cloud.google.com/vertex-ai/docs/generative-ai/quotas-genai.",
    )


def capacity_exhausted() -> VertexError:
    return VertexError(
        429,
        "Resource exhausted. Please try again later. Please refer to "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.",
    )


def model_not_found(resource: str) -> VertexError:
    return VertexError(
        404,
        f"Publisher Model `{resource}` was not found or your project does not have access to it. "
        "Please ensure you are using a valid model version. For more information, see: "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions",
    )


def internal_error() -> VertexError:
    return VertexError(500, "Internal error encountered.")


def unauthenticated() -> VertexError:
    return VertexError(
        401,
        "Request is missing required authentication credential. Expected OAuth 2 access token, "
        "login cookie or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
        details=(
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "CREDENTIALS_MISSING",
                "domain": "googleapis.com",
                "metadata": {
                    "service": "aiplatform.googleapis.com",
                    "method": "google.cloud.aiplatform.v1.PredictionService.Predict",
                },
            },
        ),
    )


def response_too_large(size_bytes: int) -> VertexError:
    return VertexError(
        400,
        f"Response size too large. Received at least {size_bytes} bytes; "
        "the limit of this endpoint is smaller. Reduce the size of the response.",
    )


def payload_too_large() -> VertexError:
    return VertexError(400, f"Request payload size exceeds the limit: {MAX_REQUEST_BYTES} bytes.")


def mostly_foreign_script(text: str, scripts: tuple[str, ...] = ("LATIN",)) -> bool:
    """Whether more than half of the letters are of other scripts: a certain sign of another language."""
    letters = [character for character in text if character.isalpha()]
    foreign = sum(not unicodedata.name(letter, "").startswith(scripts) for letter in letters)
    return foreign * 2 > len(letters)


def parse(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except json.JSONDecodeError as fault:
        line = fault.doc.splitlines()[fault.lineno - 1] if fault.doc else ""
        column = fault.colno - 1
        start = max(0, column - 40)
        raise VertexError(
            400,
            f"Invalid JSON payload received. {fault.msg}.\n"
            f"{line[start : start + 80]}\n{' ' * (column - start)}^",
        ) from None
    except (UnicodeDecodeError, RecursionError):
        raise VertexError(
            400, "Invalid JSON payload received. Parsing terminated before end of input."
        ) from None


def _refuse_constant(name: str) -> Any:
    raise VertexError(400, f"Invalid JSON payload received. Unexpected token.\n{name}\n^")


def object_of(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        at = f" at '{place}'" if place else ""
        raise VertexError(400, f"Invalid value{at}: expected a JSON object.")
    return value


def known_names(found: Mapping[str, Any], place: str, known: set[str]) -> None:
    unknown = [name for name in found if name not in known]
    if not unknown:
        return
    at = f" at '{place}'" if place else ""
    lines = [
        f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.' for name in unknown
    ]
    violations = [{"field": place, "description": line} if place else {"description": line} for line in lines]
    raise VertexError(
        400,
        "\n".join(lines),
        details=({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations},),
    )


def single_instance(document: Mapping[str, Any]) -> Mapping[str, Any]:
    instances = document.get("instances")
    if instances is not None and not isinstance(instances, list):
        raise VertexError(400, "Invalid value at 'instances': expected a JSON array.")
    if not instances:
        raise VertexError(400, "Invalid request: `instances` must not be empty.")
    if len(instances) > 1:
        raise VertexError(400, f"Only one instance is supported per request, got {len(instances)}.")
    return object_of(instances[0], "instances[0]")


def labels_of(document: Mapping[str, Any]) -> Mapping[str, str]:
    labels = object_of(document.get("labels") or {}, "labels")
    if not all(isinstance(value, str) for value in labels.values()):
        raise VertexError(400, "Invalid value at 'labels': expected string values.")
    return labels


def prompt_of(instance: Mapping[str, Any]) -> str:
    prompt = text_of(instance, "prompt")
    if not prompt.strip():
        raise VertexError(400, "Invalid request: `prompt` is required and must be a non-empty string.")
    return prompt


def text_of(instance: Mapping[str, Any], name: str, place: str = "instances[0]") -> str:
    value = instance.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise VertexError(400, f"Invalid value at '{place}.{name}': expected a string.")
    return value


def integer_of(value: Any, name: str, lowest: int, highest: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_whole(value):
        raise VertexError(400, f"Invalid value for `{name}`: expected an integer.")
    if not lowest <= value <= highest:
        raise VertexError(400, f"Invalid value for `{name}`: must be between {lowest} and {highest}.")
    return int(value)


def _is_whole(value: float) -> bool:
    return isinstance(value, int) or (math.isfinite(value) and value.is_integer())


def agreed_count(places: Mapping[str, Any]) -> int:
    counts = {
        place: count
        for place, value in places.items()
        if (count := integer_of(value, place, 1, MAX_SAMPLES)) is not None
    }
    if len(set(counts.values())) > 1:
        raise VertexError(400, f"Conflicting values for `sample_count`: {', '.join(counts)}.")
    return next(iter(counts.values()), 1)
