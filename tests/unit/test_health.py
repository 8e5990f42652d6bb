"""What an answer says of the deployment that gave it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.db.deployments import WELL, Health
from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.tasks import health
from gateway.tasks.health import FAULTS_IN_A_ROW, after_answer

NOW_MS = 1_800_000_000_000


def an_error(fault: AttemptFault, **changes: Any) -> UpstreamError:
    return UpstreamError("so it is", **({"code": ErrorCode.MODEL_UNAVAILABLE, "fault": fault} | changes))


BROKEN = an_error(AttemptFault.BROKEN)
BUSY = an_error(AttemptFault.BUSY)


def after(
    before: Health, error: UpstreamError | None, *last_faults: str | None, jitter: float = 0.0
) -> Health:
    return after_answer(before, error, last_faults=last_faults, now_ms=NOW_MS, jitter=jitter)


def cooled_s(state: Health) -> float:
    return (state.cooling_until_ms - NOW_MS) / 1000


def broken_s(state: Health) -> float | None:
    return None if state.broken_until_ms is None else (state.broken_until_ms - NOW_MS) / 1000


def test_busy_cools_down_for_as_long_as_it_says() -> None:
    busy = an_error(AttemptFault.BUSY, retry_after_s=17)
    assert cooled_s(after(WELL, busy)) == 17
    assert cooled_s(after(WELL, busy, jitter=0.5)) == 17.5


def test_busy_without_a_word_cools_down_longer_each_time() -> None:
    found, state = [], WELL
    for _ in range(8):
        state = after(replace(state, cooling_until_ms=0), BUSY, jitter=0.5)
        found.append(cooled_s(state))
    assert found == [1.5, 3.0, 6.0, 12.0, 24.0, 45.0, 45.0, 45.0]


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    state = after(WELL, an_error(AttemptFault.BUSY, retry_after_s=60))
    assert cooled_s(after(state, BUSY)) == 60
    assert cooled_s(after(state, an_error(AttemptFault.BUSY, retry_after_s=20))) == 60
    assert cooled_s(after(state, an_error(AttemptFault.BUSY, retry_after_s=70))) == 70


def test_calls_that_were_under_way_together_are_told_once() -> None:
    """Eight at once that are all refused are one sign of trouble, not eight in a row."""
    once = after(WELL, BUSY)
    assert after(once, BUSY) == once
    broken = Health(fault_count=5, broken_until_ms=NOW_MS + 1, broken_count=1)
    assert after(broken, BROKEN) == replace(broken, fault_count=6)


def test_busy_is_not_broken() -> None:
    state = WELL
    for _ in range(50):
        state = after(state, BUSY)
    assert broken_s(state) is None


def test_so_many_faults_in_a_row_are_broken() -> None:
    state = WELL
    for number in range(1, FAULTS_IN_A_ROW):
        state = after(state, BROKEN)
        assert (state.fault_count, broken_s(state)) == (number, None)
    assert broken_s(after(state, BROKEN)) == 5.0


@pytest.mark.parametrize("error", [None, an_error(AttemptFault.REFUSED), an_error(AttemptFault.RECITATION)])
def test_any_real_answer_makes_it_well(error: UpstreamError | None) -> None:
    """A refusal is an answer: the model is there, and looked at the prompt."""
    ill = Health(NOW_MS + 5, busy_count=2, fault_count=9, broken_until_ms=NOW_MS, broken_count=3)
    assert after(ill, error) == WELL


def test_a_probe_that_fails_keeps_it_broken_longer_each_time() -> None:
    found, state = [], Health(fault_count=5, broken_until_ms=NOW_MS, broken_count=0)
    for _ in range(6):
        state = after(replace(state, broken_until_ms=NOW_MS), BROKEN, jitter=0.5)
        found.append(broken_s(state))
    assert found == [7.5, 15.0, 30.0, 45.0, 45.0, 45.0]


@pytest.mark.parametrize(
    ("last", "is_broken"),
    [
        ([None] * 10 + ["broken"] * 10, True),
        ([None] * 11 + ["broken"] * 9, False),
        (["broken"] * 9, False),
        ([None] * 5 + ["unknown"] * 5, True),
        ([None] * 5 + ["busy"] * 5, False),
        ([None] * 5 + ["refused"] * 5, False),
    ],
)
def test_so_large_a_share_of_faults_is_broken(last: list[str | None], is_broken: bool) -> None:
    assert (broken_s(after(WELL, BROKEN, *last)) is not None) is is_broken


def test_one_that_only_the_operator_can_mend_is_broken_at_once() -> None:
    assert broken_s(after(WELL, an_error(AttemptFault.MISCONFIGURED))) is not None


def test_what_storage_would_not_take_is_no_fault_of_the_providers() -> None:
    unstored = an_error(AttemptFault.UNKNOWN, code=ErrorCode.STORAGE_FAILED)
    assert not health.is_providers(unstored)
    assert after(Health(fault_count=4), unstored) == WELL


@given(
    st.lists(st.sampled_from([None, *AttemptFault]), max_size=60),
    st.floats(0, 1, exclude_max=True),
)
def test_no_pause_is_longer_than_a_minute(faults: list[AttemptFault | None], jitter: float) -> None:
    state = WELL
    for fault in faults:
        state = after(state, None if fault is None else an_error(fault), jitter=jitter)
        assert cooled_s(state) <= 60
        assert (broken_s(state) or 0) <= 60
