"""What the handlers of the admin API have in common: who acts, parameters, pages of lists."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import FieldError, InvalidRequest
from gateway.model import Act, Place
from gateway.web.admin.schemas import AdminBody, parse_moment
from gateway.web.answers import answer
from gateway.web.bodies import has_body, read_json
from gateway.web.naming import NAME, parse_name
from gateway.web.queries import read_query
from gateway.web.schemas import parse_body

E = TypeVar("E", bound=StrEnum)
N = TypeVar("N", bound=str)
B = TypeVar("B", bound=AdminBody)
T = TypeVar("T")

DEFAULT_LIMIT = 50
MOST = 200
_PAGING = ("limit", "cursor")
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_PLACE = re.compile(r"([0-9]{1,15})\.([0-9A-Za-z_]{1,64})", re.ASCII)
_EXAMPLE = 'a JSON object, like {"name": "…"}'


def act_of(request: Request) -> Act:
    """Under which name, from where and in which request something is done: for the audit log."""
    act: Act = request.scope["act"]
    return act


async def read_body(request: Request, kind: type[B], *, optional: bool = False) -> B:
    """The body of a request that takes no query parameters. Raises `RequestError`."""
    read_query(request)
    nothing_said = optional and not has_body(request)
    return parse_body(kind, {} if nothing_said else await read_json(request, _EXAMPLE))


def request_name(request: Request) -> str | None:
    """The caller's own name for this request. Raises `InvalidRequest`."""
    return parse_name(request.headers.getlist(NAME))


class Parameters:
    """The query of a list: how many, from where on, and filters. Raises `InvalidRequest`."""

    def __init__(self, request: Request, *filters: str) -> None:
        self._values = read_query(request, (*filters, *_PAGING))
        self.limit = self._limit()

    def _limit(self) -> int:
        text = self._values.get("limit", str(DEFAULT_LIMIT))
        if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST:
            raise _invalid("limit", "out_of_range", f"must be 1 to {MOST}.")
        return int(text)

    def number(self) -> int | None:
        """The cursor of a list whose items are numbered."""
        text = self._values.get("cursor")
        if text is not None and not _NUMBER.fullmatch(text):
            raise _no_cursor()
        return None if text is None else int(text)

    def place(self) -> Place | None:
        """The cursor of a list whose items are found by time and id."""
        text = self._values.get("cursor")
        found = _PLACE.fullmatch(text) if text is not None else None
        if text is not None and found is None:
            raise _no_cursor()
        return None if found is None else Place(int(found[1]), found[2])

    def text(self, name: str) -> str | None:
        return self._values.get(name)

    def choice(self, name: str, kind: type[E]) -> E | None:
        return None if (text := self.one_of(name, list(kind))) is None else kind(text)

    def one_of(self, name: str, known: Sequence[N]) -> N | None:
        text = self._values.get(name)
        if text is None:
            return None
        for each in known:
            if text == each:
                return each
        raise _invalid(name, "unknown_value", f"takes {', '.join(known)}.")

    def moment_ms(self, name: str) -> int | None:
        text = self._values.get(name)
        try:
            return None if text is None else parse_moment(text)
        except ValueError as error:
            raise _invalid(name, "wrong_type", f"{error}.") from None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of a list, and the cursor of what follows them, if anything does."""

    items: Sequence[T]
    next_cursor: str | None

    @classmethod
    def of(cls, found: Sequence[T], limit: int, cursor: Callable[[T], str]) -> "Page[T]":
        """From one more than the limit, if there are so many: it tells whether another page follows."""
        items = found[:limit]
        return cls(items, cursor(items[-1]) if len(found) > limit else None)

    def answer(self, render: Callable[[T], Mapping[str, Any]]) -> Response:
        data = [render(item) for item in self.items]
        return answer({"data": data, "next_cursor": self.next_cursor})


def cursor_at(at_ms: int, item_id: str) -> str:
    """The cursor after an item that is found by time and id."""
    return f"{at_ms}.{item_id}"


def _no_cursor() -> InvalidRequest:
    return _invalid("cursor", "invalid", "must be the next_cursor of an answer of this list.")


def _invalid(field: str, code: str, detail: str) -> InvalidRequest:
    return InvalidRequest((FieldError(field, code, detail),))
