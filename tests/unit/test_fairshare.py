"""Whose turn it is at the workers."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.db.lines import TAG_STEP, Lane, Line
from gateway.families.lyria2 import LYRIA2
from gateway.tasks.fairshare import in_turn, turn

LANE = Lane(LYRIA2, test=False)


def a_line(tenant_id: str, lane: Lane = LANE, **changes: int) -> Line:
    values = {"weight": 1, "active": True, "running": 0, "tag": 0, "since_ms": 0}
    return Line(lane, tenant_id, **(values | changes))


def choose(lines: Iterable[Line]) -> Line:
    return min(lines, key=turn)


def start(line: Line, *, stays: bool) -> Line:
    """The line after one of its tasks was started, and ended again at once unless it stays."""
    return replace(line, running=line.running + stays, tag=line.tag + TAG_STEP // line.weight)


def serve(lines: list[Line], starts: int, *, stays: bool = True) -> Counter[str]:
    """So many starts one after another, all tenants having enough waiting."""
    served: Counter[str] = Counter()
    waiting = {line.tenant_id: line for line in lines}
    for _ in range(starts):
        chosen = choose(waiting.values())
        served[chosen.tenant_id] += 1
        waiting[chosen.tenant_id] = start(chosen, stays=stays)
    return served


def test_nobody_waiting_is_nobody_whose_turn_it_is() -> None:
    assert list(in_turn()) == list(in_turn([], [])) == []


def test_fewest_running_goes_first() -> None:
    lines = [a_line("a", running=3), a_line("b", running=1, tag=9), a_line("c", running=2)]
    assert choose(lines).tenant_id == "b"


def test_of_equals_the_one_served_least_goes_first() -> None:
    lines = [a_line("a", tag=3), a_line("b", tag=1, since_ms=9), a_line("c", tag=2)]
    assert choose(lines).tenant_id == "b"


def test_of_equals_the_longest_waiting_goes_first() -> None:
    assert choose([a_line("a", since_ms=2), a_line("b", since_ms=1)]).tenant_id == "b"


def test_a_heavier_tenant_runs_more() -> None:
    assert serve([a_line("a", weight=3), a_line("b")], 8) == {"a": 6, "b": 2}


def test_a_heavier_tenant_is_served_more_even_one_at_a_time() -> None:
    assert serve([a_line("a", weight=3), a_line("b")], 400, stays=False) == {"a": 300, "b": 100}


def test_the_choice_does_not_depend_on_the_order() -> None:
    lines = [a_line("a", running=1), a_line("b"), a_line("c", weight=2)]
    assert choose(lines) == choose(lines[::-1])


weights = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20)), min_size=1, max_size=8)


@given(weights, st.integers(0, 40))
def test_slots_follow_weights(tenants: list[tuple[int, int]], starts: int) -> None:
    lines = [a_line(f"{n}", weight=weight, running=running) for n, (weight, running) in enumerate(tenants)]
    served = serve(lines, starts)
    for line in lines:
        if served[line.tenant_id]:
            # Whoever was served last was not ahead of anybody: its share before its last turn was the least.
            share = (line.running + served[line.tenant_id] - 1) / line.weight
            for other in lines:
                assert share <= (other.running + served[other.tenant_id]) / other.weight


@given(weights, st.integers(0, 200))
def test_shares_follow_weights_within_one_start(tenants: list[tuple[int, int]], starts: int) -> None:
    """One task at a time, nobody is ahead of another by more than a start of each."""
    lines = [a_line(f"{n}", weight=weight) for n, (weight, _) in enumerate(tenants)]
    served = serve(lines, starts, stays=False)
    assert served.total() == starts
    for line in lines:
        for other in lines:
            mine, theirs = served[line.tenant_id] / line.weight, served[other.tenant_id] / other.weight
            # Tags are whole numbers: a thousandth makes up for what is cut off.
            assert mine - theirs <= 1 / line.weight + 1 / other.weight + 0.001


@given(weights)
def test_nobody_waits_for_ever(tenants: list[tuple[int, int]]) -> None:
    """However the others are weighted, everybody is served by the time that the others had their shares."""
    lines = [a_line(f"{n}", weight=weight) for n, (weight, _) in enumerate(tenants)]
    bound = sum(weight for weight, _ in tenants) + len(tenants)
    assert len(serve(lines, bound, stays=False)) == len(lines)


lanes = st.lists(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 3))), max_size=3)


@given(lanes)
def test_lanes_are_merged_into_one_order(lanes: list[list[tuple[int, int, int]]]) -> None:
    """Each lane gives its idle lines in order and then its busy ones in any."""
    names = itertools.count()
    offered = [
        [a_line(f"{next(names):03}", weight=weight, running=r, tag=tag) for weight, r, tag in lane]
        for lane in lanes
    ]
    given = [
        [*sorted((line for line in lane if not line.running), key=turn), *(x for x in lane if x.running)]
        for lane in offered
    ]
    assert list(in_turn(*given)) == sorted((line for lane in offered for line in lane), key=turn)


def test_no_more_lines_are_taken_than_are_needed() -> None:
    taken = 0

    def lines() -> Iterator[Line]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield a_line(f"{number:03}", tag=number)

    assert next(in_turn(lines())).tenant_id == "000"
    assert taken == 1
