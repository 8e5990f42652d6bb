"""Money and moments, exactly: as they are read, kept and written."""

import re
from datetime import UTC, datetime

MICROS_PER_USD = 1_000_000
_DECIMAL = re.compile(r"(-?)([0-9]{1,9})(?:\.([0-9]{1,6}))?")


def parse_millionths(text: str) -> int:
    """A decimal number below a billion with at most six places, exactly: "0.06" → 60000.

    Dollars are kept so, and factors. Raises `ValueError` for anything else, instead of rounding it.
    """
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise ValueError(text)
    sign, whole, places = found.groups(default="")
    return int(f"{sign}{whole}{places:0<6}")


def format_usd(micros: int) -> str:
    """Exact decimal dollars with at least two places: 60000 → "0.06"."""
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    whole, fraction = divmod(micros, MICROS_PER_USD)
    return f"{sign}{whole}.{f'{fraction:06d}'.rstrip('0').ljust(2, '0')}"


def format_time(ms: int | None) -> str | None:
    """A moment, in milliseconds since the Unix epoch, as RFC 3339 has it, in UTC; None stays None."""
    if ms is None:
        return None
    seconds, rest_ms = divmod(ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest_ms:03d}Z"
