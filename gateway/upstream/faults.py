"""What went wrong at the provider, in our terms.

Google's envelope is ``{"error": {"code", "message", "status", "details"}}``. Lyria's refusals are told apart
by their text only: a fixed prefix, then a few words (seen, not documented). A text without the prefix must
use the whole phrase, because a provider may quote the caller's prompt.

What is paid is known for certain only to Google. We take it that

- a whole answer with status 2xx is paid;
- a refusal (4xx), 429 and 503 are free: nothing ran;
- 500 and other 5xx are the provider's own failure, told to us: BROKEN, counted as an attempt;
- 408, 499, 502 and 504 say that somebody between us and the model lost the answer, as does a connection cut
  or a deadline after the request was sent: UNKNOWN, counted as paid because it may be.

Texts for the caller give advice and name nothing of the operator's. ``internal`` is for the log.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.telemetry import redact

#: No provider may send us away for longer than this.
RETRY_AFTER_CAP_S = 300.0
PUBLIC_TEXT_LIMIT = 300
INTERNAL_TEXT_LIMIT = 2_000
#: Google's shortest project id. Shorter words would strike out ordinary language.
_SHORTEST_HIDDEN = 6

_PREFIX = "audio generation failed with the following error:"
_REFUSED = frozenset({400, 413, 422})
_BUSY = frozenset({425, 429, 503})
_LOST = frozenset({408, 499, 502, 504})
_CLIENT_ERRORS = range(300, 500)  # a redirect too: no address of Google's redirects a predict call

_RECITATION_ADVICE = (
    "The model withheld its music because it came too close to a known recording. Change the prompt, "
    "describing mood, tempo and instruments rather than an iconic style, "
    "or add a negative_prompt such as 'famous song, cover'."
)
_SAFETY_ADVICE = (
    "The model refused the prompt on safety grounds. Change the prompt: leave out names of artists and "
    "anything violent, sexual or hateful."
)
_LANGUAGE_ADVICE = (
    "The model reads US English only. Write prompt and negative_prompt in English; "
    "a full sentence helps where a few words were taken for another language."
)
_OPERATOR_ADVICE = (
    "The model is not set up correctly on our side. Trying again will not help; tell the operator."
)
_BUSY_ADVICE = "The model is at capacity. Try again later."
_UNAVAILABLE_ADVICE = "The model's provider failed. Try again."
_LOST_ADVICE = "The connection to the model was lost before its whole answer arrived. Try again."
_TIMEOUT_ADVICE = "The model did not answer in time. Try again, or ask for fewer clips at once."
_INVALID_ADVICE = "The model's answer could not be used. Try again."

#: google.rpc.Code → HTTP, for errors inside an answer.
_RPC_TO_HTTP = {
    3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 10: 503, 13: 500, 14: 503, 16: 401,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _ProviderError:
    message: str
    status_name: str
    retry_delay_s: float | None


def classify(
    status: int, body_text: str, headers: Mapping[str, str], *, now_ms: int, hide: Iterable[str] = ()
) -> UpstreamError:
    """The error that an answer with this status means. Pure.

    ``now_ms`` (Unix epoch) serves a Retry-After given as a date. ``hide`` are words, such as the project and
    the token, to be struck from every text.
    """
    secrets = tuple(hide)
    provider = _parse_body(body_text)
    fault, code, advice = _kind(status, provider)
    if code is ErrorCode.MODEL_REFUSED:
        text = public_text(provider.message, secrets)
        advice = f"The model refused the request: {text}" if text else "The model refused the request."
    return UpstreamError(
        advice,
        code=code,
        fault=fault,
        status=status,
        internal=_struck(f"HTTP {status}: {provider.message or body_text}", secrets)[:INTERNAL_TEXT_LIMIT],
        retry_after_s=_retry_after_s(headers, provider, now_ms) if fault is AttemptFault.BUSY else None,
    )


def classify_entry(error: Any, *, hide: Iterable[str] = ()) -> UpstreamError:
    """The error that an ``error`` object (or text) inside a 200 answer means, as if it had come alone."""
    code = error.get("code") if isinstance(error, dict) else None
    status = _RPC_TO_HTTP.get(code, code) if isinstance(code, int) else 400
    if not 400 <= status < 600:  # noqa: PLR2004 - the range of HTTP's errors
        status = 400
    text = orjson.dumps({"error": error}).decode()
    return classify(status, text, {}, now_ms=0, hide=hide)


def not_sent(cause: str) -> UpstreamError:
    """The request never left us: nothing ran, nothing is paid."""
    return UpstreamError(
        _UNAVAILABLE_ADVICE,
        code=ErrorCode.MODEL_UNAVAILABLE,
        fault=AttemptFault.NOT_SENT,
        internal=f"not sent: {cause}",
    )


def lost(cause: str) -> UpstreamError:
    """The request was sent and the whole answer did not come."""
    return UpstreamError(
        _LOST_ADVICE,
        code=ErrorCode.MODEL_UNAVAILABLE,
        fault=AttemptFault.UNKNOWN,
        internal=f"connection lost: {cause}",
    )


def too_slow(cause: str) -> UpstreamError:
    """The request was sent and its time ran out."""
    return UpstreamError(
        _TIMEOUT_ADVICE,
        code=ErrorCode.MODEL_TIMEOUT,
        fault=AttemptFault.UNKNOWN,
        internal=f"timed out: {cause}",
    )


def misconfigured(cause: str) -> UpstreamError:
    """The operator's settings cannot make a call."""
    return UpstreamError(
        _OPERATOR_ADVICE,
        code=ErrorCode.MODEL_MISCONFIGURED,
        fault=AttemptFault.MISCONFIGURED,
        internal=cause,
    )


def bad_answer(cause: str, advice: str = _INVALID_ADVICE) -> UpstreamError:
    """The model answered, and the answer is no use."""
    return UpstreamError(
        advice,
        code=ErrorCode.MODEL_ANSWER_INVALID,
        fault=AttemptFault.BROKEN,
        internal=cause,
    )


def public_text(text: str, hide: Iterable[str] = ()) -> str:
    """A provider's sentence made fit for callers: one line, no address, resource name, account or token."""
    for pattern, replacement in _PRIVATE:
        text = pattern.sub(replacement, text)
    text = _struck(text, hide)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= PUBLIC_TEXT_LIMIT else text[: PUBLIC_TEXT_LIMIT - 1].rstrip() + "…"


_PRIVATE = (
    (re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://\S+"), "[link]"),
    (re.compile(r"(?i)\bbearer\s+\S+|\bya29\.\S+|\bAIza[\w-]+"), "[token]"),
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "[account]"),
    (re.compile(r"\bprojects/[^\s'\"`,;]+"), "[resource]"),
    (re.compile(r"(?i)\bproject(\s+(id|number))?\s*[:#=]?\s*['\"`]?[\w:.-]*\d[\w:.-]*['\"`]?"), "[project]"),
    (re.compile(r"(?i)\b[a-z0-9.-]+\.(googleapis|google)\.com\S*"), "[link]"),
)


def _struck(text: str, hide: Iterable[str]) -> str:
    for word in sorted(hide, key=len, reverse=True):
        if len(word) >= _SHORTEST_HIDDEN:
            text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", "[hidden]", text)
    # A provider may quote the prompt, whatever is in it.
    return redact(text)


def _kind(status: int, provider: _ProviderError) -> tuple[AttemptFault, ErrorCode, str]:
    if status in _REFUSED:
        return _refusal(provider)
    if status in _BUSY:
        return AttemptFault.BUSY, ErrorCode.MODEL_BUSY, _BUSY_ADVICE
    if status in {408, 504}:
        return AttemptFault.UNKNOWN, ErrorCode.MODEL_TIMEOUT, _TIMEOUT_ADVICE
    if status in _LOST:
        return AttemptFault.UNKNOWN, ErrorCode.MODEL_UNAVAILABLE, _LOST_ADVICE
    if status in _CLIENT_ERRORS:
        return AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED, _OPERATOR_ADVICE
    return AttemptFault.BROKEN, ErrorCode.MODEL_UNAVAILABLE, _UNAVAILABLE_ADVICE


def _refusal(provider: _ProviderError) -> tuple[AttemptFault, ErrorCode, str]:
    text = provider.message.casefold()
    lyria = text.lstrip().startswith(_PREFIX)
    if "recitation check" in text or (lyria and "recitation" in text):
        return AttemptFault.RECITATION, ErrorCode.RECITATION_BLOCKED, _RECITATION_ADVICE
    if "prompt flag" in text or "safety filter" in text or (lyria and "safety" in text):
        return AttemptFault.REFUSED, ErrorCode.SAFETY_BLOCKED, _SAFETY_ADVICE
    if "unsupported language" in text:
        return AttemptFault.REFUSED, ErrorCode.LANGUAGE_UNSUPPORTED, _LANGUAGE_ADVICE
    if provider.status_name == "FAILED_PRECONDITION":
        # Google says this of projects and endpoints (service agents, locations), not of prompts.
        return AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED, _OPERATOR_ADVICE
    return AttemptFault.REFUSED, ErrorCode.MODEL_REFUSED, ""


def _parse_body(body_text: str) -> _ProviderError:
    try:
        body = orjson.loads(body_text)
    except orjson.JSONDecodeError:
        return _ProviderError("", "", None)  # a front end's HTML: nothing in it is for the caller
    if isinstance(body, list) and body:
        body = body[0]  # streaming front ends wrap the envelope in a list
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        return _ProviderError(error, "", None)
    if not isinstance(error, dict):
        return _ProviderError("", "", None)
    return _ProviderError(
        message=_text(error.get("message")),
        status_name=_text(error.get("status")),
        retry_delay_s=_retry_delay_s(error.get("details")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _retry_delay_s(details: Any) -> float | None:
    """google.rpc.RetryInfo: ``{"@type": "…/google.rpc.RetryInfo", "retryDelay": "12.5s"}``."""
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and _text(detail.get("@type")).endswith("google.rpc.RetryInfo"):
            delay = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s", _text(detail.get("retryDelay")), re.ASCII)
            return float(delay[1]) if delay else None
    return None


def _retry_after_s(headers: Mapping[str, str], provider: _ProviderError, now_ms: int) -> float | None:
    given = next((value.strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    seconds = _seconds_of(given, now_ms)
    if seconds is None:
        seconds = provider.retry_delay_s
    return None if seconds is None else min(max(seconds, 0.0), RETRY_AFTER_CAP_S)


def _seconds_of(given: str, now_ms: int) -> float | None:
    """RFC 9110 §10.2.3: whole seconds, or an HTTP date. None for anything else."""
    if re.fullmatch(r"\d+", given, re.ASCII):
        return float(given[:9])
    try:
        moment = parsedate_to_datetime(given)
    except (ValueError, OverflowError):  # the second for years and zones of twenty digits
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() - now_ms / 1000
