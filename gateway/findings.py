"""What `gateway check` finds: one thing that was tried, how it went, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    OK = "ok"
    WARNING = "warning"  # the gateway works, and somebody should look at it
    FAILED = "failed"  # something of the gateway will not work


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` is what it is about, ``found`` what came of what was ``tried``; ok needs no ``advice``."""

    check: str
    outcome: Outcome
    tried: str
    found: str
    advice: str = ""
