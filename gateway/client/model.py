"""What the gateway says, as data. Fields that are not known here are passed over: it may be newer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Clip:
    """A piece of audio. ``url`` is a link that is good for hours."""

    url: str
    mime_type: str
    seconds: float
    size_bytes: int
    sha256: str
    seed: int | None


@dataclass(frozen=True, slots=True)
class Task:
    """A request and what became of it. ``document`` is all that was said of it."""

    id: str
    status: str
    model: str
    clips: tuple[Clip, ...]
    price_micros: int
    charged_micros: int | None
    error_code: str | None
    error_detail: str | None
    finished: bool
    document: Document = field(repr=False)

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a task: its name, its data, and its number, by which a stream resumes."""

    name: str
    data: Document
    id: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to put up with a gateway that is busy or away: seconds of pauses in all, before one gives up.

    One request is waited for ``timeout_s``, of which the gateway holds a wait for ``wait_s``.
    """

    pauses_s: float = 120.0
    timeout_s: float = 90.0
    wait_s: int = 60


class ApiError(Exception):
    """A request that was refused, or could not be made (then ``status`` is 0). RFC 9457's members."""

    def __init__(self, status: int, document: Document, retry_after_s: float | None = None) -> None:
        self.status = status
        self.code = str(document.get("code", "unreachable" if not status else "unknown"))
        self.detail = str(document.get("detail", ""))
        self.request_id = str(document.get("request_id", ""))
        self.fields = tuple(document.get("errors", ()))
        self.retry_after_s = retry_after_s
        super().__init__(f"{self.code}: {self.detail}" if self.detail else self.code)


def task_from(document: Document) -> Task:
    error = document.get("error") or {}
    price = document.get("price") or {}
    return Task(
        id=str(document["task_id"]),
        status=str(document["status"]),
        model=str(document.get("model", "")),
        clips=tuple(map(_clip, document.get("outputs", ()))),
        price_micros=int(price.get("micros", 0)),
        charged_micros=price.get("charged_micros"),
        error_code=error.get("code"),
        error_detail=error.get("detail"),
        finished=document.get("finished_at") is not None,
        document=document,
    )


def _clip(output: Document) -> Clip:
    return Clip(
        url=str(output["url"]),
        mime_type=str(output.get("mime_type", "")),
        seconds=float(output.get("seconds", 0)),
        size_bytes=int(output.get("bytes", 0)),
        sha256=str(output.get("sha256", "")),
        seed=output.get("seed"),
    )
