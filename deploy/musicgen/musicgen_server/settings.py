"""What the environment says: Vertex AI's own ``AIP_*`` and our ``MUSICGEN_*``; the README explains them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

PUBLISHED_LICENCE = "cc-by-nc-4.0"
OWN_WEIGHTS = "own-weights"

_GCS_URI = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^\x00-\x1f\x7f]*)?")
_PUBLISHED = re.compile(r"facebook/musicgen-[\w.-]+")
_DTYPES = ("auto", "float32", "float16", "bfloat16")

_LICENCE_ADVICE = (
    "The code of MusicGen is MIT, but the published weights (facebook/musicgen-*) are licensed CC-BY-NC 4.0: "
    "for non-commercial use only. If your use is non-commercial and you accept that licence, set "
    "MUSICGEN_ACKNOWLEDGE_LICENCE=CC-BY-NC-4.0. If you serve weights that you have the rights to, from a "
    "directory or a bucket, set MUSICGEN_ACKNOWLEDGE_LICENCE=own-weights."
)


class ConfigurationError(Exception):
    """The server does not start. The text says which variable is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Lengths of music are in seconds; `window_s` is longer than `stride_s`.

    `weights_uri` is a folder in Cloud Storage and wins over `model`, a directory or a name on the hub.
    """

    port: int
    health_route: str
    predict_route: str
    weights_uri: str | None
    model: str
    answer_limit_bytes: int
    output_uri: str | None
    window_s: int
    stride_s: int
    rows: int
    waiting: int
    guidance: float
    temperature: float
    top_k: int
    device: str
    dtype: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Raises `ConfigurationError`, also when the licence of the weights was not acknowledged."""
        read = _Reader(environment)
        weights_uri = read.uri("AIP_STORAGE_URI")
        model = read.text("MUSICGEN_MODEL", "facebook/musicgen-small")
        _check_licence(read.text("MUSICGEN_ACKNOWLEDGE_LICENCE", ""), None if weights_uri else model)
        window_s = read.whole("MUSICGEN_WINDOW_S", 30, 2, 30)
        return cls(
            port=read.whole("AIP_HTTP_PORT", 8080, 1, 65_535),
            health_route=read.route("AIP_HEALTH_ROUTE", "/health"),
            predict_route=read.route("AIP_PREDICT_ROUTE", "/predict"),
            weights_uri=weights_uri,
            model=model,
            answer_limit_bytes=read.whole("MUSICGEN_ANSWER_LIMIT_BYTES", 1_500_000, 1_000, 1_000_000_000),
            output_uri=read.uri("MUSICGEN_OUTPUT_URI"),
            window_s=window_s,
            stride_s=read.whole("MUSICGEN_STRIDE_S", min(18, window_s - 1), 1, window_s - 1),
            rows=read.whole("MUSICGEN_ROWS", 4, 1, 4),
            waiting=read.whole("MUSICGEN_WAITING", 8, 0, 1_000),
            guidance=read.number("MUSICGEN_GUIDANCE", 3.0, 1.0, 20.0),
            temperature=read.number("MUSICGEN_TEMPERATURE", 1.0, 0.01, 10.0),
            top_k=read.whole("MUSICGEN_TOP_K", 250, 1, 1_000_000),
            device=read.text("MUSICGEN_DEVICE", "auto"),
            dtype=read.choice("MUSICGEN_DTYPE", _DTYPES),
        )


def _check_licence(said: str, model: str | None) -> None:
    """`model` is None for weights from a bucket, of which only the operator's word is known."""
    word = said.strip().lower()
    if word not in {PUBLISHED_LICENCE, OWN_WEIGHTS}:
        raise ConfigurationError(_LICENCE_ADVICE)
    if word == OWN_WEIGHTS and model is not None and _PUBLISHED.fullmatch(model):
        raise ConfigurationError(f"{model} are published weights, not your own. {_LICENCE_ADVICE}")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Variables by name; one that is empty counts as absent, as Vertex AI leaves some."""

    environment: Mapping[str, str]

    def text(self, name: str, default: str) -> str:
        return self.environment.get(name, "").strip() or default

    def route(self, name: str, default: str) -> str:
        found = self.text(name, default)
        if not found.startswith("/") or "{" in found:
            raise ConfigurationError(f"{name}: {found!r} is not a path; it begins with a slash.")
        return found

    def uri(self, name: str) -> str | None:
        found = self.text(name, "")
        if found and not is_gcs_uri(found):
            raise ConfigurationError(f"{name}: {found!r} is not of the form gs://BUCKET/PREFIX.")
        return found or None

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        found = self.text(name, choices[0])
        if found not in choices:
            raise ConfigurationError(f"{name}: {found!r} is none of {', '.join(choices)}.")
        return found

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        found = self.text(name, str(default))
        if not re.fullmatch(r"[0-9]{1,18}", found) or not least <= int(found) <= most:
            raise ConfigurationError(f"{name}: {found!r} is not a whole number from {least} to {most}.")
        return int(found)

    def number(self, name: str, default: float, least: float, most: float) -> float:
        found = self.text(name, str(default))
        try:
            value = float(found)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ConfigurationError(f"{name}: {found!r} is not a number from {least} to {most}.")
        return value


def is_gcs_uri(text: str) -> bool:
    """Whether it names a bucket, and perhaps what names in it begin with."""
    return _GCS_URI.fullmatch(text) is not None
