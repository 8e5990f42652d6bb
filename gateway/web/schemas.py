"""Request bodies: what each endpoint takes, and what is said of a value that will not do.

openapi.yaml describes the same; ``tests/contract`` holds the two together, so a limit is changed in both.
"""

import math
import re
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from gateway.accounts import keys
from gateway.audio.formats import BITRATES_KBPS
from gateway.errors import FieldError, InvalidRequest
from gateway.families.lyria2 import LYRIA2
from gateway.families.registry import KINDS
from gateway.model import AudioFormat, ModelKind, MusicSpec
from gateway.tasks.catalog import LONGEST_S
from gateway.webhooks.addresses import URL_CHARS, URL_PATTERN

PROMPT_CHARS = 4000
METADATA_ENTRIES = 16
MAX_SAMPLES = 4
MAX_SEED = 2**32 - 1
#: What any format may have; which rates a format knows is the plan's to say.
RATES_KBPS = sorted({rate for rates in BITRATES_KBPS.values() for rate in rates})
#: From quieter than any broadcast to louder than any master.
QUIETEST_LUFS, LOUDEST_LUFS = -40.0, -6.0
#: A request of nothing but unknown fields must not be answered with a megabyte of advice.
TOLD_FIELDS = 20
# What no prompt needs and databases or logs choke on; tabs and line breaks are fine.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# The same rules as patterns, for the schema: no control characters; for text also something to read,
# which is anything that `str.strip` leaves.
_PLAIN = r"[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*"
_VISIBLE = r"[^\u0000-\u0020\u007f\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
LABEL_PATTERN = f"^{_PLAIN}$"
TEXT_PATTERN = f"^{_PLAIN}{_VISIBLE}{_PLAIN}$"


def whole_number(value: object) -> object:
    """JSON has one kind of number: ``41.0`` is an integer (JSON Schema 2020-12, §4.2.3)."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def any_number(value: object) -> object:
    """JSON has one kind of number, so -14 will do for -14.0; ``true`` will not."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _one_of_formats(value: str) -> str:
    names = [each.value for each in AudioFormat]
    if value not in names:
        raise PydanticCustomError("unknown_value", "takes {names}", {"names": ", ".join(names)})
    return value


def _one_of_rates(value: int) -> int:
    if value not in RATES_KBPS:
        raise PydanticCustomError(
            "unknown_value", "takes {rates}", {"rates": ", ".join(map(str, RATES_KBPS))}
        )
    return value


def _text(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("empty", "is empty; say something")
    return check_label(value)


def check_label(value: str) -> str:
    if _CONTROL.search(value):
        raise PydanticCustomError("control_character", "has control characters in it; leave them out")
    if keys.found_in(value):
        raise PydanticCustomError(
            "contains_key", "has an API key in it; take it out, and rotate that key if others could read this"
        )
    return value


WHOLE = BeforeValidator(whole_number)
Duration = Annotated[int, Field(ge=1, le=LONGEST_S), WHOLE]
SampleCount = Annotated[int, Field(ge=1, le=MAX_SAMPLES), WHOLE]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE]
Text = Annotated[
    str, Field(min_length=1, max_length=PROMPT_CHARS, json_schema_extra={"pattern": TEXT_PATTERN})
]
# Where it may lead is the address policy's to say.
WebhookUrl = Annotated[
    str,
    AfterValidator(check_label),
    Field(max_length=URL_CHARS, json_schema_extra={"pattern": URL_PATTERN}),
]
Bitrate = Annotated[
    int, AfterValidator(_one_of_rates), Field(json_schema_extra={"enum": list(RATES_KBPS)}), WHOLE
]
Loudness = Annotated[float, Field(ge=QUIETEST_LUFS, le=LOUDEST_LUFS), BeforeValidator(any_number)]
OutputFormat = Annotated[
    str,
    AfterValidator(_one_of_formats),
    Field(json_schema_extra={"enum": [each.value for each in AudioFormat]}),
]
MetadataName = Annotated[str, Field(min_length=1, max_length=64)]
MetadataLabel = Annotated[str, Field(max_length=512, json_schema_extra={"pattern": LABEL_PATTERN})]


def _model_name(*kinds: ModelKind) -> Any:
    """A model's name. Which of them are configured is the catalog's to say."""
    names: list[JsonValue] = list(kinds)
    return Field(None, min_length=1, max_length=100, json_schema_extra={"enum": names})


class Body(BaseModel):
    """A JSON object that takes its own fields and no other, and none of them as null."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        if value is None:
            raise PydanticCustomError("null", "must not be null; leave it out instead")
        return value


class _MusicBody(Body):
    prompt: Text
    negative_prompt: Text | None = None
    sampleCount: SampleCount = 1  # noqa: N815 - the documented spelling
    seed: Seed | None = None
    model: str | None = _model_name(LYRIA2)
    metadata: dict[MetadataName, MetadataLabel] = Field(
        default_factory=dict,
        max_length=METADATA_ENTRIES,
        json_schema_extra={"propertyNames": {"minLength": 1, "maxLength": 64, "pattern": LABEL_PATTERN}},
    )
    webhook_url: WebhookUrl | None = None
    outputFormat: OutputFormat | None = None  # noqa: N815 - spelt like the documented ones
    bitrateKbps: Bitrate | None = None  # noqa: N815
    loudnessLufs: Loudness | None = None  # noqa: N815

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _clean(cls, value: str) -> str:
        return _text(value)

    @field_validator("metadata")
    @classmethod
    def _clean_metadata(cls, value: dict[str, str]) -> dict[str, str]:
        return {check_label(name): check_label(label) for name, label in value.items()}

    def _spec(self, duration_s: int | None) -> MusicSpec:
        return MusicSpec(
            prompt=self.prompt,
            sample_count=self.sampleCount,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            duration_s=duration_s,
            audio_format=None if self.outputFormat is None else AudioFormat(self.outputFormat),
            bitrate_kbps=self.bitrateKbps,
            loudness_lufs=self.loudnessLufs,
        )


class MusicGenerateBody(_MusicBody):
    """The body of ``POST /api/music_generate``."""

    durationSeconds: Duration = 30  # noqa: N815 - the documented spelling
    model: str | None = _model_name(*KINDS)

    def spec(self) -> MusicSpec:
        return self._spec(self.durationSeconds)


class MusicGenerateLyriaBody(_MusicBody):
    """The body of ``POST /api/music_generate_lyria``."""

    def spec(self) -> MusicSpec:
        return self._spec(None)


B = TypeVar("B", bound=BaseModel)

#: Fields that are integers, for forms, where everything arrives as text.
INTEGER_FIELDS = frozenset({"durationSeconds", "sampleCount", "seed", "bitrateKbps"})
#: And those that are numbers.
NUMBER_FIELDS = frozenset({"loudnessLufs"})


def parse_body(kind: type[B], values: dict[str, Any]) -> B:
    """Raises `InvalidRequest` naming the fields that are wrong, at most the first twenty."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        if isinstance(values.get("body"), dict):
            # The reference calls the JSON object itself "body"; taken literally, all else would be missing.
            raise InvalidRequest((_WRAPPED,)) from None
        known = ", ".join(kind.model_fields)
        told = error.errors(include_url=False)[:TOLD_FIELDS]
        raise InvalidRequest(tuple(_explain(detail, known) for detail in told)) from None


_WRAPPED = FieldError(
    "body",
    "wrapped",
    "is not a field here: send the object inside it as the JSON body itself, without a wrapper.",
)

_ADVICE = {
    "missing": ("missing", "is required."),
    "null": ("wrong_type", "must not be null; leave it out instead."),
    "string_type": ("wrong_type", "must be a string."),
    "int_type": ("wrong_type", "must be an integer."),
    "int_from_float": ("wrong_type", "must be a whole number."),
    "float_type": ("wrong_type", "must be a number."),
    "finite_number": ("wrong_type", "must be a number."),
    "bool_type": ("wrong_type", "must be true or false."),
    "list_type": ("wrong_type", "must be a list."),
    "dict_type": ("wrong_type", "must be an object of strings."),
    "model_type": ("wrong_type", "must be an object."),
    "string_too_short": ("empty", "is empty; say something."),
    "too_short": ("empty", "is empty; name at least one."),
}


def _explain(error: ErrorDetails, known: str) -> FieldError:
    name = ".".join(str(part) for part in error["loc"] if part != "[key]")[:100]
    kind, context = error["type"], error.get("ctx", {})
    if kind in _ADVICE:
        code, detail = _ADVICE[kind]
    elif kind == "extra_forbidden":
        inside = len(error["loc"]) > 1
        takes = "is not a field here." if inside else f"is not a field of this request. It takes: {known}."
        code, detail = "unknown_field", takes
    elif kind in {"greater_than_equal", "less_than_equal"}:
        bound = "at least" if kind == "greater_than_equal" else "at most"
        code, detail = "out_of_range", f"must be {bound} {context.get('ge', context.get('le'))}."
    elif kind == "string_too_long":
        code, detail = "too_long", f"has more than {context['max_length']} characters."
    elif kind == "too_long":
        code, detail = "too_long", f"has more than {context['max_length']} entries."
    else:
        code, detail = kind, f"{error['msg']}."
    return FieldError(name, code, detail)
