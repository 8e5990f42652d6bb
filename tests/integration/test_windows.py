"""Moving windows, in memory and in a real Redis: the same promises on both."""

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.accounts import shared_windows, windows
from gateway.accounts.shared_windows import RedisWindows, in_redis
from gateway.accounts.windows import BoundedMemory, LimitsWindows, in_memory
from gateway.errors import ErrorCode, Unavailable
from gateway.ports import Window, Windows
from tests.clock import SetClock
from tests.redis import RunningRedis


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """The time of both: the one in Redis is told the machine's, which the library reads for it."""
    clock = SetClock()
    machine = SimpleNamespace(time=lambda: clock.now_ms() / 1000)
    monkeypatch.setattr("limits.aio.storage.redis.redispy.time", machine)
    monkeypatch.setattr(shared_windows, "time", machine)
    return clock


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests answers late. Only what is about that has no patience."""
    monkeypatch.setattr(shared_windows, "PATIENCE_S", 30.0)


@pytest.fixture
async def of_redis(redis: RunningRedis, clock: SetClock) -> AsyncIterator[RedisWindows]:
    opened = in_redis(redis.url, clock)
    yield opened
    await opened.close()


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, clock: SetClock) -> AsyncIterator[Windows]:
    memory = request.param == "memory"
    opened = in_memory(clock) if memory else in_redis(request.getfixturevalue("redis").url, clock)
    yield opened
    await opened.close()


async def count(store: Windows, name: str, quota: int, attempts: int) -> int:
    """How many of so many hits fit."""
    return sum([await store.hit(name, quota) for _ in range(attempts)])


# Both


async def test_a_quota_fits_exactly(store: Windows) -> None:
    assert await count(store, "a", 5, 20) == 5


async def test_one_name_takes_nothing_from_another(store: Windows) -> None:
    """L6: one exhausted, the other unharmed."""
    assert await count(store, "a", 3, 9) == 3
    assert await count(store, "b", 3, 9) == 3


async def test_it_tells_what_remains_and_when_more_comes_back(store: Windows, clock: SetClock) -> None:
    """L5, L11: what remains falls hit by hit, and waiting as long as told is enough."""
    assert (await store.look("a", 3)).remaining == 3
    for remaining in (2, 1, 0):
        await store.hit("a", 3)
        assert (await store.look("a", 3)).remaining == remaining
        clock.advance(10)
    window = await store.look("a", 3)
    assert window.reset_s == pytest.approx(30, abs=0.01)
    clock.advance(window.reset_s - 0.1)
    assert not await store.hit("a", 3)
    clock.advance(0.101)
    assert await store.hit("a", 3)
    assert not await store.hit("a", 3)


async def test_a_window_moves_and_does_not_begin_anew(store: Windows, clock: SetClock) -> None:
    """Twice the quota around the turn of a minute is what fixed windows let through."""
    clock.advance(59)
    assert await count(store, "a", 4, 4) == 4
    clock.advance(2)
    assert await count(store, "a", 4, 4) == 0
    clock.advance(59)
    assert await count(store, "a", 4, 8) == 4


async def test_what_is_refused_uses_nothing_up(store: Windows, clock: SetClock) -> None:
    await count(store, "a", 2, 2)
    for _ in range(5):
        clock.advance(10)
        assert not await store.hit("a", 2)
    clock.advance(10.1)
    assert await count(store, "a", 2, 5) == 2


async def test_several_hits_fit_all_or_not_at_all(store: Windows) -> None:
    """L4."""
    assert await store.hit("a", 10, 7)
    assert not await store.hit("a", 10, 4)
    assert (await store.look("a", 10)).remaining == 3
    assert await store.hit("a", 10, 3)
    assert not await store.hit("b", 10, 11)


async def test_looking_counts_nothing(store: Windows) -> None:
    for _ in range(3):
        assert (await store.look("a", 2)).remaining == 2
    assert await count(store, "a", 2, 3) == 2


async def test_many_at_once_are_as_many_as_fit(store: Windows) -> None:
    fits = await asyncio.gather(*(store.hit("a", 10) for _ in range(200)))
    assert sum(fits) == 10


# In memory


async def test_a_clock_that_is_set_moves_no_window(clock: SetClock) -> None:
    store = in_memory(clock)
    await count(store, "a", 2, 2)
    clock._now_ms += 3_600_000
    assert not await store.hit("a", 2)


async def test_a_hundred_thousand_names_take_no_more_than_ten_thousand(clock: SetClock) -> None:
    """Whoever has a /48 has 65,536 networks to come from."""
    storage = BoundedMemory(clock.monotonic_s)
    store = LimitsWindows(storage, clock.monotonic_s)
    tracemalloc.start()
    for number in range(100_000):
        await store.hit(f"bad_keys/2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64", 60)
    grown_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(storage._hits) == windows.CAPACITY
    assert grown_bytes < 10_000_000
    assert not any((storage.locks, storage.events, storage.storage, storage.timer))


async def test_names_that_are_quiet_for_a_minute_are_forgotten(clock: SetClock) -> None:
    storage = BoundedMemory(clock.monotonic_s)
    store = LimitsWindows(storage, clock.monotonic_s)
    for number in range(100):
        await store.hit(str(number), 60)
    clock.advance(60)
    await store.hit("another", 60)
    assert list(storage._hits) == ["gateway/another/60/1/minute"]


async def test_the_name_that_was_quiet_for_longest_makes_room(clock: SetClock) -> None:
    store = LimitsWindows(BoundedMemory(clock.monotonic_s, capacity=2), clock.monotonic_s)
    await store.hit("a", 2)
    await store.hit("b", 2)
    await store.hit("a", 2)
    await store.hit("c", 2)
    assert (await store.look("a", 2)).remaining == 0
    assert (await store.look("b", 2)).remaining == 2


async def test_a_window_holds_no_hits_that_have_left_it(clock: SetClock) -> None:
    """One that polls day and night, just within its quota."""
    storage = BoundedMemory(clock.monotonic_s)
    store = LimitsWindows(storage, clock.monotonic_s)
    for _ in range(2_000):
        assert await store.hit("a", 60)
        clock.advance(1)
    assert sum(len(hits) for hits in storage._hits.values()) <= 2 * 60 + 1


steps = st.tuples(
    st.sampled_from(["a", "b"]), st.integers(1, 3), st.sampled_from([0.0, 0.4, 7.0, 29.5, 61.0])
)


@hypothesis_settings(max_examples=200, deadline=None)
@given(steps=st.lists(steps, max_size=60), quota=st.integers(1, 6))
async def test_it_counts_as_a_list_of_times_would(steps: list[tuple[str, int, float]], quota: int) -> None:
    """L5: against the plainest model there is."""
    clock = SetClock()
    store = in_memory(clock)
    kept: dict[str, list[float]] = {"a": [], "b": []}
    for name, hits, pause_s in steps:
        now_s = clock.monotonic_s()
        within = [at_s for at_s in kept[name] if at_s > now_s - 60]
        fits = len(within) + hits <= quota
        assert await store.hit(name, quota, hits) == fits
        kept[name] = within + [now_s] * hits * fits
        expected = Window(quota - len(kept[name]), (kept[name][0] + 60 if kept[name] else now_s + 60) - now_s)
        assert await store.look(name, quota) == expected
        clock.advance(pause_s)


# In Redis


async def test_two_instances_count_together(redis: RunningRedis, clock: SetClock) -> None:
    """L1: not a quota for each."""
    first, second = in_redis(redis.url, clock), in_redis(redis.url, clock)
    fits = await asyncio.gather(*(store.hit("a", 10) for store in (first, second) * 20))
    assert sum(fits) == 10
    await first.close()
    await second.close()


async def test_what_nobody_asks_for_leaves_redis_after_a_minute(
    redis: RunningRedis, of_redis: RedisWindows
) -> None:
    await of_redis.hit("a", 10)
    assert redis.command("TTL", "gateway:gateway/a/10/1/minute") in {":60\r\n", ":59\r\n"}


async def test_a_socket_in_the_file_system_will_do(redis: RunningRedis, clock: SetClock) -> None:
    store = in_redis(f"unix://{redis.socket_path}?db=1", clock)
    assert await count(store, "a", 2, 4) == 2
    await store.close()


async def refused(ask: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(Unavailable) as caught:
        await ask()
    assert caught.value.code is ErrorCode.LIMITS_UNAVAILABLE
    return str(caught.value.internal)


@contextmanager
def silent(redis: RunningRedis, patience_s: float = 0.05) -> Iterator[None]:
    """A Redis that takes connections and says nothing; who asks it waits for so long."""
    redis.stop_answering()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shared_windows, "PATIENCE_S", patience_s)
            yield
    finally:
        redis.answer_again()


async def test_a_redis_that_is_gone_is_not_asked_again_for_a_second(
    redis: RunningRedis, of_redis: RedisWindows, clock: SetClock
) -> None:
    assert await of_redis.hit("a", 10)
    redis.kill()
    try:
        assert "not asked" not in await refused(lambda: of_redis.hit("a", 10))
        assert "not asked" in await refused(lambda: of_redis.hit("a", 10))
        assert "not asked" in await refused(lambda: of_redis.look("b", 10))
        clock.advance(shared_windows.SILENCE_S)
        assert "not asked" not in await refused(lambda: of_redis.hit("a", 10))
    finally:
        redis.start()
    assert "not asked" in await refused(lambda: of_redis.hit("a", 10))
    clock.advance(shared_windows.SILENCE_S)
    assert await of_redis.hit("a", 10)
    assert await of_redis.hit("a", 10)


async def test_nobody_waits_long_for_a_redis_that_says_nothing(
    redis: RunningRedis, of_redis: RedisWindows, clock: SetClock
) -> None:
    assert await of_redis.hit("a", 10)
    with silent(redis):
        assert "no answer within 50 ms" in await refused(lambda: of_redis.hit("a", 10))
        assert "not asked" in await refused(lambda: of_redis.hit("a", 10))
    clock.advance(shared_windows.SILENCE_S)
    assert await of_redis.hit("a", 10)


async def test_a_loop_that_was_held_up_is_no_failure_of_redis(
    of_redis: RedisWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer lies there; only nobody has read it yet."""
    assert await of_redis.hit("a", 10)
    monkeypatch.setattr(shared_windows, "PATIENCE_S", 0.05)
    asking = asyncio.create_task(of_redis.hit("a", 10))
    while not of_redis._asked:  # noqa: ASYNC110 - it is a matter of turns, not of time
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251 - what holds the loop up
    assert await asking


async def test_one_question_finds_out_whether_redis_is_back(
    redis: RunningRedis, of_redis: RedisWindows, clock: SetClock
) -> None:
    """A dead Redis costs one request a second its patience, not each of them."""
    with silent(redis):
        await refused(lambda: of_redis.hit("a", 10))
        clock.advance(shared_windows.SILENCE_S)
        reasons = await asyncio.gather(*(refused(lambda: of_redis.hit("a", 10)) for _ in range(50)))
    assert sum("not asked" not in reason for reason in reasons) == 1


async def test_a_connection_that_opens_slowly_is_there_for_the_next(
    of_redis: RedisWindows, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS, opening one may take longer than any request waits: it must come to an end all the same."""
    answered = asyncio.Event()
    connect = of_redis._pool.connection_class.connect

    async def slow(connection: object) -> None:
        await answered.wait()
        await connect(connection)

    monkeypatch.setattr(of_redis._pool.connection_class, "connect", slow)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_windows, "PATIENCE_S", 0.05)
        assert "no answer" in await refused(lambda: of_redis.hit("a", 10))
    answered.set()
    await asyncio.gather(*of_redis._asked)
    assert len(of_redis._pool._available_connections) == 1
    clock.advance(shared_windows.SILENCE_S)
    assert await of_redis.hit("a", 10)
    assert len(of_redis._pool._available_connections) == 1


async def test_an_error_of_redis_is_a_failure_like_any_other(
    redis: RunningRedis, of_redis: RedisWindows
) -> None:
    redis.command("SET", "gateway:gateway/a/10/1/minute", "not a list")
    assert "WRONGTYPE" in await refused(lambda: of_redis.hit("a", 10))


async def test_many_questions_at_once_share_a_few_connections(of_redis: RedisWindows) -> None:
    fits = await asyncio.gather(*(of_redis.hit(str(number), 10) for number in range(300)))
    assert all(fits)
    assert len(of_redis._pool._available_connections) <= shared_windows._AT_ONCE


async def test_closing_waits_for_no_answer(redis: RunningRedis, clock: SetClock) -> None:
    store = in_redis(redis.url, clock)
    with silent(redis):
        await refused(lambda: store.hit("a", 10))
        assert len(store._asked) == 1
        await store.close()
        assert store._asked == set()
