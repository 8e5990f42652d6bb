"""Whose turn it is at the workers."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.db.work import Queue
from gateway.tasks.fairshare import choose


def a_queue(tenant_id: str, **changes) -> Queue:
    values = {"weight": 1, "max_concurrent": None, "running": 0, "task_id": f"task_{tenant_id}"}
    return Queue(tenant_id, **(values | changes))


def serve(queues: list[Queue], slots: int) -> Counter[str]:
    """Fill this many slots one after another, all tenants having enough waiting."""
    served: Counter[str] = Counter()
    waiting = {queue.tenant_id: queue for queue in queues}
    for _ in range(slots):
        chosen = choose(waiting.values(), {})
        if chosen is None:
            break
        served[chosen.tenant_id] += 1
        waiting[chosen.tenant_id] = replace(chosen, running=chosen.running + 1)
    return served


def test_nobody_waiting_is_nobody_chosen() -> None:
    assert choose([], {}) is None


def test_fewest_running_goes_first() -> None:
    assert (
        choose([a_queue("a", running=3), a_queue("b", running=1), a_queue("c", running=2)], {}).tenant_id
        == "b"
    )


def test_of_equals_the_longest_waiting_goes_first() -> None:
    assert choose([a_queue("a", task_id="task_2"), a_queue("b", task_id="task_1")], {}).tenant_id == "b"


def test_of_equals_the_one_served_longest_ago_goes_first() -> None:
    queues = [a_queue("a"), a_queue("b"), a_queue("c")]
    assert choose(queues, {"a": 3, "b": 1, "c": 2}) == queues[1]
    assert choose(queues, {"a": 3, "b": 1}) == queues[2]
    assert choose([a_queue("a", running=1), queues[1]], {"b": 9}) == queues[1]


def test_a_heavier_tenant_runs_more() -> None:
    assert serve([a_queue("a", weight=3), a_queue("b")], 8) == {"a": 6, "b": 2}


def test_a_tenant_at_its_limit_is_passed_over() -> None:
    assert serve([a_queue("a", max_concurrent=2), a_queue("b")], 8) == {"a": 2, "b": 6}


def test_all_at_their_limits_is_nobody_chosen() -> None:
    assert (
        choose([a_queue("a", max_concurrent=1, running=1), a_queue("b", max_concurrent=2, running=5)], {})
        is None
    )


def test_a_tenant_whose_tasks_cool_down_is_passed_over() -> None:
    assert choose([a_queue("a", task_id=None), a_queue("b", running=9)], {}).tenant_id == "b"
    assert choose([a_queue("a", task_id=None)], {}) is None


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20), st.none() | st.integers(1, 9)), max_size=8),
    st.integers(0, 40),
)
def test_slots_follow_weights_and_limits(tenants, slots: int) -> None:
    queues = [
        a_queue(f"{n}", weight=weight, running=running, max_concurrent=limit)
        for n, (weight, running, limit) in enumerate(tenants)
    ]
    served = serve(queues, slots)
    for queue in queues:
        if served[queue.tenant_id] and queue.max_concurrent is not None:
            assert queue.running + served[queue.tenant_id] <= queue.max_concurrent
    unlimited = [queue for queue in queues if queue.max_concurrent is None and served[queue.tenant_id]]
    for queue in unlimited:
        # Whoever was served last was not ahead of anybody: its share before its last turn was the smallest.
        share = (queue.running + served[queue.tenant_id] - 1) / queue.weight
        for other in queues:
            if other.max_concurrent is None:
                assert share <= (other.running + served[other.tenant_id]) / other.weight


def test_the_choice_does_not_depend_on_the_order() -> None:
    queues = [a_queue("a", running=1), a_queue("b"), a_queue("c", weight=2)]
    assert choose(queues, {}) == choose(queues[::-1], {})
