"""The format of API keys: what is made can be read back, what was mistyped is refused."""

import hashlib
import random
import re
import secrets
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts import keys
from gateway.model import KeyMode

seeds = st.integers(0, 2**32)


def a_key(seed: int = 1) -> str:
    return keys.mint(random.Random(seed).choice).text


@given(seeds, st.sampled_from(KeyMode))
def test_a_minted_key_is_read_back(seed: int, mode: KeyMode) -> None:
    minted = keys.mint(random.Random(seed).choice, mode)
    assert keys.parse(minted.text) == keys.PresentedKey(minted.public_id, minted.sha256, mode)
    assert minted.text.startswith(f"mg_{mode.value}_{minted.public_id}_")
    assert len(minted.text) == len("mg_live_") + 12 + 1 + 32 + 6


def test_a_key_is_known_by_its_hash_only() -> None:
    minted = keys.mint(secrets.choice)
    assert minted.sha256 == hashlib.sha256(minted.text.encode()).hexdigest()


def test_no_two_keys_are_alike() -> None:
    assert len({keys.mint(secrets.choice).text for _ in range(1000)}) == 1000


@pytest.mark.parametrize("position", range(59))
def test_any_single_wrong_character_is_refused(position: int) -> None:
    text = a_key(position)
    for character in string.printable:
        mistyped = text[:position] + character + text[position + 1 :]
        assert mistyped == text or keys.parse(mistyped) is None


@given(seeds, st.integers(0, 57))
def test_any_two_neighbours_swapped_are_refused(seed: int, position: int) -> None:
    text = a_key(seed)
    swapped = text[:position] + text[position + 1] + text[position] + text[position + 2 :]
    assert swapped == text or keys.parse(swapped) is None


def test_any_two_characters_swapped_are_refused() -> None:
    text = a_key()
    for first in range(len(text)):
        for second in range(first + 1, len(text)):
            swapped = list(text)
            swapped[first], swapped[second] = swapped[second], swapped[first]
            assert "".join(swapped) == text or keys.parse("".join(swapped)) is None


@given(seeds, st.integers(0, 58), st.booleans())
def test_a_character_lost_or_doubled_is_refused(seed: int, position: int, doubled: bool) -> None:
    text = a_key(seed)
    assert keys.parse(text[:position] + text[position] * (2 * doubled) + text[position + 1 :]) is None


@given(st.text())
def test_other_text_is_refused(text: str) -> None:
    assert keys.parse(text) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("mg_live", "mg_test"),
        lambda text: text.upper(),
        lambda text: text[:-1] + "é",
        lambda text: text.replace("_", "-"),
        lambda text: text[:20] + "\u0660" + text[21:],  # a digit, but not one of ours
        lambda text: text * 100_000,
        lambda _: "",
    ],
)
def test_what_is_nearly_a_key_is_refused(change) -> None:
    assert keys.parse(change(a_key())) is None


def test_the_checksum_is_crc32_in_base62() -> None:
    """0xCBF43926 is the check value that every catalogue of CRCs gives for CRC-32."""
    value = 0
    for digit in keys.checksum("123456789"):
        value = value * 62 + keys.ALPHABET.index(digit)
    assert value == 0xCBF43926


def test_a_small_checksum_keeps_its_length() -> None:
    assert keys.checksum("") == "000000"


def test_the_largest_crc_fits() -> None:
    assert len(keys.ALPHABET) ** keys.CHECKSUM_LENGTH > 2**32


def test_another_secret_keeps_the_public_id() -> None:
    first = keys.mint(secrets.choice, KeyMode.TEST)
    second = keys.mint_again(first.public_id, secrets.choice, KeyMode.TEST)
    assert second.public_id == first.public_id
    assert second.sha256 != first.sha256
    assert keys.parse(second.text) == keys.PresentedKey(first.public_id, second.sha256, KeyMode.TEST)


@given(seeds, st.sampled_from(KeyMode))
def test_the_scanners_pattern_finds_a_key_in_any_text(seed: int, mode: KeyMode) -> None:
    text = keys.mint(random.Random(seed).choice, mode).text
    assert re.findall(keys.PATTERN, f'export KEY="{text}"; # secret') == [text]
