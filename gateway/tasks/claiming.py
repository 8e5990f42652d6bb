"""Taking tasks from the queue, each with the first call that it owes: what happens inside one transaction."""

from collections.abc import Callable

from gateway.db import lines, work
from gateway.db.engine import Tx
from gateway.db.lines import Lane
from gateway.db.locks import lock_claims
from gateway.db.work import Lease
from gateway.model import Task
from gateway.ports import Clock
from gateway.tasks.closing import lane_of
from gateway.tasks.fairshare import in_turn
from gateway.tasks.pipeline import Begun
from gateway.tasks.pool import Pool, Room

#: A lease, and the first call it owes where one is recorded already.
Claimed = tuple[Lease, Begun | None]

#: Records the first call of a lease in the transaction that gives it: `gateway.tasks.pipeline.Pipeline.open`.
OpenCall = Callable[[Tx, Lease, Room | None], Begun | None]


class Claimer:
    """Chooses among all that waits, or takes one task by name; never more than limits allow."""

    def __init__(
        self, pool: Pool, open_call: OpenCall, clock: Clock, new_token: Callable[[], str], lease_s: float
    ) -> None:
        self._pool = pool
        self._open_call = open_call
        self._clock = clock
        self._new_token = new_token
        self._lease_s = lease_s

    def take_next(self, tx: Tx, at_most: int) -> tuple[list[Claimed], bool]:
        """So many of those whose turn it is, and whether nothing is left waiting."""
        claimed: list[Claimed] = []
        lock_claims(tx)
        while len(claimed) < at_most:
            lanes = lines.list_lanes(tx)
            one = self._take_overdue(tx) or self._take_chosen(tx, lanes)
            if one is None:
                return claimed, not lanes
            claimed.append(one)
        return claimed, False

    def take_this(self, tx: Tx, task: Task) -> Claimed | None:
        """A task that nothing waits before, if its tenant may run one more and its model has room."""
        lock_claims(tx)
        room = self._pool.find_room(tx, lane_of(task), now_ms=self._clock.now_ms())
        return None if room is None else self._take(tx, task.id, room, within_limit=True)

    def _take_overdue(self, tx: Tx) -> Claimed | None:
        """One whose time ran out between two runs: it makes no call, so it needs no room."""
        task_id = lines.find_overdue(tx, now_ms=self._clock.now_ms())
        return None if task_id is None else self._take(tx, task_id, None)

    def _take_chosen(self, tx: Tx, lanes: tuple[Lane, ...]) -> Claimed | None:
        now_ms = self._clock.now_ms()
        found = {lane: self._pool.find_room(tx, lane, now_ms=now_ms) for lane in lanes}
        rooms = {lane: room for lane, room in found.items() if room is not None}
        for line in in_turn(*(lines.lines_of(tx, lane) for lane in rooms)):
            task_id = lines.find_first(tx, line, now_ms=now_ms)
            if task_id is not None:
                return self._take(tx, task_id, rooms[line.lane])
        return None

    def _take(self, tx: Tx, task_id: str, room: Room | None, *, within_limit: bool = False) -> Claimed | None:
        now_ms = self._clock.now_ms()
        lease = work.claim(
            tx,
            task_id,
            token=self._new_token(),
            now_ms=now_ms,
            expires_at_ms=now_ms + round(self._lease_s * 1000),
            within_limit=within_limit,
        )
        return None if lease is None else (lease, self._open_call(tx, lease, room))
