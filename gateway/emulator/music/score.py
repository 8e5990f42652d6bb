"""What is written down before anything sounds: notes and drum hits, in beats from the start."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """``at`` and ``length`` in beats (quarter notes); ``force`` from 0 to 1."""

    at: float
    length: float
    pitch: int
    force: float


@dataclass(frozen=True, slots=True)
class Beat:
    """A drum of the kit, struck once."""

    at: float
    drum: str
    force: float


@dataclass(frozen=True, slots=True)
class Score:
    """Notes by role, and the drums."""

    parts: Mapping[str, tuple[Note, ...]]
    drums: tuple[Beat, ...]
