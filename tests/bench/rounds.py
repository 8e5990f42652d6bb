"""A B A B ...: the two are measured in turn, so that what else the machine does falls on both."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import wrk
from tests.bench.machine import cpu_s
from tests.bench.processes import Server
from tests.bench.report import Series


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement is given. ``directory`` is on a disk and thrown away in the end."""

    directory: Path
    memory_directory: Path
    upstream: Server
    rounds: int
    seconds: float
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """One run of a load: answers, and the processor time that the server used for them."""

    answers: wrk.Answers
    cpu_s: float

    @property
    def cpu_us(self) -> float:
        """Of one request, in microseconds."""
        return self.cpu_s / self.answers.requests * 1e6


def read(bench: Bench, url: str, pid: int, load: wrk.Load, *, connections: int) -> Reading:
    before_s = cpu_s(pid)
    answers = wrk.run(bench.directory, url, load, connections=connections, seconds=bench.seconds)
    return Reading(answers, cpu_s(pid) - before_s)


def warm_up(bench: Bench, url: str, load: wrk.Load, *, connections: int) -> None:
    wrk.run(bench.directory, url, load, connections=connections, seconds=1.0)


def alternate(rounds: int, *sides: Callable[[], Reading]) -> list[list[Reading]]:
    """Each side's readings, in order."""
    found: list[list[Reading]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, readings in zip(sides, found, strict=True):
            readings.append(side())
    return found


def rates(name: str, readings: list[Reading]) -> Series:
    return Series(name, "requests/s", tuple(r.answers.per_s for r in readings))


def cpu(name: str, readings: list[Reading]) -> Series:
    return Series(f"{name}, server CPU", "µs/request", tuple(r.cpu_us for r in readings))


def p50(name: str, readings: list[Reading]) -> Series:
    return Series(f"{name}, p50", "ms", tuple(r.answers.p50_s * 1e3 for r in readings), 2)
