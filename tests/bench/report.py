"""Figures: several readings each, told by their median and range, and ratios of readings of one round."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Series:
    """Readings of one thing."""

    name: str
    unit: str
    values: tuple[float, ...]
    digits: int = 0

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        show = f"{{:,.{self.digits}f}}".format
        return f"{show(self.median)} {self.unit} ({show(low)}-{show(high)})".replace(" x ", "x ")


@dataclass(frozen=True, slots=True)
class Aim:
    """What the project promised of a series, judged by its median."""

    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


@dataclass(slots=True)
class Section:
    """One measurement: what was done, under which circumstances, what was read."""

    title: str
    setup: str
    lines: list[tuple[Series, Aim | None]] = field(default_factory=list)

    def add(self, series: Series, aim: Aim | None = None) -> None:
        self.lines.append((series, aim))

    def table(self) -> str:
        """Markdown, so that it can be kept as it is."""
        rows = [
            f"**{self.title}** ({self.setup})",
            "",
            "| figure | median (min-max) | aim |",
            "| --- | --- | --- |",
        ]
        for series, aim in self.lines:
            verdict = "" if aim is None else f"{aim}: {'met' if aim.met(series.median) else '**missed**'}"
            rows.append(f"| {series.name} | {series} | {verdict} |")
        return "\n".join(rows)


def ratio(name: str, above: Sequence[float], below: Sequence[float], digits: int = 2) -> Series:
    """Of readings of the same rounds: what disturbs one of a pair mostly disturbs the other as well."""
    return Series(name, "x", tuple(a / b for a, b in zip(above, below, strict=True)), digits)
