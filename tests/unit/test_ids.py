"""Identifiers sort by the time they were made, and tell nothing else."""

import secrets

from hypothesis import given
from hypothesis import strategies as st

from gateway.tasks.ids import IdMaker
from tests.clock import SetClock

milliseconds = st.integers(0, 2**48 - 1)


def made(now_ms: int, chance: bytes = b"\x00" * 10) -> str:
    return IdMaker(SetClock(now_ms), lambda _: chance).bare()


def test_an_id_has_its_prefix_and_26_characters() -> None:
    made = IdMaker(SetClock(), secrets.token_bytes)("task")
    prefix, _, bare = made.partition("_")
    assert prefix == "task"
    assert len(bare) == 26
    assert set(bare) <= set("0123456789abcdefghjkmnpqrstvwxyz")


def test_the_layout_is_that_of_a_ulid() -> None:
    """The example of the ULID specification: 01ARZ3NDEKTSV4RRFFQ69G5FAV, made at 1469922850259 ms."""
    value = 0
    for character in "01ARZ3NDEKTSV4RRFFQ69G5FAV".lower():
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(character)
    chance = (value & (2**80 - 1)).to_bytes(10, "big")
    assert made(value >> 80, chance) == "01arz3ndektsv4rrffq69g5fav"
    assert value >> 80 == 1469922850259


@given(milliseconds, milliseconds, st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_the_earlier_sorts_first(first_ms: int, second_ms: int, chance: bytes, other: bytes) -> None:
    if first_ms < second_ms:
        assert made(first_ms, chance) < made(second_ms, other)


def test_ids_of_one_millisecond_differ() -> None:
    new_id = IdMaker(SetClock(), secrets.token_bytes)
    assert len({new_id("task") for _ in range(10_000)}) == 10_000
