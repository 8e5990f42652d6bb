"""Logs: JSON in Cloud Logging's shape, or lines for a terminal; with the ids of what is being done.

Field names are those of https://cloud.google.com/logging/docs/structured-logging. Secrets never get here:
what callers present is reduced to a public id or a hash before anything is logged, and any text that looks
like a key or a signed URL is blanked by the formatter all the same.
"""

import json
import logging
import re
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any, TextIO

import orjson

_context: ContextVar[dict[str, str]] = ContextVar("log_context")

# Addresses are logged as they were sent: an underscore may be percent-encoded.
_SECRET = re.compile(
    r"(mg(?:_|%5[Ff])(?:live|test)(?:_|%5[Ff])[0-9A-Za-z]{12})(?:_|%5[Ff])[0-9A-Za-z]{20,}"
    r"|((?:X-Goog-)?[Ss]ignature=)[^&\s\"]+"
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 0x01
# What only machines join by; on a terminal it would be noise.
_JOINED = {"span": "logging.googleapis.com/spanId", "http": "httpRequest"}
_FOR_MACHINES = frozenset({*_JOINED, "sampled"})


class log_context:  # noqa: N801 - used as `with log_context(...)`, like the contextlib functions
    """Name what is being done in every log line of the block: request, tenant, key, task, trace."""

    __slots__ = ("_ids", "_token")

    def __init__(self, **ids: str) -> None:
        self._ids = ids

    def __enter__(self) -> None:
        named = {name: value for name, value in self._ids.items() if value}
        self._token = _context.set({**_context.get({}), **named})

    def __exit__(self, *_: object) -> None:
        _context.reset(self._token)


def trace_names(traceparent: str | None) -> dict[str, str]:
    """How a W3C ``traceparent`` goes into a `log_context`; nothing when there is none or it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return {}
    trace, span, flags = match.groups()
    return {"trace": trace, "span": span, "sampled": "yes" if int(flags, 16) & _SAMPLED else "no"}


def redact(text: str) -> str:
    return _SECRET.sub(lambda m: f"{m[1]}_***" if m[1] else f"{m[2]}***", text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line. ``project`` completes trace names so that logs and traces join."""

    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": _timestamp(record.created),
            "message": record.getMessage(),
            "logger": record.name,
        }
        for name, value in {**_context.get({}), **_extras(record)}.items():
            if name == "trace":
                trace = f"projects/{self._project}/traces/{value}" if self._project else value
                line["logging.googleapis.com/trace"] = trace
            elif name == "sampled":
                line["logging.googleapis.com/trace_sampled"] = value == "yes"
            else:
                line[_JOINED.get(name, name)] = value
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return redact(_dumps(line))


class TextFormatter(logging.Formatter):
    """For people: time, level, message, then what is being done."""

    def format(self, record: logging.LogRecord) -> str:
        ids = {**_context.get({}), **_extras(record)}
        told = {name: value for name, value in ids.items() if name not in _FOR_MACHINES}
        tail = "".join(f" {name}={value}" for name, value in told.items() if value is not None)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{clock} {record.levelname.lower():7} {record.getMessage()}{tail}"
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return redact(text)


def configure_logging(log_format: str, level: str, project: str, stream: TextIO = sys.stderr) -> None:
    """Send everything to one stream. ``log_format`` is json, text, or auto (text on a terminal)."""
    as_text = log_format == "text" or (log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter(project))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their own lines repeat ours, at a cost for each request.
    for noisy in ("httpx", "httpcore", "uvicorn.access", "uvicorn.error", "aiosqlite", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _dumps(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except TypeError:
        # Half a surrogate pair, a number beyond 64 bits: a line that is only nearly right beats none.
        return json.dumps(line, default=str)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _timestamp(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1e6):06d}Z"
