"""Shares: few questions to a store that is slow to ask, and a bound on what that lets through."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.accounts.shares import PARTS, Shares
from gateway.accounts.windows import in_memory
from gateway.errors import Unavailable
from gateway.ports import Window, Windows
from tests.clock import SetClock

QUOTA = 160
SHARE = QUOTA // PARTS


class Watched:
    """Windows that remember what they were asked, and fail while ``fails``."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self.told: list[int] = []
        self.fails = False
        self.closed = False

    async def hit(self, name: str, quota: int, hits: int = 1) -> bool:
        self.told.append(hits)
        await asyncio.sleep(0)  # as a question to another machine does
        if self.fails:
            raise Unavailable("not now")
        return await self._windows.hit(name, quota, hits)

    async def look(self, name: str, quota: int) -> Window:
        return await self._windows.look(name, quota)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def store(clock: SetClock) -> Watched:
    return Watched(in_memory(clock))


@pytest.fixture
def shares(store: Watched, clock: SetClock) -> Shares:
    return Shares(store, clock)


async def count(shares: Shares, attempts: int, quota: int = QUOTA) -> int:
    return sum([await shares.hit("a", quota) for _ in range(attempts)])


async def test_the_first_is_asked_about_and_a_share_of_the_quota_is_not(
    shares: Shares, store: Watched
) -> None:
    assert await count(shares, 1 + SHARE) == 1 + SHARE
    assert store.told == [1]
    await shares.hit("a", QUOTA)
    assert store.told == [1, SHARE + 1]


async def test_the_store_hears_of_each_hit_within_half_a_second_of_the_next(
    shares: Shares, store: Watched, clock: SetClock
) -> None:
    await count(shares, 4)
    clock.advance(0.5)
    await shares.hit("a", QUOTA)
    assert store.told == [1, 4]
    assert (await store.look("a", QUOTA)).remaining == QUOTA - 5


async def test_a_quota_too_small_to_be_shared_is_exact(shares: Shares, store: Watched) -> None:
    assert await count(shares, 40, quota=PARTS - 1) == PARTS - 1
    assert store.told == [1] * 40


async def test_each_name_has_a_share_of_its_own(shares: Shares, store: Watched) -> None:
    for name in ("a", "b", "a", "b"):
        assert await shares.hit(name, QUOTA)
    assert store.told == [1, 1]


async def test_one_instance_alone_exceeds_a_quota_by_no_more_than_its_share(shares: Shares) -> None:
    assert QUOTA <= await count(shares, 3 * QUOTA) <= QUOTA + SHARE


async def test_whoever_was_refused_is_counted_one_by_one_for_a_minute(
    shares: Shares, store: Watched, clock: SetClock
) -> None:
    """Else each place that comes free would let a whole share in."""
    await count(shares, 2 * QUOTA)
    clock.advance(59.9)
    store.told.clear()
    await count(shares, 20)
    assert store.told == [1] * 20
    clock.advance(60.1)
    store.told.clear()
    await count(shares, 20)
    assert len(store.told) < 5


async def test_what_was_let_through_a_minute_ago_is_not_told_any_more(
    shares: Shares, store: Watched, clock: SetClock
) -> None:
    await count(shares, 1 + SHARE)
    clock.advance(61)
    await shares.hit("a", QUOTA)
    assert store.told == [1, 1]


async def test_those_who_come_at_once_share_one_question(shares: Shares, store: Watched) -> None:
    fits = await asyncio.gather(*(shares.hit("a", QUOTA) for _ in range(SHARE)))
    assert all(fits)
    assert store.told == [1]


async def test_a_store_that_fails_makes_every_share_void(
    shares: Shares, store: Watched, clock: SetClock
) -> None:
    """What cannot be counted is for the guard to decide on, at once and for every name."""
    await shares.hit("a", QUOTA)
    await shares.hit("b", QUOTA)
    store.fails = True
    for name in ("c", "a", "b"):
        with pytest.raises(Unavailable):
            await shares.hit(name, QUOTA)
    store.fails = False
    clock.advance(0.1)
    assert await count(shares, 5) == 5
    assert store.told[-1] == 1


async def test_what_passed_before_a_failure_is_told_after_it(
    shares: Shares, store: Watched, clock: SetClock
) -> None:
    await count(shares, 4)
    clock.advance(0.5)
    store.fails = True
    with pytest.raises(Unavailable):
        await shares.hit("a", QUOTA)
    store.fails = False
    await shares.hit("a", QUOTA)
    assert store.told == [1, 4, 4]


async def test_names_are_remembered_only_so_many(
    shares: Shares, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.accounts.shares._CAPACITY", 3)
    for number in range(10):
        await shares.hit(str(number), QUOTA)
    assert len(shares._shares) == 3


async def test_looking_and_closing_are_the_stores(shares: Shares, store: Watched) -> None:
    await shares.hit("a", QUOTA)
    assert (await shares.look("a", QUOTA)).remaining == QUOTA - 1
    await shares.close()
    assert store.closed


steps = st.tuples(st.integers(0, 2), st.integers(1, 60), st.sampled_from([0.0, 0.1, 0.6, 5.0, 31.0]))


@hypothesis_settings(max_examples=150, deadline=None)
@given(steps=st.lists(steps, max_size=40))
async def test_instances_exceed_a_quota_by_a_share_each_at_most(steps: list[tuple[int, int, float]]) -> None:
    """L7, L10: the bound that README states, for three instances and any minute."""
    clock = SetClock()
    store = in_memory(clock)
    instances = [Shares(store, clock) for _ in range(3)]
    passed_s: list[float] = []
    for instance, attempts, pause_s in steps:
        fits = await count(instances[instance], attempts)
        passed_s += [clock.monotonic_s()] * fits
        within = [at_s for at_s in passed_s if at_s > clock.monotonic_s() - 60]
        assert len(within) <= QUOTA + len(instances) * SHARE
        clock.advance(pause_s)
