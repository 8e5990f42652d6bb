"""When a task that waits will start, if nothing else comes: the queue's policy, played forward. Pure.

The policy is that of `gateway.tasks.fairshare`: of the lines whose tenant may run one more, the one whose
tenant runs least for its weight; then the least tag; then the one that waited longest. The next
`EXACT_STARTS` starts are played one by one, and are exact as far as the scene is. From there on lines are
streams (`gateway.tasks.flow`): right within an eighth of the position and a round of all lines and seats.

Every task is taken to last as long as recent ones did on average: a wait is the sum of many durations, and
sums go by the mean, however long the longest. What is running has been at it for a while already, and is
given what was left, on average, of those recent ones that took longer than that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from statistics import fmean

from gateway.db.lines import TAG_STEP
from gateway.tasks.flow import Flow, Stream

#: How many starts are played one by one: 4 ms of work at most, for all who ask about one scene.
EXACT_STARTS = 1_000


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a task stands: 1 is next to start. ``starts_in_s`` is None while nothing is known of it."""

    position: int
    starts_in_s: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """What one tenant has waiting in this queue.

    ``most`` is what the tenant may run at once, of all models; 0 for one that may start nothing.
    ``elsewhere`` is how many it runs in other queues, where more of its tasks wait to follow them.
    """

    tenant_id: str
    waiting: int
    next_tag: int
    since_ms: int
    weight: int = 1
    most: int | None = None
    elsewhere: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A task that runs, for ``at_it_s`` now. ``seated`` if it is one of this queue, not one of another."""

    tenant_id: str
    at_it_s: float
    seated: bool = True


@dataclass(frozen=True, slots=True)
class Scene:
    """One queue (a model, a mode) at one moment.

    ``seats`` is how many of its tasks may run at once, None where that is not known; nothing starts within
    ``opens_in_s``. ``durations_s`` are those of tasks that ended lately. At most ``rpm`` start in a minute,
    ``started`` of them in the last one.
    """

    lines: tuple[Line, ...]
    running: tuple[Run, ...] = ()
    seats: int | None = None
    durations_s: tuple[float, ...] = ()
    opens_in_s: float = 0.0
    rpm: int | None = None
    started: int = 0


class _Line:
    """A line on its way through the forecast."""

    __slots__ = ("left", "line", "running", "starts", "step", "stream", "tag", "version")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.left = line.waiting
        self.running = line.elsewhere
        self.tag = line.next_tag
        self.step = TAG_STEP // line.weight
        # Each start: how many came before it, and when it is.
        self.starts: list[tuple[float, float]] = []
        self.stream: Stream | None = None
        self.version = 0


#: Least first, as `gateway.tasks.fairshare.turn` has it; the version tells the offers of one line apart.
_Offer = tuple[float, int, int, str, int, _Line]


class Forecast:
    """The future of one scene, played only as far as somebody asks."""

    def __init__(self, scene: Scene, *, exact: int = EXACT_STARTS) -> None:
        self._scene = scene
        self._exact = exact
        # Without any known duration the order is still known.
        self._known = bool(scene.durations_s and scene.seats)
        self._durations_s = scene.durations_s or (1.0,)
        self._usual_s = fmean(self._durations_s)
        self._seats = scene.seats or 1
        self._lines = {line.tenant_id: _Line(line) for line in scene.lines}
        self._waiting = sum(line.waiting for line in scene.lines)
        self._free = self._seats
        self._now_s = scene.opens_in_s
        self._started = 0
        self._tag = 0
        self._flow: Flow | None = None
        self._numbers = count()
        self._ends: list[tuple[float, int, _Line | None, bool]] = []
        for run in scene.running:
            self._seat(run)
        heapify(self._ends)
        self._offers = [each for line in self._lines.values() if (each := self._offer(line))]
        heapify(self._offers)

    def place(self, tenant_id: str, number: int) -> QueuePlace:
        """The place of the ``number``-th task of a line, from 1.

        What joined a line after the scene was taken follows at the distance of those before it.
        """
        line = self._lines[tenant_id]
        known = min(number, line.line.waiting)
        start = self._start(line, known)
        if start is None:
            return QueuePlace(self._waiting - line.line.waiting + number, None)
        before, at_s = start
        if number > known:
            previous = self._start(line, known - 1) if known > 1 else None
            last, last_s = previous or (-1.0, 0.0)
            before += (number - known) * (before - last)
            at_s += (number - known) * (at_s - last_s)
        position = int(before) + 1
        if not self._known:
            return QueuePlace(position, None)
        return QueuePlace(position, max(at_s, self._paced_s(position)))

    def _paced_s(self, position: int) -> float:
        """The soonest that so many starts fit into the minutes to come."""
        rpm = self._scene.rpm
        return 0.0 if rpm is None else max(0.0, (position - (rpm - self._scene.started)) * 60 / rpm)

    def _start(self, line: _Line, number: int) -> tuple[float, float] | None:
        while len(line.starts) < number and self._started < self._exact and self._start_next():
            pass
        if number <= len(line.starts):
            return line.starts[number - 1]
        if self._flow is None:
            self._flow = self._make_flow()
        found = self._flow.find(line.stream, number - len(line.starts)) if line.stream else None
        return None if found is None else (min(found[0], self._waiting - 1), found[1])

    def _seat(self, run: Run) -> None:
        line = self._lines.get(run.tenant_id)
        if line is not None:
            line.running += 1
        if run.seated:
            self._free -= 1
        ends_at_s = _left_s(self._durations_s, run.at_it_s)
        self._ends.append((ends_at_s, next(self._numbers), line, run.seated))

    def _offer(self, line: _Line) -> _Offer | None:
        """The line as it may be chosen now; what it was offered as before is void."""
        line.version += 1
        asked = line.line
        if not line.left or (asked.most is not None and line.running >= asked.most):
            return None
        return line.running / asked.weight, line.tag, asked.since_ms, asked.tenant_id, line.version, line

    def _offer_again(self, line: _Line) -> None:
        if offer := self._offer(line):
            heappush(self._offers, offer)

    def _start_next(self) -> bool:
        """Start one more task of the queue. False when no line will ever have another."""
        line = None
        while line is None:
            line = self._chosen() if self._free > 0 else None
            if line is None and not self._end_one():
                return False
        line.starts.append((self._started, self._now_s))
        self._started += 1
        self._free -= 1
        self._tag = max(self._tag, line.tag)
        line.tag += line.step
        line.left -= 1
        line.running += 1
        heappush(self._ends, (self._now_s + self._usual_s, next(self._numbers), line, True))
        self._offer_again(line)
        return True

    def _chosen(self) -> _Line | None:
        while self._offers:
            *_, version, line = heappop(self._offers)
            if version == line.version:
                return line
        return None

    def _end_one(self) -> bool:
        if not self._ends:
            return False
        ends_at_s, _, line, seated = heappop(self._ends)
        self._now_s = max(self._now_s, ends_at_s)
        self._free += seated
        if line is not None:
            line.running -= 1
            self._offer_again(line)
        return True

    def _make_flow(self) -> Flow:
        waiting = [line for line in self._lines.values() if line.left]
        tag = max(self._tag, min((line.tag for line in waiting), default=0))
        for line in waiting:
            asked = line.line
            line.stream = Stream(
                weight=asked.weight,
                left=line.left,
                room=None if asked.most is None else asked.most - asked.elsewhere,
                elsewhere=asked.elsewhere,
                ahead=min(1.0, max(0.0, (line.tag - tag) / max(1, line.step))),
            )
        return Flow(
            [line.stream for line in waiting if line.stream],
            seats=self._seats,
            started=self._started,
            at_s=self._now_s,
            usual_s=self._usual_s,
        )


def _left_s(durations_s: Sequence[float], at_it_s: float) -> float:
    """What is left of a task on average. One that outlasts all that are known goes on for as long again."""
    longer = [duration_s - at_it_s for duration_s in durations_s if duration_s > at_it_s]
    return fmean(longer) if longer else at_it_s - max(durations_s)
