"""Which part of a file a request asks for: Range and If-Range, RFC 9110 §13.1.5 and §14. Pure.

Players send one range at a time. Several at once are answered with the whole file, which the RFC allows, as
it does for units other than bytes and for headers that do not parse.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus

# Bounded: a number of a thousand digits is nobody's offset, and costs time to read.
_BYTE_RANGE = re.compile(r"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Selection:
    """What to answer: bytes ``start`` up to but not including ``stop``, out of ``size_bytes``.

    ``status`` is 200 (all of it), 206 (a part) or 416 (nothing of what was asked for exists; send no bytes).
    """

    status: HTTPStatus
    start: int
    stop: int
    size_bytes: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def content_range(self) -> str | None:
        """The Content-Range header; None for a whole file."""
        match self.status:
            case HTTPStatus.PARTIAL_CONTENT:
                return f"bytes {self.start}-{self.stop - 1}/{self.size_bytes}"
            case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return f"bytes */{self.size_bytes}"
            case _:
                return None


def http_date(at_ms: int) -> str:
    """Milliseconds since the epoch as Last-Modified writes them (whole seconds)."""
    return format_datetime(datetime.fromtimestamp(at_ms // 1000, UTC), usegmt=True)


def select(
    *, size_bytes: int, etag: str, modified_ms: int, range_header: str | None, if_range: str | None
) -> Selection:
    """Choose the part of a file. ``etag`` is quoted and strong; headers are None where absent."""
    whole = Selection(HTTPStatus.OK, 0, size_bytes, size_bytes)
    if range_header is None or (if_range is not None and not _is_current(if_range, etag, modified_ms)):
        return whole
    match = _BYTE_RANGE.fullmatch(range_header.strip(" \t"))
    if match is None or not (match[1] or match[2]):
        return whole
    if match[1]:
        first = int(match[1])
        last = int(match[2]) if match[2] else max(first, size_bytes - 1)
        if last < first:
            return whole  # not a range at all, so the header counts as absent
    else:  # the last n bytes; of an empty file that is the empty file
        if size_bytes == 0 and int(match[2]) > 0:
            return whole
        first, last = max(0, size_bytes - int(match[2])), size_bytes - 1
    if first >= size_bytes:
        return Selection(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0, size_bytes)
    return Selection(HTTPStatus.PARTIAL_CONTENT, first, min(last + 1, size_bytes), size_bytes)


def _is_current(if_range: str, etag: str, modified_ms: int) -> bool:
    """Strong comparison: a weak validator never matches, and a date only if it is exactly ours."""
    validator = if_range.strip(" \t")
    if validator.startswith(('"', "W/")):
        return validator == etag and not etag.startswith("W/")
    try:
        date = parsedate_to_datetime(validator)
    except (ValueError, OverflowError):  # the second for years and zones of twenty digits
        return False
    aware = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return int(aware.timestamp()) == modified_ms // 1000
