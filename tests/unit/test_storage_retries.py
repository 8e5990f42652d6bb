"""How long storage is patient, and how it spreads its tries."""

import random

import httpx
import pytest

from gateway.storage.api import Retries, RetryPolicy
from tests.clock import SetClock


def busy(retry_after: str) -> httpx.Response:
    return httpx.Response(429, headers={"Retry-After": retry_after})


async def test_tries_are_counted(clock: SetClock):
    retries = Retries(RetryPolicy(tries=3), clock, random.Random(1))
    assert [await retries.wait(None) for _ in range(4)] == [True, True, False, False]


async def test_the_ceiling_doubles_up_to_the_cap_and_the_pause_is_anywhere_below(clock: SetClock):
    policy = RetryPolicy(tries=8, base_s=1.0, cap_s=8.0, deadline_s=1e9)
    pauses = []
    for seed in range(200):
        clock.slept_s.clear()
        retries = Retries(policy, clock, random.Random(seed))
        while await retries.wait(None):
            pass
        pauses.append(list(clock.slept_s))
    longest = [max(column) for column in zip(*pauses, strict=True)]
    shortest = [min(column) for column in zip(*pauses, strict=True)]
    for ceiling, most, least in zip([1, 2, 4, 8, 8, 8, 8], longest, shortest, strict=True):
        assert 0.9 * ceiling < most <= ceiling
        assert least < 0.1 * ceiling


async def test_the_deadline_ends_it_before_a_pause_that_would_miss_it(clock: SetClock):
    retries = Retries(RetryPolicy(tries=100, deadline_s=30), clock, random.Random(1))
    while await retries.wait(busy("7")):
        pass
    assert 0 < sum(clock.slept_s) <= 30


async def test_progress_restores_patience(clock: SetClock):
    retries = Retries(RetryPolicy(tries=2, deadline_s=10), clock, random.Random(1))
    for _ in range(10):
        assert await retries.wait(busy("7"))
        retries.progressed()


@pytest.mark.parametrize(
    ("header", "least_s"), [("3", 3), ("9999", 60), ("", 0), ("-5", 0), ("Wed, 21 Oct 2026", 0), ("²", 0)]
)
async def test_retry_after_lengthens_the_pause_within_reason(clock: SetClock, header: str, least_s: float):
    retries = Retries(RetryPolicy(deadline_s=1e9), clock, random.Random(1))
    response = httpx.Response(429, headers={"Retry-After": header.encode("latin-1")})
    assert await retries.wait(response)
    assert least_s <= clock.slept_s[0] <= least_s + 0.5
