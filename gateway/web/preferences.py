"""The Prefer header (RFC 7240): ``respond-async`` and ``wait=n``."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.IGNORECASE | re.ASCII)
# A comma inside quotes belongs to somebody else's preference.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class Preference:
    """What the caller would like. ``wait_s`` None means that nothing was said of it."""

    respond_async: bool
    wait_s: int | None

    def seconds(self, default_s: float, limit_s: float) -> float:
        """How long to wait for the end of a task."""
        if self.wait_s is not None:
            return min(self.wait_s, limit_s)
        return 0.0 if self.respond_async else default_s

    def applied(self, limit_s: float, *, answered_async: bool) -> str:
        """The Preference-Applied header: what was really done; empty when nothing was asked."""
        parts = ["respond-async"] if self.respond_async and answered_async else []
        if self.wait_s is not None:
            parts.append(f"wait={int(min(self.wait_s, limit_s))}")
        return ", ".join(parts)


NO_PREFERENCE = Preference(respond_async=False, wait_s=None)


def parse_prefer(values: Iterable[str]) -> Preference:
    """What is not understood is ignored, as the RFC asks; of two equal preferences the first counts."""
    respond_async, wait_s = False, None
    for preference in _unquoted(",".join(values)).split(","):
        token = preference.partition(";")[0].strip()
        match = _WAIT.fullmatch(token)
        if match and wait_s is None:
            wait_s = int(match[1])
        respond_async = respond_async or token.lower() == "respond-async"
    return Preference(respond_async, wait_s)


def _unquoted(text: str) -> str:
    """The text with the separators inside quoted strings blanked."""
    if '"' not in text:
        return text
    return _QUOTED.sub(lambda quoted: re.sub("[,;]", " ", quoted[0]), text)
