"""Which deployment of a model takes the next call."""

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.db.deployments import WELL, WINDOW_MS, Health, Load
from gateway.tasks.pool import Member, pick
from tests.factories import NOW_MS, a_deployment


def a_member(name: str = "one", health: Health = WELL, load: Load | None = None, **limits: Any) -> Member:
    return Member(a_deployment(name=name, **limits), health, load or Load())


def picked(*members: Member, now_ms: int = NOW_MS) -> str | None:
    chosen = pick(members, now_ms)
    return None if chosen is None else chosen.name


def test_one_without_limits_takes_what_comes() -> None:
    assert picked(a_member(load=Load(1000, 1000, NOW_MS))) == "one"


def test_of_none_none_is_picked() -> None:
    assert picked() is None


def test_as_many_at_once_as_it_takes() -> None:
    assert picked(a_member(load=Load(open_count=3), concurrency=4)) == "one"
    full = a_member(load=Load(open_count=4), concurrency=4)
    assert picked(full) is None
    assert full.free_at_ms(NOW_MS) is None


def test_as_many_a_minute_as_it_takes() -> None:
    assert picked(a_member(load=Load(0, 9, NOW_MS - 1), rpm=10)) == "one"
    full = a_member(load=Load(0, 10, NOW_MS - 20_000), rpm=10)
    assert picked(full) is None
    assert full.free_at_ms(NOW_MS) == NOW_MS - 20_000 + WINDOW_MS


def test_one_that_cools_down_is_left_alone_until_then() -> None:
    cooling = a_member(health=Health(cooling_until_ms=NOW_MS + 5))
    assert picked(cooling) is None
    assert cooling.free_at_ms(NOW_MS) == NOW_MS + 5
    assert picked(cooling, now_ms=NOW_MS + 5) == "one"


def test_a_broken_one_is_probed_by_one_call_when_its_time_has_come() -> None:
    broken = Health(broken_until_ms=NOW_MS + 5)
    assert picked(a_member(health=broken)) is None
    assert picked(a_member(health=broken), now_ms=NOW_MS + 5) == "one"
    assert picked(a_member(health=broken, load=Load(open_count=1)), now_ms=NOW_MS + 5) is None


def test_one_that_is_due_to_be_probed_goes_first() -> None:
    due = a_member("due", health=Health(broken_until_ms=NOW_MS))
    assert picked(a_member("well"), due) == "due"
    assert picked(a_member("well"), replace(due, load=Load(open_count=1))) == "well"


def test_the_least_busy_for_its_weight_goes_first() -> None:
    assert picked(a_member("a", load=Load(2)), a_member("b", load=Load(1))) == "b"
    assert picked(a_member("a", load=Load(2), weight=3), a_member("b", load=Load(1))) == "a"
    assert picked(a_member("a", load=Load(0, 2, NOW_MS)), a_member("b", load=Load(0, 1, NOW_MS))) == "b"


def test_another_takes_over_where_one_cannot() -> None:
    assert picked(a_member("a", health=Health(cooling_until_ms=NOW_MS + 1)), a_member("b", weight=9)) == "b"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 100))
def test_calls_are_shared_out_by_weight(weights: list[int], calls: int) -> None:
    members = {f"{n}": a_member(f"{n}", weight=weight) for n, weight in enumerate(weights)}
    made: Counter[str] = Counter()
    for _ in range(calls):
        name = picked(*members.values())
        made[name] += 1
        members[name] = replace(members[name], load=Load(0, made[name], NOW_MS))
    for one in members.values():
        for other in members.values():
            share = (made[one.deployment.name] - 1) / one.deployment.weight
            assert share <= made[other.deployment.name] / other.deployment.weight


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12), st.integers(0, 2), st.booleans()), max_size=6)
)
def test_no_limit_is_passed(members: list[tuple[int, int, int, bool]]) -> None:
    pool = [
        a_member(
            f"{n}",
            health=Health(broken_until_ms=NOW_MS) if broken else WELL,
            load=Load(open_count, recent, NOW_MS - 1),
            rpm=10,
            concurrency=concurrency or None,
        )
        for n, (open_count, recent, concurrency, broken) in enumerate(members)
    ]
    name = picked(*pool)
    fit = {m.deployment.name for m in pool if m.free_at_ms(NOW_MS) == NOW_MS}
    # Work-conserving: as long as one can, one does.
    assert (name in fit) if fit else name is None
    for member in pool:
        if member.deployment.name == name:
            assert member.load.recent_count < 10
            assert (
                member.deployment.concurrency is None
                or member.load.open_count < member.deployment.concurrency
            )
            assert member.health.broken_until_ms is None or member.load.open_count == 0
