"""Whose turn it is: the tenant with fewest running tasks for its weight; of those, the least virtual time.

A tenant's time goes on with each start by the inverse of its weight, and that of one who comes back stands
no earlier than everybody's (start-time fair queueing, Goyal et al. 1996). So shares follow the weights even
where one task runs at a time, nobody who waits is passed over for ever, and nobody saves up turns.
"""

import heapq
from collections.abc import Iterable, Iterator

from gateway.db.lines import Line


def turn(line: Line) -> tuple[float, int, int, str, str, bool]:
    """By what lines are served: the least first. Pure."""
    lane = line.lane
    return line.running / line.weight, line.tag, line.since_ms, line.tenant_id, lane.model, lane.test


def in_turn(*lanes: Iterable[Line]) -> Iterator[Line]:
    """All lines, whose turn comes first. Each lane gives those whose tenants run nothing in their order.

    Of those no more are taken than are needed.
    """
    return heapq.merge(*map(_sorted_lane, lanes), key=turn)


def _sorted_lane(lines: Iterable[Line]) -> Iterator[Line]:
    """A tenant that runs something comes after all that run nothing, so only those are to be sorted."""
    busy = []
    for line in lines:
        if line.running:
            busy.append(line)
        else:
            yield line
    yield from sorted(busy, key=turn)
