"""Request bodies: what each endpoint takes, and what is said of a value that will not do."""

import math
import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from gateway.errors import FieldError, InvalidRequest
from gateway.model import MusicSpec

PROMPT_CHARS = 4000
METADATA_ENTRIES = 16
_MAX_SEED = 2**32 - 1
# What no prompt needs and databases or logs choke on; tabs and line breaks are fine.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _whole_number(value: object) -> object:
    """JSON has one kind of number: ``41.0`` is an integer (JSON Schema 2020-12, §4.2.3)."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("not_unicode", "has half of a surrogate pair in it") from None
    if _CONTROL.search(value):
        raise PydanticCustomError("control_character", "has control characters in it; leave them out")
    return value


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
Seed = Annotated[WholeNumber, Field(ge=0, le=_MAX_SEED)]
Text = Annotated[str, Field(min_length=1, max_length=PROMPT_CHARS)]
Label = Annotated[str, Field(max_length=512)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: Text
    negative_prompt: Text | None = None
    sampleCount: Annotated[WholeNumber, Field(ge=1, le=4)] = 1  # noqa: N815 - the documented spelling
    seed: Seed | None = None
    model: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    metadata: dict[Annotated[str, Field(min_length=1, max_length=64)], Label] = Field(
        default_factory=dict, max_length=METADATA_ENTRIES
    )

    @field_validator("prompt", "negative_prompt", "model")
    @classmethod
    def _clean(cls, value: str) -> str:
        if not value.strip():
            raise PydanticCustomError("empty", "is empty; say something")
        return _text(value)

    @field_validator("metadata")
    @classmethod
    def _clean_metadata(cls, value: dict[str, str]) -> dict[str, str]:
        return {_text(name): _text(label) for name, label in value.items()}


class MusicGenerateBody(_Body):
    """The body of ``POST /api/music_generate``."""

    durationSeconds: Annotated[WholeNumber, Field(ge=1, le=300)] = 30  # noqa: N815

    def spec(self) -> MusicSpec:
        return MusicSpec(
            prompt=self.prompt,
            sample_count=self.sampleCount,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            duration_s=self.durationSeconds,
        )


class MusicGenerateLyriaBody(_Body):
    """The body of ``POST /api/music_generate_lyria``."""

    def spec(self) -> MusicSpec:
        return MusicSpec(
            prompt=self.prompt,
            sample_count=self.sampleCount,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
        )


B = TypeVar("B", bound=_Body)

#: Fields that are integers, for forms, where everything arrives as text.
INTEGER_FIELDS = frozenset({"durationSeconds", "sampleCount", "seed"})


def parse_body(kind: type[B], values: dict[str, Any]) -> B:
    """Raises `InvalidRequest` naming each field that is wrong."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        known = ", ".join(kind.model_fields)
        fields = tuple(_explain(detail, known) for detail in error.errors(include_url=False))
        raise InvalidRequest(fields) from None


_ADVICE = {
    "missing": ("missing", "is required."),
    "string_type": ("wrong_type", "must be a string."),
    "int_type": ("wrong_type", "must be an integer."),
    "int_from_float": ("wrong_type", "must be a whole number."),
    "dict_type": ("wrong_type", "must be an object of strings."),
}


def _explain(error: ErrorDetails, known: str) -> FieldError:
    name = ".".join(str(part) for part in error["loc"] if part != "[key]")[:100]
    kind, context = error["type"], error.get("ctx", {})
    if error["input"] is None and kind != "missing":
        return FieldError(name, "wrong_type", "must not be null; leave it out instead.")
    if kind in _ADVICE:
        code, detail = _ADVICE[kind]
    elif kind == "extra_forbidden":
        code, detail = "unknown_field", f"is not a field of this request. It takes: {known}."
    elif kind in {"greater_than_equal", "less_than_equal"}:
        bound = "at least" if kind == "greater_than_equal" else "at most"
        code, detail = "out_of_range", f"must be {bound} {context.get('ge', context.get('le'))}."
    elif kind == "string_too_short":
        code, detail = "empty", "is empty; say something."
    elif kind == "string_too_long":
        code, detail = "too_long", f"has more than {context['max_length']} characters."
    elif kind == "too_long":
        code, detail = "too_long", f"has more than {context['max_length']} entries."
    else:
        code, detail = kind, f"{error['msg']}."
    return FieldError(name, code, detail)
