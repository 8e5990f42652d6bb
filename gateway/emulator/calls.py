"""What was asked of the emulator, and what would have been paid for."""

from collections import Counter, deque
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

REMEMBERED_CALLS = 1000


class Outcome(StrEnum):
    RUNNING = "running"
    ANSWERED = "answered"
    INVALID = "invalid"  # the front end refused the request
    BLOCKED = "blocked"  # the model refused: recitation, safety, language
    FAILED = "failed"  # a scripted error status
    CUT = "cut"  # the connection was cut on purpose
    ABANDONED = "abandoned"  # the client left before the answer was whole


@dataclass(slots=True)
class Call:
    """One predict call. Prompts are kept as SHA-256 (hex): enough to tell calls apart, nothing to leak.

    ``paid`` is true from the moment a model begins to compose, whether or not the answer arrives.
    ``http_status`` is None until an answer begins. ``store`` and ``api_revision`` are an interaction's;
    ``put_aside`` counts clips that went into Cloud Storage.
    """

    number: int
    model: str
    path: str
    authorized: bool
    prompt_sha256: str | None = None
    negative_prompt_sha256: str | None = None
    seed: int | None = None
    sample_count: int | None = None
    duration_s: int | None = None
    http_status: int | None = None
    outcome: Outcome = Outcome.RUNNING
    paid: bool = False
    clips: int = 0
    store: bool | None = None
    api_revision: str | None = None
    put_aside: int = 0


class CallLog:
    """Counts every call for ever, and remembers the last thousand."""

    def __init__(self) -> None:
        self._started = 0
        self._forgotten = 0
        self._running = 0
        self._peak_running = 0
        self._totals: Counter[str] = Counter()
        self._by_model: dict[str, Counter[str]] = {}
        self._recent: deque[Call] = deque(maxlen=REMEMBERED_CALLS)

    def begin(self, model: str, path: str, *, authorized: bool) -> Call:
        self._started += 1
        self._running += 1
        self._peak_running = max(self._peak_running, self._running)
        call = Call(self._started, model, path, authorized)
        self._recent.append(call)
        self._count(call, "received")
        return call

    def pay(self, call: Call, clips: int) -> None:
        """The model begins: from here on the call costs money."""
        call.paid = True
        call.clips = clips
        self._count(call, "paid")
        self._count(call, "clips", clips)

    def end(self, call: Call, outcome: Outcome) -> None:
        call.outcome = outcome
        self._running -= 1
        self._count(call, outcome.value)

    def clear(self) -> None:
        """Forget every call so far; those that are still running will not be counted when they end."""
        self._forgotten = self._started
        self._totals.clear()
        self._by_model.clear()
        self._recent.clear()
        self._peak_running = self._running

    def report(self) -> dict[str, Any]:
        names = ("received", "paid", "clips", *(o.value for o in Outcome if o is not Outcome.RUNNING))
        return {
            **{name: self._totals[name] for name in names},
            "running": self._running,
            "peak_running": self._peak_running,
            "by_model": {
                model: {name: counts[name] for name in names} for model, counts in self._by_model.items()
            },
            "calls": [asdict(call) for call in self._recent],
        }

    def _count(self, call: Call, name: str, amount: int = 1) -> None:
        if call.number <= self._forgotten:
            return
        self._totals[name] += amount
        self._by_model.setdefault(call.model, Counter())[name] += amount
