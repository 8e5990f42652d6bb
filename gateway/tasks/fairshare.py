"""Whose turn it is: the tenant with fewest running tasks for its weight; of those, the least virtual time.

A tenant's time goes on with each start by the inverse of its weight, and that of one who comes back stands
no earlier than everybody's (start-time fair queueing, Goyal et al. 1996). So shares follow the weights even
where one task runs at a time, nobody who waits is passed over for ever, and nobody saves up turns.
"""

from collections.abc import Iterable

from gateway.db.lines import Candidate


def choose(candidates: Iterable[Candidate]) -> Candidate | None:
    """The line to serve next, None when there is none. Pure; the order of the candidates does not matter."""
    return min(
        candidates,
        key=lambda line: (line.running / line.weight, line.tag, line.since_ms, line.task_id),
        default=None,
    )
