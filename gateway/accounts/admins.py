"""Admin tokens: who opens the admin API. They are nobody's API keys, and no API key is one of them."""

import hashlib
import hmac
from collections.abc import Iterable

_NAME_DIGITS = 8


class AdminTokens:
    """Knows tokens by their SHA-256 alone. They are long and random, so nothing slower is needed."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = tuple(hashlib.sha256(token.encode()).digest() for token in tokens)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._digests)

    def actor(self, presented: str) -> str | None:
        """Who presents this, by a name for the audit log: the beginning of its token's hash. None: nobody.

        Takes the same time whichever token it is, and whether it is one.
        """
        digest = hashlib.sha256(presented.encode()).digest()
        matches = False
        for known in self._digests:
            matches |= hmac.compare_digest(digest, known)
        return f"admin:{digest.hex()[:_NAME_DIGITS]}" if matches else None
