"""``Cancel-After``: how long a task may wait to be started before it is given up, as its caller says it."""

import re
from collections.abc import Sequence

from gateway.accounts.checks import SHORTEST_START_S
from gateway.errors import FieldError, InvalidRequest

CANCEL_AFTER = "Cancel-After"
_DURATION = re.compile(r"([0-9]{1,9})([smh]?)", re.ASCII)
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_cancel_after(values: Sequence[str], longest_s: float) -> int | None:
    """Seconds, or None where nothing is said. Raises `InvalidRequest` for what will not do."""
    if not values:
        return None
    found = _DURATION.fullmatch(values[0].strip())
    if found is None or len(values) > 1:
        raise _refusal("invalid", "must be one duration like 90, 90s, 5m or 1h.")
    seconds = int(found[1]) * _UNITS_S[found[2]]
    if not SHORTEST_START_S <= seconds <= longest_s:
        raise _refusal("out_of_range", f"must be {SHORTEST_START_S} to {int(longest_s)} seconds.")
    return seconds


def _refusal(code: str, detail: str) -> InvalidRequest:
    return InvalidRequest((FieldError(CANCEL_AFTER, code, detail),))
