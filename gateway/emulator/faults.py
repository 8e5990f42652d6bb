"""Trouble on demand: what a test may ask the emulator to do wrong, once or several times.

A fault is a JSON object. Its effects combine: ``{"delay_s": 0.2, "chunk_bytes": 7, "escaped": true}``.
Faults wait in a queue; a valid predict call takes the first that matches it, and each is used ``times``
times.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from gateway.emulator import vertex
from gateway.emulator.vertex import PredictRequest, VertexError

_PRESETS: dict[str, Callable[[PredictRequest], VertexError]] = {
    "recitation": lambda _: vertex.recitation(),
    "safety": lambda _: vertex.safety(),
    "language": lambda _: vertex.unsupported_language(),
    "quota": lambda request: vertex.quota_exceeded(request.model),
    "capacity": lambda _: vertex.capacity_exhausted(),
    "not_found": lambda request: vertex.model_not_found(request.resource),
    "internal": lambda _: vertex.internal_error(),
}

_LOWEST_ERROR = 400
_HIGHEST_ERROR = 599


class FaultRefused(Exception):
    """A fault that makes no sense; the text says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and for whom. Absent fields do nothing.

    Whom:
      ``model`` its name · ``path``, ``prompt`` a piece of either · ``times`` how often

    Instead of an answer:
      ``preset`` recitation, safety, language, quota, capacity, not_found, internal: Google's status and text
      ``status`` an HTTP status 400-599, with ``message``, ``error_status`` (``RESOURCE_EXHAUSTED``) or
      ``body`` (sent as it is: a string as text, anything else as JSON) · ``retry_after`` the header
      ``hang`` never answers, until the client leaves · ``drop`` closes the connection before the status line

    Before an answer: ``delay_s`` seconds

    Within an answer:
      ``cut_at_byte`` closes the connection after so many body bytes; with ``reset`` by a TCP reset instead of
      a FIN · ``truncate_json`` half of the body, as if it were whole · ``bad_base64`` illegal characters in
      the first clip · ``not_audio`` valid base64 of text · ``short_wav`` half of the audio its header claims
      · ``fewer_clips`` at most so many clips · ``error_entries`` indexes of predictions that are an error
      object · ``empty_predictions`` · ``no_predictions`` · ``wrong_field`` bytesBase64Encoded ·
      ``unknown_field`` a name nobody reads · ``escaped`` JSON escapes inside the base64 · ``whitespace`` odd
      white space and field order · ``chunk_bytes`` size of each write, ``chunk_delay_s`` seconds between them
      · ``data_first`` an interaction's audio before its type · ``interaction_status`` failed, incomplete or
      the like, without audio, ``message`` being its words
    """

    times: int = 1
    model: str | None = None
    path: str | None = None
    prompt: str | None = None
    preset: str | None = None
    status: int | None = None
    message: str | None = None
    error_status: str | None = None
    body: Any = None
    retry_after: str | int | None = None
    hang: bool = False
    drop: bool = False
    delay_s: float = 0.0
    cut_at_byte: int | None = None
    reset: bool = False
    truncate_json: bool = False
    bad_base64: bool = False
    not_audio: bool = False
    short_wav: bool = False
    fewer_clips: int | None = None
    error_entries: tuple[int, ...] = ()
    empty_predictions: bool = False
    no_predictions: bool = False
    wrong_field: bool = False
    unknown_field: bool = False
    escaped: bool = False
    whitespace: bool = False
    chunk_bytes: int | None = None
    chunk_delay_s: float = 0.0
    data_first: bool = False
    interaction_status: str | None = None

    def matches(self, request: PredictRequest, path: str) -> bool:
        return (
            (self.model is None or self.model == request.model)
            and (self.path is None or self.path in path)
            and (self.prompt is None or self.prompt in request.prompt)
        )

    def error(self, request: PredictRequest) -> VertexError | None:
        """The refusal this fault stands for, if it is one."""
        if self.preset is not None:
            return _PRESETS[self.preset](request)
        if self.status is None:
            return None
        return VertexError(
            self.status, self.message or "The service said no on request.", status=self.error_status
        )

    def error_body(self, error: VertexError) -> tuple[bytes, str]:
        """Body and content type of the refusal."""
        if isinstance(self.body, str):
            return self.body.encode(), "text/html; charset=UTF-8"
        document = error.body() if self.body is None else self.body
        return json.dumps(document, indent=2).encode(), "application/json; charset=UTF-8"


NO_FAULT = Fault()


class FaultQueue:
    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, int]] = []

    def add(self, faults: list[Fault]) -> None:
        self._waiting.extend((fault, fault.times) for fault in faults)

    def take(self, request: PredictRequest, path: str) -> Fault:
        """The first fault that matches, used up by one; `NO_FAULT` when none does."""
        for index, (fault, left) in enumerate(self._waiting):
            if fault.matches(request, path):
                self._waiting[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return NO_FAULT

    def clear(self) -> None:
        self._waiting.clear()

    def __len__(self) -> int:
        return sum(left for _, left in self._waiting)


def read_faults(document: Any, models: Collection[str]) -> list[Fault]:
    """One fault object or a list of them, for some of the ``models``. Raises `FaultRefused`."""
    found = [_read_fault(item) for item in (document if isinstance(document, list) else [document])]
    if strangers := [fault.model for fault in found if fault.model not in {None, *models}]:
        raise FaultRefused(f"model must be one of {', '.join(models)}; {strangers[0]!r} is none.")
    return found


def _read_fault(item: Any) -> Fault:
    if not isinstance(item, dict):
        raise FaultRefused("A fault is a JSON object.")
    known = {field.name for field in fields(Fault)}
    unknown = sorted(set(item) - known)
    if unknown:
        raise FaultRefused(f"Unknown in a fault: {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    for name, value in item.items():
        _check(name, value)
    return Fault(**{**item, "error_entries": tuple(item.get("error_entries", ()))})


def _check(name: str, value: Any) -> None:
    accepts, wanted = _RULES.get(name, (_is_flag, "true or false"))
    if not accepts(value):
        raise FaultRefused(f"{name} must be {wanted}.")


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "times": (_is_positive, "a positive integer"),
    "model": (_is_text, "a model's name"),
    "interaction_status": (_is_text, "a status"),
    "path": (_is_text, "a string"),
    "prompt": (_is_text, "a string"),
    "preset": (lambda value: value in _PRESETS, f"one of {', '.join(_PRESETS)}"),
    "status": (lambda value: _is_count(value) and _LOWEST_ERROR <= value <= _HIGHEST_ERROR, "400 to 599"),
    "message": (_is_text, "a string"),
    "error_status": (_is_text, "a string"),
    "body": (lambda _: True, "anything"),
    "retry_after": (lambda value: _is_text(value) or _is_count(value), "seconds or an HTTP date"),
    "delay_s": (_is_seconds, "seconds"),
    "chunk_delay_s": (_is_seconds, "seconds"),
    "cut_at_byte": (_is_count, "a number of bytes"),
    "chunk_bytes": (_is_positive, "a positive number of bytes"),
    "fewer_clips": (_is_count, "a number of clips"),
    "error_entries": (
        lambda value: isinstance(value, list) and all(_is_count(index) for index in value),
        "a list of indexes",
    ),
}
