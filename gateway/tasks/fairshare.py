"""Whose turn it is: the tenant with fewest running tasks for its weight; of equals, the longest waiting."""

from collections.abc import Iterable

from gateway.db.work import Queue


def choose(queues: Iterable[Queue]) -> Queue | None:
    """The queue to serve next, or None when none may be. Pure."""
    ready = [q for q in queues if q.task_id is not None and _has_room(q)]
    # Cross-multiplying would spare the division; at these sizes a fraction reads better and is exact enough
    # to order by, and the task id (which begins with its time) breaks ties the same way on every worker.
    return min(ready, key=lambda q: (q.running / q.weight, q.task_id), default=None)


def _has_room(queue: Queue) -> bool:
    return queue.max_concurrent is None or queue.running < queue.max_concurrent
