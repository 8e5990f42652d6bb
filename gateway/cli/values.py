"""Values on the command line: durations, moments, and the word none."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import click
from click.shell_completion import CompletionItem

T = TypeVar("T")

_NONE = "none"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,10})([smhd])")
# A moment that far away can still be written with four digits for the year.
_LONGEST_S = 36_500 * 86_400


@dataclass(frozen=True, slots=True)
class Said(Generic[T]):
    """What was said for an option, told from saying nothing. None lifts a limit or a restriction."""

    value: T | None


class OrNone(click.ParamType[Said[T]]):
    """A value of another type, or the word none."""

    def __init__(self, inner: click.ParamType[T]) -> None:
        self.name = f"{inner.name}|{_NONE}"
        self._inner = inner

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Said[T]:
        return Said(None if value == _NONE else self._inner.convert(value, param, ctx))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        none = [CompletionItem(_NONE)] if _NONE.startswith(incomplete) else []
        return [*self._inner.shell_complete(ctx, param, incomplete), *none]


class Duration(click.ParamType[int]):
    """A whole number of seconds, minutes, hours or days, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _DURATION.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is not a duration like 90s, 15m, 12h or 30d.", param, ctx)
        seconds = int(found[1]) * _UNITS_S[found[2]]
        if seconds > _LONGEST_S:
            self.fail(f"{value!r} is longer than {_LONGEST_S // _UNITS_S['d']}d.", param, ctx)
        return seconds


class Moment(click.ParamType[int]):
    """A time with its offset (RFC 3339), in milliseconds since the Unix epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            moment = datetime.fromisoformat(value)
            at_ms = round(moment.astimezone(UTC).timestamp() * 1000)
        except (ValueError, OverflowError):
            moment, at_ms = None, 0
        # Without an offset it would mean another moment on another machine.
        if moment is None or moment.tzinfo is None:
            self.fail(
                f"{value!r} is not a time like 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00.", param, ctx
            )
        return at_ms


DURATION = Duration()
MOMENT = Moment()
