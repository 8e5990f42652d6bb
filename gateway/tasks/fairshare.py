"""Whose turn it is: the tenant with fewest running tasks for its weight; then the longest without one.

Without the second rule a gateway that runs one task at a time would serve whoever sent most.
"""

from collections.abc import Iterable, Mapping

from gateway.db.work import Queue


def choose(queues: Iterable[Queue], turns: Mapping[str, int]) -> Queue | None:
    """The queue to serve next, or None when none may be. Pure.

    ``turns`` numbers each tenant's last turn here. Who had none yet goes before the others, and among those
    the one with the oldest task.
    """
    ready = [q for q in queues if q.task_id is not None and _has_room(q)]
    # Cross-multiplying would spare the division; at these sizes a fraction reads better and is exact enough.
    return min(
        ready, key=lambda q: (q.running / q.weight, turns.get(q.tenant_id, 0), q.task_id), default=None
    )


def _has_room(queue: Queue) -> bool:
    return queue.max_concurrent is None or queue.running < queue.max_concurrent
