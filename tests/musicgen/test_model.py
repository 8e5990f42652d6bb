"""The tiny model seen from inside: ours against the library's own, and what rounding does."""

from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("musicgen")


def test_without_chance_a_window_is_what_the_library_generates(checks: dict[str, Any]) -> None:
    assert checks["is_the_librarys"] == [True, True]


def test_without_chance_a_later_window_is_what_the_library_makes_of_the_last_twelve_seconds(
    checks: dict[str, Any],
) -> None:
    assert checks["later_windows_continue"] == [True, True]


def test_decoding_in_blocks_differs_from_decoding_at_once_by_less_than_is_heard(
    checks: dict[str, Any],
) -> None:
    assert checks["peak_of_decoding"] > 5_000
    assert max(checks["seam_steps"]) <= 4


def test_clips_made_one_by_one_are_those_made_together(checks: dict[str, Any]) -> None:
    assert checks["rows_do_not_matter_alone"]


def test_when_memory_does_not_suffice_it_says_what_to_do(checks: dict[str, Any]) -> None:
    assert checks["memory"].startswith("503 RESOURCE_EXHAUSTED: The device ran out of memory making 1 x 5 s.")
    assert "MUSICGEN_ROWS" in checks["memory"]


def test_a_seed_repeats_itself_in_half_precision_too(checks: dict[str, Any]) -> None:
    assert checks["halves"]
