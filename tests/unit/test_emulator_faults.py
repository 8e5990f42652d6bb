"""The script of faults: what may be asked for, whom it strikes, and when it is used up."""

import json

import pytest

from gateway.emulator.faults import NO_FAULT, Fault, FaultQueue, FaultRefused, read_faults
from gateway.emulator.pages.registry import NAMES
from gateway.emulator.vertex import PredictRequest

LYRIA = PredictRequest("lyria-002", "projects/p/locations/l/publishers/google/models/lyria-002", "a song")
MUSICGEN = PredictRequest("musicgen", "projects/p/locations/l/endpoints/7", "a tune")


def queue_of(*faults: Fault) -> FaultQueue:
    queue = FaultQueue()
    queue.add(list(faults))
    return queue


def test_an_empty_queue_does_nothing():
    assert FaultQueue().take(LYRIA, "/x") is NO_FAULT


def test_faults_are_taken_in_order_and_once():
    queue = queue_of(Fault(status=500), Fault(status=503))
    assert [queue.take(LYRIA, "/x").status for _ in range(3)] == [500, 503, None]


def test_a_fault_may_be_used_several_times():
    queue = queue_of(Fault(status=500, times=2), Fault(status=503))
    assert len(queue) == 3
    assert [queue.take(LYRIA, "/x").status for _ in range(4)] == [500, 500, 503, None]


def test_a_fault_for_one_model_waits_for_it():
    queue = queue_of(Fault(status=500, model="musicgen"), Fault(status=503))
    assert queue.take(LYRIA, "/x").status == 503
    assert queue.take(LYRIA, "/x") is NO_FAULT
    assert queue.take(MUSICGEN, "/x").status == 500


def test_a_fault_may_be_for_a_path_or_a_prompt():
    assert Fault(path="/endpoints/7").matches(MUSICGEN, "/v1/projects/p/locations/l/endpoints/7:predict")
    assert not Fault(path="/endpoints/7").matches(MUSICGEN, "/v1/projects/p/locations/l/endpoints/8:predict")
    assert Fault(prompt="tune").matches(MUSICGEN, "/")
    assert not Fault(prompt="tune").matches(LYRIA, "/")


def test_clearing_forgets_what_waits():
    queue = queue_of(Fault(status=500, times=5))
    queue.clear()
    assert len(queue) == 0


def test_one_fault_or_a_list_can_be_read():
    assert read_faults({"status": 429}, NAMES) == [Fault(status=429)]
    assert read_faults([{"hang": True}, {"error_entries": [1]}], NAMES) == [
        Fault(hang=True),
        Fault(error_entries=(1,)),
    ]


@pytest.mark.parametrize(
    "document",
    [
        "x",
        [7],
        {"kind": "status"},
        {"times": 0},
        {"times": True},
        {"status": 200},
        {"status": "500"},
        {"preset": "sunday"},
        {"model": "lyria-009"},
        {"delay_s": -1},
        {"delay_s": "1"},
        {"cut_at_byte": -1},
        {"chunk_bytes": 0},
        {"hang": 1},
        {"error_entries": 1},
        {"error_entries": [-1]},
        {"retry_after": 1.5},
        {"message": 4},
    ],
)
def test_a_script_with_a_mistake_is_refused(document):
    with pytest.raises(FaultRefused):
        read_faults(document, NAMES)


def test_the_refusal_of_an_unknown_word_lists_the_known_ones():
    with pytest.raises(FaultRefused, match=r"Unknown in a fault: kind\. Known: .*cut_at_byte.*whitespace"):
        read_faults({"kind": "status"}, NAMES)


def test_a_status_has_googles_envelope():
    fault = Fault(status=503, message="come back")
    error = fault.error(LYRIA)
    assert error is not None
    body, media_type = fault.error_body(error)
    assert json.loads(body) == {"error": {"code": 503, "message": "come back", "status": "UNAVAILABLE"}}
    assert media_type.startswith("application/json")


def test_a_status_may_have_another_body():
    error = Fault(status=502).error(LYRIA)
    assert error is not None
    assert Fault(body="<html>Bad Gateway").error_body(error) == (
        b"<html>Bad Gateway",
        "text/html; charset=UTF-8",
    )
    assert json.loads(Fault(body={"oops": 1}).error_body(error)[0]) == {"oops": 1}


def test_a_status_may_name_itself():
    error = Fault(status=400, error_status="FAILED_PRECONDITION").error(LYRIA)
    assert error is not None
    assert error.status == "FAILED_PRECONDITION"


def test_the_preset_not_found_names_the_model_that_was_called():
    error = Fault(preset="not_found").error(LYRIA)
    assert error is not None
    assert LYRIA.resource in error.message


def test_a_fault_within_an_answer_is_no_error():
    assert Fault(cut_at_byte=10).error(LYRIA) is None
