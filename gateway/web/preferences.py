"""The Prefer header (RFC 7240): ``respond-async`` and ``wait=n``."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Preference:
    """What the caller would like. ``wait_s`` None means that nothing was said of it."""

    respond_async: bool
    wait_s: int | None

    def applied(self) -> str:
        """The Preference-Applied header; empty when nothing was asked."""
        parts = ["respond-async"] if self.respond_async else []
        if self.wait_s is not None:
            parts.append(f"wait={self.wait_s}")
        return ", ".join(parts)

    def seconds(self, default_s: float, limit_s: float) -> float:
        """How long to wait for the end of a task."""
        if self.wait_s is not None:
            return min(self.wait_s, limit_s)
        return 0.0 if self.respond_async else default_s


def parse_prefer(values: Iterable[str]) -> Preference:
    """What is not understood is ignored, as the RFC asks; of two equal preferences the first counts."""
    respond_async, wait_s = False, None
    for preference in ",".join(values).split(","):
        token = preference.partition(";")[0].strip()
        match = _WAIT.fullmatch(token)
        if match and wait_s is None:
            wait_s = int(match[1])
        respond_async = respond_async or token.lower() == "respond-async"
    return Preference(respond_async, wait_s)
