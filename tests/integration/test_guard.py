"""The abuse guard: whom it refuses and for how long, and what it does when it cannot count."""

import asyncio
import logging
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from gateway.accounts import guard as guards
from gateway.accounts import shared_windows
from gateway.accounts.counts import Counts, open_counts
from gateway.accounts.guard import ROUND_S, Guard, GuardPolicy
from gateway.accounts.shared_windows import SILENCE_S
from gateway.accounts.windows import in_memory
from gateway.errors import ErrorCode, LimitReached, LimitState, Unavailable
from gateway.metrics import Metrics
from gateway.ports import Window
from tests.clock import SetClock
from tests.redis import RunningRedis

ADDRESS, NEIGHBOUR = "203.0.113.7", "203.0.113.8"
MakeGuard = Callable[..., Guard]


class Store:
    """Windows in memory, which cannot be had while ``is_down``; ``opened`` counts who asked for them."""

    def __init__(self, clock: SetClock) -> None:
        self._windows = in_memory(clock)
        self.is_down = False
        self.opened = 0
        self.asked = 0

    async def open(self) -> Counts:
        self.opened += 1
        await asyncio.sleep(0)  # as importing in a thread does
        return Counts(self, self)

    async def hit(self, name: str, quota: int, hits: int = 1) -> bool:
        self.asked += 1
        if self.is_down:
            raise Unavailable("No.", code=ErrorCode.LIMITS_UNAVAILABLE, internal="connection refused")
        return await self._windows.hit(name, quota, hits)

    async def look(self, name: str, quota: int) -> Window:
        return await self._windows.look(name, quota)

    async def close(self) -> None:
        await self._windows.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("test")


@pytest.fixture
def store(clock: SetClock) -> Store:
    return Store(clock)


@pytest.fixture
def make(clock: SetClock, metrics: Metrics, store: Store) -> MakeGuard:
    def make_guard(reads: int = 3, bad_keys: int = 3, *, refuse: bool = False) -> Guard:
        return Guard(store.open, GuardPolicy(reads, bad_keys, refuse), metrics.guard, clock)

    return make_guard


def counted(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"gateway_guard_{name}_total", labels)


async def read(guard: Guard, key_id: str, times: int) -> int:
    """How many of so many reads are let through."""
    return await let_through(lambda: guard.read(key_id), times)


async def let_through(call: Callable[[], object], times: int) -> int:
    passed = 0
    for _ in range(times):
        try:
            await call()  # type: ignore[misc]
            passed += 1
        except LimitReached:
            pass
    return passed


async def refusal(guard: Guard, key_id: str = "k1") -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await guard.read(key_id)
    return caught.value


# Reads


async def test_a_key_reads_as_often_as_it_may(make: MakeGuard, metrics: Metrics) -> None:
    guard = make(reads=3)
    assert await read(guard, "k1", 10) == 3
    assert counted(metrics, "refused", guard="reads") == 7
    assert counted(metrics, "refused", guard="bad_keys") == 0


async def test_a_refusal_names_the_limit_and_when_to_come_back(make: MakeGuard, clock: SetClock) -> None:
    guard = make(reads=2)
    await guard.read("k1")
    clock.advance(12.5)
    await guard.read("k1")
    error = await refusal(guard)
    assert error.code is ErrorCode.SLOW_DOWN
    assert error.limit == LimitState("reads", quota=2, window_s=60, remaining=0, reset_s=48)
    assert "2 times in any 60 seconds" in error.detail
    assert "48 s" in error.detail


async def test_waiting_as_long_as_told_is_enough_and_less_is_not(make: MakeGuard, clock: SetClock) -> None:
    """L11."""
    guard = make(reads=2)
    for _ in range(5):
        await guard.read("k1")
        clock.advance(7)
        await guard.read("k1")
        reset_s = (await refusal(guard)).limit.reset_s
        clock.advance(reset_s - 1)
        await refusal(guard)
        clock.advance(1)
        await guard.read("k1")
        clock.advance(60)


async def test_one_key_exhausted_leaves_another_unharmed(make: MakeGuard) -> None:
    """L6."""
    guard = make(reads=3)
    assert await read(guard, "k1", 10) == 3
    assert await read(guard, "k2", 10) == 3


async def test_two_hundred_at_once_are_as_many_as_may_be(make: MakeGuard) -> None:
    guard = make(reads=10)
    results = await asyncio.gather(*(guard.read("k1") for _ in range(200)), return_exceptions=True)
    assert sum(result is None for result in results) == 10
    assert {type(result) for result in results if result is not None} == {LimitReached}


async def test_whoever_is_refused_is_not_even_counted(make: MakeGuard, store: Store) -> None:
    guard = make(reads=3)
    await read(guard, "k1", 100)
    assert store.asked == 4


async def test_no_limit_is_no_work(make: MakeGuard, store: Store) -> None:
    guard = make(reads=0, bad_keys=0)
    assert await read(guard, "k1", 100) == 100
    assert await let_through(lambda: guard.bad_key(ADDRESS), 100) == 100
    await guard.before_look_up(ADDRESS)
    assert store.opened == 0
    await guard.close()


async def test_what_counts_is_opened_once_when_there_is_something_to_count(
    make: MakeGuard, store: Store
) -> None:
    guard = make(reads=100)
    assert store.opened == 0
    await asyncio.gather(*(guard.read("k1") for _ in range(10)))
    await guard.bad_key(ADDRESS)
    assert store.opened == 1


# Bad keys


async def test_an_address_presents_so_many_bad_keys(make: MakeGuard, metrics: Metrics) -> None:
    guard = make(bad_keys=3)
    assert await let_through(lambda: guard.bad_key(ADDRESS), 10) == 3
    assert await let_through(lambda: guard.bad_key(NEIGHBOUR), 10) == 3
    assert counted(metrics, "refused", guard="bad_keys") == 14


async def test_an_address_is_let_in_again_after_the_time_it_was_told(
    make: MakeGuard, clock: SetClock
) -> None:
    guard = make(bad_keys=1)
    await guard.bad_key(ADDRESS)
    with pytest.raises(LimitReached) as caught:
        await guard.bad_key(ADDRESS)
    assert caught.value.limit == LimitState("bad_keys", quota=1, window_s=60, remaining=0, reset_s=60)
    clock.advance(caught.value.limit.reset_s)
    await guard.bad_key(ADDRESS)


async def test_reads_and_bad_keys_do_not_mix(make: MakeGuard) -> None:
    guard = make(reads=1, bad_keys=1)
    await guard.read(ADDRESS)
    await guard.bad_key(ADDRESS)


async def test_a_look_up_waits_for_nothing_while_its_address_is_well(
    make: MakeGuard, clock: SetClock
) -> None:
    guard = make(bad_keys=3)
    await guard.bad_key(ADDRESS)
    await guard.bad_key(ADDRESS)
    await let_through(lambda: guard.bad_key(NEIGHBOUR), 5)
    await guard.before_look_up(ADDRESS)
    assert clock.slept_s == []


async def test_look_ups_for_a_refused_address_wait_for_the_next_round(
    make: MakeGuard, clock: SetClock
) -> None:
    """From the last that it may on: the next is refused before anything is looked up for it."""
    guard = make(bad_keys=3)
    for _ in range(3):
        await guard.bad_key(ADDRESS)
    clock.advance(0.1)
    await guard.before_look_up(ADDRESS)
    assert clock.slept_s == [pytest.approx(ROUND_S - 0.1)]
    clock.advance(60)
    await guard.before_look_up(ADDRESS)
    assert len(clock.slept_s) == 1


class HeldClock(SetClock):
    """Nobody's sleep ends until ``morning``."""

    def __init__(self) -> None:
        super().__init__()
        self.morning = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        await self.morning.wait()


async def test_a_round_has_places_for_so_many(
    metrics: Metrics, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes from addresses that are refused, it costs the database so many look-ups a second."""
    monkeypatch.setattr(guards, "ROUND_SIZE", 5)
    clock = HeldClock()
    guard = Guard(store.open, GuardPolicy(3, 1, False), metrics.guard, clock)
    await guard.bad_key(ADDRESS)
    waiting = [asyncio.create_task(guard.before_look_up(ADDRESS)) for _ in range(8)]
    await asyncio.sleep(0)
    late = [task.exception() for task in waiting if task.done()]
    assert [type(error) for error in late] == [LimitReached] * 3
    assert {error.limit.reset_s for error in late if isinstance(error, LimitReached)} == {1}
    waiting[0].cancel()
    await asyncio.sleep(0)
    another = asyncio.create_task(guard.before_look_up(ADDRESS))
    await asyncio.sleep(0)
    assert not another.done()
    clock.morning.set()
    await another
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_hundred_thousand_addresses_take_little_memory(make: MakeGuard) -> None:
    guard = make(bad_keys=1)
    await guard.bad_key(ADDRESS)
    tracemalloc.start()
    for number in range(100_000):
        await guard.bad_key(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64")
    grown_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(guard._bad_keys._refused_until_s) == guards.REMEMBERED
    assert grown_bytes < 15_000_000


async def test_an_address_that_is_forgotten_is_refused_again(
    make: MakeGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "REMEMBERED", 1)
    guard = make(bad_keys=1)
    for address in (ADDRESS, NEIGHBOUR):
        await guard.bad_key(address)
    with pytest.raises(LimitReached):
        await guard.bad_key(ADDRESS)


async def test_the_log_names_an_address_that_goes_too_far_now_and_then(
    make: MakeGuard, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make(bad_keys=1)
    for number in range(50):
        await guard.bad_key(f"198.51.100.{number}")
    clock.advance(10)
    await guard.bad_key(ADDRESS)
    named = [record.__dict__["address"] for record in caplog.records]
    assert named == ["198.51.100.0", ADDRESS]


# A store that fails


async def test_what_cannot_be_counted_is_allowed_and_that_is_counted(
    make: MakeGuard, store: Store, metrics: Metrics
) -> None:
    """L8."""
    guard = make(reads=3, bad_keys=3)
    store.is_down = True
    assert await read(guard, "k1", 10) == 10
    assert await let_through(lambda: guard.bad_key(ADDRESS), 5) == 5
    await guard.before_look_up(ADDRESS)
    assert counted(metrics, "uncounted", guard="reads", outcome="allowed") == 10
    assert counted(metrics, "uncounted", guard="bad_keys", outcome="allowed") == 5
    assert counted(metrics, "uncounted", guard="reads", outcome="refused") == 0


async def test_what_cannot_be_counted_is_refused_where_that_is_set(
    make: MakeGuard, store: Store, metrics: Metrics, clock: SetClock
) -> None:
    """L8."""
    guard = make(refuse=True)
    store.is_down = True
    for call in (lambda: guard.read("k1"), lambda: guard.bad_key(ADDRESS)):
        with pytest.raises(Unavailable) as caught:
            await call()
        assert caught.value.code is ErrorCode.LIMITS_UNAVAILABLE
    assert counted(metrics, "uncounted", guard="reads", outcome="refused") == 1
    assert counted(metrics, "uncounted", guard="bad_keys", outcome="refused") == 1
    assert counted(metrics, "refused", guard="reads") == 0
    # Who knows how many bad keys came from there.
    await guard.before_look_up(NEIGHBOUR)
    assert len(clock.slept_s) == 1


async def test_without_a_limit_of_bad_keys_no_look_up_waits(
    make: MakeGuard, store: Store, clock: SetClock
) -> None:
    guard = make(bad_keys=0, refuse=True)
    store.is_down = True
    with pytest.raises(Unavailable):
        await guard.read("k1")
    await guard.before_look_up(ADDRESS)
    assert clock.slept_s == []


async def test_the_limits_hold_again_once_the_store_answers(
    make: MakeGuard, store: Store, clock: SetClock
) -> None:
    guard = make(reads=3, refuse=True)
    await guard.read("k1")
    store.is_down = True
    with pytest.raises(Unavailable):
        await guard.read("k1")
    store.is_down = False
    assert await read(guard, "k1", 10) == 2
    await guard.before_look_up(ADDRESS)
    assert clock.slept_s == []


async def test_bad_keys_are_counted_again_once_the_store_answers(make: MakeGuard, store: Store) -> None:
    guard = make(bad_keys=2)
    store.is_down = True
    assert await let_through(lambda: guard.bad_key(ADDRESS), 5) == 5
    store.is_down = False
    assert await let_through(lambda: guard.bad_key(ADDRESS), 5) == 2
    assert guard._uncounted == 0


async def test_a_failure_is_logged_once_in_ten_seconds_and_so_is_its_end(
    make: MakeGuard, store: Store, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    guard = make(reads=1000)
    store.is_down = True
    await read(guard, "k1", 50)
    (line,) = caplog.messages
    assert line == "requests are not counted but allowed: connection refused"
    clock.advance(10)
    await read(guard, "k1", 50)
    assert len(caplog.messages) == 2
    store.is_down = False
    await read(guard, "k1", 50)
    assert caplog.messages[2:] == ["requests are counted again; 100 were not"]


async def test_a_store_that_comes_and_goes_does_not_fill_the_log(
    make: MakeGuard, store: Store, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make(reads=1000)
    for _ in range(20):
        store.is_down = not store.is_down
        await read(guard, "k1", 1)
        clock.advance(0.1)
    assert len(caplog.messages) == 2


# Redis


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests answers late."""
    monkeypatch.setattr(shared_windows, "PATIENCE_S", 30.0)


@pytest.fixture
async def make_shared(redis: RunningRedis, clock: SetClock, metrics: Metrics) -> AsyncIterator[MakeGuard]:
    """Guards that count in one Redis, as `bootstrap` makes them."""
    made = []

    def make_guard(reads: int = 3, bad_keys: int = 3, *, refuse: bool = False) -> Guard:
        policy = GuardPolicy(reads, bad_keys, refuse)
        made.append(Guard(partial(open_counts, redis.url, clock), policy, metrics.guard, clock))
        return made[-1]

    yield make_guard
    for guard in made:
        await guard.close()


async def test_two_guards_count_reads_together(make_shared: MakeGuard) -> None:
    """L1: a small quota exactly, whoever is asked."""
    first, second = make_shared(reads=10), make_shared(reads=10)
    passed = await asyncio.gather(*(read(guard, "k1", 1) for guard in (first, second) * 20))
    assert sum(passed) == 10


async def test_two_guards_exceed_a_large_quota_by_a_sixteenth_each(make_shared: MakeGuard) -> None:
    """L10: what README says."""
    first, second = make_shared(reads=160), make_shared(reads=160)
    passed = [await read(guard, "k1", 1) for guard in (first, second) * 200]
    assert 160 <= sum(passed) <= 180


async def test_far_from_its_quota_a_key_costs_redis_few_questions(
    make_shared: MakeGuard, redis: RunningRedis
) -> None:
    guard = make_shared(reads=1600)
    redis.command("CONFIG", "RESETSTAT")
    assert await read(guard, "k1", 200) == 200
    calls = re.search(r"cmdstat_evalsha:calls=([0-9]+)", redis.command("INFO", "commandstats"))
    assert calls is not None
    assert int(calls[1]) <= 3


async def test_two_guards_count_bad_keys_together(make_shared: MakeGuard) -> None:
    first, second = make_shared(bad_keys=4), make_shared(bad_keys=4)
    passed = [
        await let_through(lambda guard=guard: guard.bad_key(ADDRESS), 1)  # type: ignore[misc]
        for guard in (first, second) * 6
    ]
    assert sum(passed) == 4


async def test_a_redis_that_dies_takes_no_caller_with_it(
    make_shared: MakeGuard, redis: RunningRedis, clock: SetClock, metrics: Metrics
) -> None:
    """Allowed, counted and logged; and by itself the limits hold again when it is back."""
    guard = make_shared(reads=5)
    assert await read(guard, "k1", 2) == 2
    redis.kill()
    try:
        assert await read(guard, "k1", 20) == 20
        clock.advance(SILENCE_S)
        assert await read(guard, "k1", 20) == 20
    finally:
        redis.start()
    assert counted(metrics, "uncounted", guard="reads", outcome="allowed") == 40
    clock.advance(SILENCE_S)
    assert await read(guard, "k1", 20) == 5
    assert counted(metrics, "refused", guard="reads") == 15


async def test_a_redis_that_dies_stops_callers_where_that_is_set(
    make_shared: MakeGuard, redis: RunningRedis, clock: SetClock, metrics: Metrics
) -> None:
    guard = make_shared(reads=160, refuse=True)
    assert await read(guard, "k1", 2) == 2
    redis.kill()
    try:
        with pytest.raises(Unavailable):
            await guard.read("k2")
        # Not even the share that was left of this one is used up.
        with pytest.raises(Unavailable):
            await guard.read("k1")
    finally:
        redis.start()
    assert counted(metrics, "uncounted", guard="reads", outcome="refused") == 2
    clock.advance(SILENCE_S)
    assert await read(guard, "k1", 3) == 3


async def test_a_redis_that_says_nothing_is_waited_for_once(
    make_shared: MakeGuard, redis: RunningRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = make_shared(reads=5)
    assert await read(guard, "k1", 1) == 1
    waits = []
    wait = asyncio.wait

    async def noted(*arguments: object, **options: object) -> object:
        waits.append(options["timeout"])
        return await wait(*arguments, **options)  # type: ignore[call-overload]

    redis.stop_answering()
    try:
        monkeypatch.setattr(shared_windows, "PATIENCE_S", 0.05)
        monkeypatch.setattr(shared_windows.asyncio, "wait", noted)
        assert await read(guard, "k1", 50) == 50
    finally:
        redis.answer_again()
    assert waits == [0.05, shared_windows._TO_READ_S]
