"""What is asked in which order, without input or output: two drivers run it, one with await and one without.

A flow is a generator. It yields a `Call` and is sent an `Answer`, or yields a `Pause` and is sent nothing.
"""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway.client.model import ApiError, Document, Event, Patience, Task, task_from

T = TypeVar("T")

_AGAIN = frozenset({0, 429, 502, 503, 504})
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 20.0
_ERRORS = 400


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``body`` is JSON."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``status`` 0 where nothing did."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Step = Call | Pause
Flow = Generator[Step, Any, T]


def asking(call: Call, patience: Patience, jitter: Callable[[], float]) -> Flow[Document]:
    """The document of an answer that went well. Repeats while the gateway is busy or away, as it asks for.

    Only for what may be repeated. Raises `ApiError`.
    """
    paused_s, pause_s = 0.0, _FIRST_PAUSE_S
    while True:
        answer: Answer = yield call
        if 0 < answer.status < _ERRORS:
            return _document(answer.content)
        asked_s = _number(answer.headers.get("retry-after"))
        wanted_s = pause_s * (0.5 + jitter()) if asked_s is None else asked_s
        if answer.status not in _AGAIN or paused_s + wanted_s > patience.pauses_s:
            raise ApiError(answer.status, _document(answer.content), asked_s)
        yield Pause(wanted_s)
        paused_s += wanted_s
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


def generating(
    body: Document, name: str, patience: Patience, jitter: Callable[[], float], *, wait: bool
) -> Flow[Task]:
    """A new task, at its end with ``wait``. Named, so that a repeat after a lost answer is not paid for."""
    prefer = f"wait={patience.wait_s}" if wait else "respond-async"
    headers = {"Prefer": prefer, "Idempotency-Key": name}
    document = yield from asking(Call("POST", "/api/music_generate", headers, body), patience, jitter)
    task = task_from(document)
    return (yield from waiting(task, patience, jitter)) if wait else task


def waiting(task: Task, patience: Patience, jitter: Callable[[], float]) -> Flow[Task]:
    """The task at its end."""
    headers = {"Prefer": f"wait={patience.wait_s}"}
    while not task.finished:
        call = Call("GET", f"/api/task-status/{task.id}", headers)
        task = task_from((yield from asking(call, patience, jitter)))
    return task


class EventParser:
    """Server-sent events, line by line (WHATWG HTML §9.2.6). One stream is one parser.

    A stream that breaks within an event has not told it: ``last_id`` is that of the last whole one, from
    which the next stream goes on.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._id = last_id
        self._name = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """The event that this line completes, if it does."""
        if not line:
            name, data = self._name or "message", "\n".join(self._data)
            self._name, self._data = "", []
            self.last_id = self._id
            return Event(name, _document(data.encode()), self.last_id) if data else None
        field_name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field_name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id":
                self._id = value
        return None


def _document(content: bytes) -> Document:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None
