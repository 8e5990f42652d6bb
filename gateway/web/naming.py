"""``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): a caller's own name for a request."""

import re
from collections.abc import Sequence

from gateway.errors import FieldError, InvalidRequest

NAME = "Idempotency-Key"
LENGTH = 255
# A Structured Field string (RFC 9651 §3.3.3), or the same without quotes, as many clients send it.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-\[\]-~]+")
_ESCAPED = re.compile(r'\\(["\\])')


def parse_name(values: Sequence[str]) -> str | None:
    """The name that a request carries, or None. Raises `InvalidRequest` for one that will not do."""
    if not values:
        return None
    text = values[0].strip()
    quoted = _QUOTED.fullmatch(text)
    name = _ESCAPED.sub(r"\1", quoted[1]) if quoted else text if _BARE.fullmatch(text) else ""
    if len(values) > 1 or not 1 <= len(name) <= LENGTH:
        detail = f"must be one name of 1 to {LENGTH} printable ASCII characters, quoted or without spaces."
        raise InvalidRequest((FieldError(NAME, "invalid", detail),))
    return name
