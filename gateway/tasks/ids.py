"""Identifiers: a prefix, and 26 characters that begin with the time, so that they sort by age.

48 bits of milliseconds and 80 bits of chance, in Crockford's base32 (the layout of a ULID, in lower case).
"""

from collections.abc import Callable

from gateway.ports import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BYTES = 10
_LENGTH = 26


class IdMaker:
    """Makes ids from a clock and a source of random bytes."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_bytes = random_bytes

    def __call__(self, prefix: str) -> str:
        return f"{prefix}_{self.bare()}"

    def bare(self) -> str:
        value = (self._clock.now_ms() << 80) | int.from_bytes(self._random_bytes(_RANDOM_BYTES))
        return "".join(_ALPHABET[(value >> shift) & 31] for shift in range((_LENGTH - 1) * 5, -1, -5))
