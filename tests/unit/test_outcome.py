"""What follows a call to a model: the one place where retries are decided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.metrics import CallOutcome
from gateway.model import MusicSpec, TaskError, TaskState
from gateway.tasks.outcome import UNCOUNTED, Again, Finish, Progress, Supply, after_call
from tests.factories import a_key, a_task, a_tenant

KEY = a_key(a_tenant())
COUNTED = [fault for fault in AttemptFault if fault not in UNCOUNTED]
FINAL = [AttemptFault.REFUSED, AttemptFault.MISCONFIGURED]
RETRIED = [AttemptFault.UNKNOWN, AttemptFault.BROKEN, AttemptFault.RECITATION]


def an_error(fault: AttemptFault, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError("why", code=ErrorCode.MODEL_UNAVAILABLE, fault=fault, retry_after_s=retry_after_s)


def progress(clips: int = 1, seed: int | None = None, **changes) -> Progress:
    task = a_task(KEY, spec=MusicSpec("x", sample_count=clips, seed=seed))
    values = {"stored": 0, "spent": 1, "spent_limit": 4, "tried": 1, "left_s": 900.0}
    return Progress(task=task, **(values | changes))


def test_all_clips_stored_is_success() -> None:
    assert after_call(progress(clips=2, stored=2), None, 0.5) == Finish(TaskState.SUCCEEDED, None)


def test_all_clips_stored_is_success_whatever_came_after_them() -> None:
    error = an_error(AttemptFault.UNKNOWN)
    assert after_call(progress(stored=1, left_s=-5), error, 0.5) == Finish(TaskState.SUCCEEDED, None)


@pytest.mark.parametrize("fault", FINAL)
def test_what_will_not_change_fails_at_once(fault: AttemptFault) -> None:
    expected = Finish(TaskState.FAILED, TaskError("model_unavailable", "why"))
    assert after_call(progress(), an_error(fault), 0.0) == expected


@pytest.mark.parametrize("fault", RETRIED)
def test_what_may_pass_is_tried_again_within_the_limit(fault: AttemptFault) -> None:
    assert isinstance(after_call(progress(spent=3), an_error(fault), 0.5), Again)
    assert isinstance(after_call(progress(spent=4), an_error(fault), 0.5), Finish)


@pytest.mark.parametrize("fault", sorted(UNCOUNTED))
def test_what_reached_no_model_is_not_held_against_the_task(fault: AttemptFault) -> None:
    elsewhere = Supply(another=True)
    assert isinstance(after_call(progress(spent=4, tried=50), an_error(fault), 0.5, elsewhere), Again)


def test_recitation_with_a_seed_of_the_callers_fails() -> None:
    assert isinstance(after_call(progress(seed=7), an_error(AttemptFault.RECITATION), 0.0), Finish)


def test_recitation_is_tried_again_at_once() -> None:
    assert after_call(progress(), an_error(AttemptFault.RECITATION), 0.9) == Again(0.0, "recitation")


def test_fewer_clips_without_a_word_are_asked_for_again() -> None:
    assert isinstance(after_call(progress(clips=4, stored=3), None, 0.5), Again)


def test_clips_that_never_came_end_in_success_with_a_reason() -> None:
    end = after_call(progress(clips=4, stored=3, spent=4), None, 0.5)
    assert isinstance(end, Finish)
    assert end.state is TaskState.SUCCEEDED
    assert end.error is not None
    assert end.error.code == "model_answer_invalid"


def test_no_clips_and_no_reason_ends_in_failure() -> None:
    end = after_call(progress(clips=4, spent=4), None, 0.5)
    assert isinstance(end, Finish)
    assert end.state is TaskState.FAILED


@pytest.mark.parametrize("fault", COUNTED)
def test_what_was_delivered_is_kept_when_the_rest_fails(fault: AttemptFault) -> None:
    end = after_call(progress(clips=2, stored=1, spent=4, seed=1), an_error(fault), 0.5)
    assert end == Finish(TaskState.SUCCEEDED, TaskError("model_unavailable", "why"))


def test_a_wait_that_was_asked_for_is_kept_and_spread() -> None:
    error = an_error(AttemptFault.NOT_SENT, retry_after_s=20)
    assert after_call(progress(tried=1), error, 0.0) == Again(20.0, "not_sent")
    assert after_call(progress(tried=1), error, 0.5) == Again(20.5, "not_sent")


def test_busy_waits_until_some_deployment_takes_calls_again() -> None:
    """Where another can take it now, it goes there now."""
    error = an_error(AttemptFault.BUSY, retry_after_s=20)
    assert after_call(progress(), error, 0.5, Supply(wait_s=7.5)) == Again(7.5, "busy")
    assert after_call(progress(), error, 0.5, Supply(another=True)) == Again(0.0, "busy")


def test_a_wait_beyond_the_deadline_fails_now() -> None:
    error, supply = an_error(AttemptFault.BUSY), Supply(wait_s=20.0)
    assert isinstance(after_call(progress(left_s=20.0), error, 0.0, supply), Finish)
    assert isinstance(after_call(progress(left_s=20.1), error, 0.0, supply), Again)


def test_what_one_deployment_cannot_do_another_may() -> None:
    error = an_error(AttemptFault.MISCONFIGURED)
    assert after_call(progress(), error, 0.5, Supply(wait_s=3.0, another=True)) == Again(3.0, "misconfigured")


@pytest.mark.parametrize("left_s", [0.0, -1.0])
@pytest.mark.parametrize("fault", list(AttemptFault))
def test_no_time_left_is_the_end(fault: AttemptFault, left_s: float) -> None:
    assert isinstance(after_call(progress(left_s=left_s), an_error(fault), 0.0), Finish)


@given(
    st.sampled_from([AttemptFault.UNKNOWN, AttemptFault.BROKEN, AttemptFault.NOT_SENT]),
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
)
def test_pauses_grow_to_half_a_minute_and_no_further(fault: AttemptFault, tried: int, jitter: float) -> None:
    again = after_call(progress(tried=tried), an_error(fault), jitter)
    assert isinstance(again, Again)
    assert 0 <= again.delay_s <= min(30.0, 0.5 * 2 ** min(tried, 10))


def test_jitter_is_full() -> None:
    error = an_error(AttemptFault.BROKEN)
    assert after_call(progress(tried=20), error, 0.0) == Again(0.0, "broken")
    assert after_call(progress(tried=20), error, 0.5) == Again(15.0, "broken")


@pytest.mark.parametrize("fault", list(AttemptFault))
def test_every_fault_is_counted_by_name(fault: AttemptFault) -> None:
    assert CallOutcome(fault.value).value == fault.value
