"""When a delivery is tried again: twelve tries in about a day, quickly at first. Pure."""

from datetime import UTC
from email.utils import parsedate_to_datetime

#: Tries of one delivery. The pauses between them come to 22 hours on average.
MAX_TRIES = 12
_FIRST_PAUSE_S = 5.0
_GROWTH = 2.5
# A quarter either way: messages that failed together do not come back together.
_JITTER = 0.25
# A receiver may ask for more time than the next pause has, but not for so much that a day would not do.
_LONGEST_ASKED_S = 3600.0


def pause_s(tries: int, chance: float, asked_s: float | None = None) -> float | None:
    """Seconds until the next try after so many; None when there is to be none.

    ``chance`` is uniform in [0, 1); ``asked_s`` what the receiver's Retry-After asked for.
    """
    if tries >= MAX_TRIES:
        return None
    pause = _FIRST_PAUSE_S * _GROWTH ** (tries - 1) * (1 - _JITTER + 2 * _JITTER * chance)
    return max(pause, min(asked_s or 0.0, _LONGEST_ASKED_S))


def read_retry_after(value: str | None, now_ms: int) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110 §10.2.3); None when it says nothing usable."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # Nine digits are thirty years: more of them mean no more.
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
        # "-0000" is a time without a zone, and HTTP has only one.
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_ms / 1000)
    except (ValueError, OverflowError):
        return None
