"""The studio: each clip is composed once while it is kept, and what is kept is bounded."""

import asyncio

import pytest

from gateway.emulator import studio as studio_module
from gateway.emulator.music.composer import Order
from gateway.emulator.studio import Studio


def order(seed: int) -> Order:
    return Order("pad", "", seed, 100, 8000, 1)


@pytest.fixture
def composed(monkeypatch) -> list[int]:
    """The seeds that were really composed, each into a hundred bytes."""
    seeds: list[int] = []

    def compose(wanted: Order) -> bytes:
        if wanted.seed < 0:
            raise ValueError("out of tune")
        seeds.append(wanted.seed)
        return bytes(100)

    monkeypatch.setattr(studio_module, "compose", compose)
    return seeds


@pytest.fixture
def studio():
    made = Studio(workers=2, kept_bytes=250)
    yield made
    made.close()


async def test_a_clip_is_composed_once(studio, composed):
    assert await studio.clip(order(1)) == await studio.clip(order(1)) == bytes(100)
    assert composed == [1]


async def test_those_who_ask_at_once_share_one_rendering(studio, composed):
    await asyncio.gather(*(studio.clip(order(1)) for _ in range(10)))
    assert composed == [1]


async def test_the_clip_unused_for_longest_makes_room(studio, composed):
    for seed in (1, 2, 1, 3, 1, 2):
        await studio.clip(order(seed))
    assert composed == [1, 2, 3, 2]


async def test_a_clip_larger_than_the_bound_is_made_and_not_kept(composed):
    small = Studio(workers=1, kept_bytes=50)
    await small.clip(order(1))
    await small.clip(order(1))
    small.close()
    assert composed == [1, 1]


async def test_one_who_leaves_does_not_spoil_the_clip_for_another(studio, composed):
    leaving = asyncio.create_task(studio.clip(order(1)))
    staying = asyncio.create_task(studio.clip(order(1)))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == bytes(100)
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_failure_is_told_and_not_kept(studio, composed):
    with pytest.raises(ValueError, match="out of tune"):
        await studio.clip(order(-1))
    assert not studio._kept
    assert not studio._composing
