"""How a queue goes on, as far as nobody plays it task by task: lines as streams, at the rates of their seats.

Seats are what may run at once. The policy (least running for its weight first) gives each line a whole number
of them; where several lines are equal and too few seats are left, their tags, which advance by weight, make
them take turns. While the same lines wait those shares stay what they are, so any later start is one division
away. Lines of one weight and one limit fare alike, and are reckoned together. Pure.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

# Shares are worked out anew when so small a part of the lines has ended.
_PART = 16


@dataclass(frozen=True, slots=True)
class Stream:
    """What a line has ``left`` of its tasks.

    ``room`` is how many it may run here at once, None for any number; ``elsewhere`` how many its tenant runs
    of other models. ``ahead`` is how far its tag is ahead of the queue's, in starts of its own.
    """

    weight: int
    left: int
    room: int | None
    elsewhere: int
    ahead: float


@dataclass(frozen=True, slots=True)
class _Stretch:
    """From a line's start number ``done`` on: its place in the whole queue, and how far on the next are."""

    done: float
    position: float
    at_s: float
    step: float
    step_s: float


class _Kind:
    """The lines of one weight and one limit. ``done`` is what each of them has started so far."""

    def __init__(self, weight: int, room: int | None, elsewhere: int, lefts: Iterable[int]) -> None:
        self.weight = weight
        self.room = room
        self.elsewhere = elsewhere
        self.lefts = sorted(lefts)
        self.ended = 0
        self.done = 0.0
        self.stretches: list[_Stretch] = []

    @property
    def lines(self) -> int:
        return len(self.lefts) - self.ended

    def level(self, seats: float) -> float:
        return (self.elsewhere + seats) / self.weight

    def has_room(self, seats: float) -> bool:
        return self.room is None or seats < self.room

    def lasts(self, share: float, lines: int) -> float:
        """For how long ``share`` goes on until a part of ``lines``, or one at least, has nothing left."""
        ending = max(1, min(self.lines, lines) // _PART)
        return (self.lefts[self.ended + ending - 1] - self.done) / share

    def advance(self, number: float) -> float:
        """Start so many tasks of each line, or what it has; how many those were."""
        before, self.done = self.done, self.done + number
        started = 0.0
        while self.lines and self.lefts[self.ended] <= self.done:
            started += self.lefts[self.ended] - before
            self.ended += 1
        return started + self.lines * number


class Flow:
    """The rest of a queue, from ``at_s`` on, when ``started`` of its tasks have been started."""

    def __init__(
        self, streams: Iterable[Stream], *, seats: int, started: int, at_s: float, usual_s: float
    ) -> None:
        lefts: dict[tuple[int, int | None, int], list[int]] = defaultdict(list)
        for stream in streams:
            lefts[stream.weight, stream.room, stream.elsewhere].append(stream.left)
        self._kinds = {key: _Kind(*key, found) for key, found in lefts.items()}
        self._seats = seats
        self._position = float(started)
        self._at_s = at_s
        self._usual_s = usual_s
        while self._stretch():
            pass

    def _stretch(self) -> bool:
        """Go on until some lines have ended. False when none is left that will ever be served."""
        waiting = [kind for kind in self._kinds.values() if kind.lines]
        shares = _share_out(waiting, self._seats)
        served = [(kind, share) for kind, share in zip(waiting, shares, strict=True) if share]
        if not served:
            return False
        lines = sum(kind.lines for kind, _ in served)
        busy = sum(kind.lines * share for kind, share in served)
        # With a line for each seat shares are of another kind: that moment is not to be passed over.
        beyond = lines - self._seats if lines > self._seats else lines
        # In durations of a task.
        turns = min(kind.lasts(share, beyond) for kind, share in served)
        begun = [(kind, kind.done, turns * share) for kind, share in served]
        passed = sum(kind.advance(due) for kind, _, due in begun)
        # Others take the seats of a line that has ended: so the time is that of all starts, not ``turns``.
        passed_s = passed / busy * self._usual_s
        for kind, done, due in begun:
            kind.stretches.append(_Stretch(done, self._position, self._at_s, passed / due, passed_s / due))
        self._position += passed
        self._at_s += passed_s
        return True

    def find(self, stream: Stream, number: int) -> tuple[float, float] | None:
        """How many tasks start before the stream's ``number``-th, from 1, and when; None if it never does."""
        stretches = self._kinds[stream.weight, stream.room, stream.elsewhere].stretches
        if not stretches:
            return None
        done = number - 1 + stream.ahead
        stretch = stretches[max(0, bisect_right(stretches, done, key=lambda each: each.done) - 1)]
        beyond = done - stretch.done
        return stretch.position + beyond * stretch.step, stretch.at_s + beyond * stretch.step_s


def _share_out(kinds: Sequence[_Kind], seats: int) -> list[float]:
    """The seats that a line of each kind has in the long run."""
    shares = [0.0] * len(kinds)
    levels = [(kind.level(0), i) for i, kind in enumerate(kinds) if kind.has_room(0)]
    heapify(levels)
    while levels:
        level, equal = levels[0][0], []
        while levels and levels[0][0] == level:
            equal.append(heappop(levels)[1])
        lines = sum(kinds[i].lines for i in equal)
        if lines > seats:
            _take_turns(kinds, equal, shares, seats)
            break
        seats -= lines
        for i in equal:
            shares[i] += 1
            if kinds[i].has_room(shares[i]):
                heappush(levels, (kinds[i].level(shares[i]), i))
    return shares


def _take_turns(kinds: Sequence[_Kind], equal: list[int], shares: list[float], seats: float) -> None:
    """Share seats that are too few for all by weight, at most one for each line."""
    equal.sort(key=lambda i: -kinds[i].weight)
    weights = sum(kinds[i].weight * kinds[i].lines for i in equal)
    for i in equal:
        kind = kinds[i]
        share = min(1.0, seats * kind.weight / weights)
        shares[i] += share
        seats -= share * kind.lines
        weights -= kind.weight * kind.lines
