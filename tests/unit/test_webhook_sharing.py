"""One slow receiver holds up nobody, and no slot is left idle for it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.db.deliveries import DueLane
from gateway.webhooks.sharing import Caps, share_out

CAPS = Caps(total=6, tenant=4, lane=2)
lanes = st.builds(lambda tenant, lane: f"ten_{tenant}:{lane}", st.integers(0, 3), st.integers(0, 3))
waiting = st.lists(lanes, unique=True).map(
    lambda names: [DueLane(name, due_at_ms) for due_at_ms, name in enumerate(names)]
)
running = st.dictionaries(lanes, st.integers(1, 2), max_size=3)


def due(*names: str) -> list[DueLane]:
    return [DueLane(name, due_at_ms) for due_at_ms, name in enumerate(names)]


def test_a_lane_gets_no_more_than_its_share_however_long_it_waits() -> None:
    assert share_out(due("a:1"), {}, CAPS) == {"a:1": 2}
    assert share_out(due("a:1"), {"a:1": 1}, CAPS) == {"a:1": 1}
    assert share_out(due("a:1"), {"a:1": 2}, CAPS) == {}


def test_a_full_lane_does_not_keep_the_next_one_waiting() -> None:
    assert share_out(due("a:1", "b:1"), {"a:1": 2}, CAPS) == {"b:1": 2}


def test_a_tenant_with_many_slow_receivers_leaves_room_for_others() -> None:
    shares = share_out(due("a:1", "a:2", "a:3", "a:4", "b:1"), {}, CAPS)
    assert shares == {"a:1": 1, "a:2": 1, "a:3": 1, "a:4": 1, "b:1": 2}
    assert share_out(due("a:5", "b:1"), {"a:1": 2, "a:2": 2}, CAPS) == {"b:1": 2}


def test_the_longest_overdue_come_first_when_there_is_little_room() -> None:
    assert share_out(due("b:1", "a:1", "c:1"), {"d:1": 2, "e:1": 2}, CAPS) == {"b:1": 1, "a:1": 1}


@given(waiting, running)
def test_no_cap_is_passed(found: list[DueLane], busy: dict[str, int]) -> None:
    after = Counter(busy) + Counter(share_out(found, busy, CAPS))
    tenants: Counter[str] = Counter()
    for lane, count in after.items():
        tenants[lane.partition(":")[0]] += count
    assert after.total() <= max(CAPS.total, sum(busy.values()))
    assert all(count <= max(CAPS.lane, busy.get(lane, 0)) for lane, count in after.items())
    busy_tenants = Counter({lane.partition(":")[0]: 0 for lane in busy})
    for lane, count in busy.items():
        busy_tenants[lane.partition(":")[0]] += count
    assert all(count <= max(CAPS.tenant, busy_tenants[tenant]) for tenant, count in tenants.items())


@given(waiting, running)
def test_nothing_that_may_go_out_waits_while_there_is_room(
    found: list[DueLane], busy: dict[str, int]
) -> None:
    shares = share_out(found, busy, CAPS)
    after = Counter(busy) + Counter(shares)
    if after.total() >= CAPS.total:
        return
    for each in found:
        tenant = each.lane.partition(":")[0]
        of_tenant = sum(count for lane, count in after.items() if lane.startswith(f"{tenant}:"))
        assert after[each.lane] >= CAPS.lane or of_tenant >= CAPS.tenant
