"""Where a queued task stands, for those who ask: one look at the queue for all of them, one probe for each.

Nobody asking, nothing is read.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

from gateway.db import queueview
from gateway.db.batching import BatchReader
from gateway.db.engine import Database
from gateway.db.lines import Lane
from gateway.db.queueview import LinePlace, QueueState, WaitingLine
from gateway.deployments import EMULATOR
from gateway.errors import Unavailable
from gateway.model import Deployment, Task, TaskState
from gateway.ports import Clock
from gateway.tasks.closing import lane_of
from gateway.tasks.forecast import Forecast, Line, QueuePlace, Run, Scene

#: What was told of a place may be told again for so long.
GOOD_FOR_S = 1.0
# A look is good for a moment; longer the more waits, for then waits are long and looks cost more; and for so
# many times what it took, so that a tenth of the time is enough for looking.
_LOOK_S = 0.1
_LOOK_S_EACH = 0.001
_LOOK_TIMES = 10
_LOOK_LONGEST_S = 5.0
# A line that has grown less than that since the look is taken to go on as it was.
_GROWN = 2


class QueueView:
    """Places of queued tasks. ``slots`` is how many tasks this process runs at once, 0 if it runs none."""

    def __init__(
        self, database: Database, clock: Clock, deployments: tuple[Deployment, ...], *, slots: int
    ) -> None:
        self._database = database
        self._clock = clock
        self._supply = Supply(deployments, slots)
        self._places = BatchReader(database, queueview.find_places)
        self._seqs = BatchReader(database, queueview.find_seqs)
        self._look: _Look | None = None
        self._good_until_s = 0.0
        self._looking: asyncio.Task[_Look] | None = None

    async def place(self, task: Task) -> QueuePlace | None:
        """How many starts away it is, and how long that takes, if nothing else comes. None unless queued.

        None also while the database cannot be read: an answer without a place is better than none.
        """
        if task.state is not TaskState.QUEUED:
            return None
        try:
            look = await self._last_look()
            found = await self._find(task, look)
        except Unavailable:
            return None
        return None if found is None else look.place(found)

    async def _find(self, task: Task, look: "_Look") -> LinePlace | None:
        """A task's place in its line, if it is still there."""
        line = look.line_of(task)
        if line is None or task.created_at_ms < look.at_ms:
            return await self._places.get(task.id)
        # It came after the look: nobody need count what waited before, which a long queue makes slow.
        seq = await self._seqs.get(task.id)
        if seq is None:
            return None
        if seq <= line.last_seq:
            return await self._places.get(task.id)
        return LinePlace(line.waiting + seq - line.last_seq, replace(line, last_seq=seq))

    async def _last_look(self) -> "_Look":
        if self._look is not None and self._clock.monotonic_s() < self._good_until_s:
            return self._look
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._take_look())
            # If all who waited have gone, nobody else will hear of it.
            self._looking.add_done_callback(lambda looking: looking.cancelled() or looking.exception())
        return await asyncio.shield(self._looking)

    async def _take_look(self) -> "_Look":
        began_s = self._clock.monotonic_s()
        read = partial(
            queueview.read_queue,
            names=[*self._supply.names, EMULATOR],
            paced=self._supply.paced,
            now_ms=self._clock.now_ms(),
        )
        state = await self._database.read_long(read)
        now_s = self._clock.monotonic_s()
        self._good_until_s = now_s + _good_for_s(state, now_s - began_s)
        self._look = _Look(state, self._supply)
        return self._look


def _good_for_s(state: QueueState, took_s: float) -> float:
    waiting = sum(line.waiting for line in state.lines)
    if not waiting:
        # Somebody asks, so that is not so any more.
        return _LOOK_S
    by_what_waits_s = min(GOOD_FOR_S, waiting * _LOOK_S_EACH)
    return max(_LOOK_S, by_what_waits_s, min(_LOOK_LONGEST_S, took_s * _LOOK_TIMES))


@dataclass(frozen=True, slots=True)
class Supply:
    """What there is to serve the lanes: deployments, and the slots of this process."""

    deployments: tuple[Deployment, ...]
    slots: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.deployments)

    @property
    def paced(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.deployments if each.rpm is not None)

    def of(self, lane: Lane) -> tuple[Deployment, ...]:
        """None for test keys: the emulator takes what comes."""
        if lane.test:
            return ()
        return tuple(each for each in self.deployments if each.kind == lane.model)


class _Look:
    """What was seen, and what is foretold from it for each lane that somebody asked about."""

    def __init__(self, state: QueueState, supply: Supply) -> None:
        self._state = state
        self._supply = supply
        self._lines = {(line.lane, line.tenant_id): line for line in state.lines}
        self._forecasts: dict[Lane, Forecast] = {}

    @property
    def at_ms(self) -> int:
        return self._state.at_ms

    def line_of(self, task: Task) -> WaitingLine | None:
        return self._lines.get((lane_of(task), task.tenant_id))

    def place(self, found: LinePlace) -> QueuePlace:
        line = found.line
        key = (line.lane, line.tenant_id)
        seen = self._lines.get(key)
        if seen is None:
            self._follow(key, line)
        elif found.number > _GROWN * seen.waiting:
            self._follow(key, replace(seen, waiting=found.number, last_seq=line.last_seq))
        forecast = self._forecasts.get(line.lane)
        if forecast is None:
            state = replace(self._state, lines=tuple(self._lines.values()))
            forecast = self._forecasts[line.lane] = Forecast(make_scene(state, line.lane, self._supply))
        return forecast.place(line.tenant_id, found.number)

    def _follow(self, key: tuple[Lane, str], line: WaitingLine) -> None:
        """So much has come since the look that it is another queue."""
        self._lines[key] = line
        self._forecasts.pop(line.lane, None)


def make_scene(state: QueueState, lane: Lane, supply: Supply) -> Scene:
    """The part of what was seen that decides over one lane. Pure."""
    here = [line for line in state.lines if line.lane == lane]
    # What these run elsewhere is followed by more of theirs; what others run there ends, and that is that.
    lasting = {line.tenant_id for line in state.lines if line.lane != lane}
    elsewhere = Counter(run.tenant_id for run in state.running if run.lane != lane)
    tenants = {line.tenant_id for line in here}
    running = tuple(
        Run(run.tenant_id, run.at_it_ms / 1000, seated=run.lane == lane)
        for run in state.running
        if run.lane == lane or (run.tenant_id in tenants and run.tenant_id not in lasting)
    )
    deployments = supply.of(lane)
    uses = [state.uses[each.name] for each in deployments]
    opens_at_ms = min((use.opens_at_ms for use in uses), default=0)
    return Scene(
        lines=tuple(
            Line(
                tenant_id=line.tenant_id,
                waiting=line.waiting,
                next_tag=line.next_tag,
                since_ms=line.since_ms,
                weight=line.weight,
                most=line.max_concurrent if line.active else 0,
                elsewhere=elsewhere[line.tenant_id] if line.tenant_id in lasting else 0,
            )
            for line in here
        ),
        running=running,
        seats=_seats(state, lane, supply),
        durations_s=tuple(took_ms / 1000 for took_ms in state.took_ms.get(lane, ())),
        opens_in_s=max(0.0, (opens_at_ms - state.at_ms) / 1000),
        rpm=_sum([each.rpm for each in deployments]),
        started=sum(use.called for use in uses),
    )


def _seats(state: QueueState, lane: Lane, supply: Supply) -> int | None:
    """How many tasks of a lane run at once: those that do, and more if this process has slots to spare.

    What other processes have to spare is not known; while anything waits it is little.
    """
    busy = sum(run.lane == lane for run in state.running)
    seats = max(busy, supply.slots - (len(state.running) - busy))
    most = _sum([each.concurrency for each in supply.of(lane)])
    return (seats if most is None else min(seats, max(1, most))) or None


def _sum(limits: list[int | None]) -> int | None:
    """What deployments may do together; None for any number, if one of them may."""
    known = [limit for limit in limits if limit is not None]
    return sum(known) if limits and len(known) == len(limits) else None
