"""Money on the command line: exact decimals in, millionths out, never a float."""

import click

from gateway.cli.values import OrNone
from gateway.units import parse_millionths


class Millionths(click.ParamType[int]):
    """A number of at most six places, in millionths: dollars, or a factor."""

    def __init__(self, name: str, *, signed: bool = False) -> None:
        self.name = name
        self._signed = signed

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = parse_millionths(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is not a number like 25 or 0.06, with at most six decimal places.", param, ctx
            )
        if number < 0 and not self._signed:
            self.fail(f"{value!r} is less than nothing.", param, ctx)
        return number


DOLLARS = Millionths("dollars")
SIGNED_DOLLARS = Millionths("dollars", signed=True)
DOLLARS_OR_NONE = OrNone(DOLLARS)
FACTOR = Millionths("factor")
