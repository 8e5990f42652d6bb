"""The log that lets tests prove how many calls were paid."""

from gateway.emulator.calls import REMEMBERED_CALLS, CallLog, Outcome


def a_call(log: CallLog, outcome: Outcome, *, clips: int | None = None, model: str = "lyria-002") -> None:
    call = log.begin(model, "/path", authorized=True)
    if clips is not None:
        log.pay(call, clips)
    log.end(call, outcome)


def test_a_call_is_paid_from_the_moment_the_model_begins():
    log = CallLog()
    call = log.begin("lyria-002", "/path", authorized=False)
    log.pay(call, 4)
    report = log.report()
    assert (report["received"], report["paid"], report["clips"], report["running"]) == (1, 1, 4, 1)
    assert report["calls"][0]["paid"]
    assert report["calls"][0]["outcome"] == "running"


def test_calls_that_were_cut_stay_paid_and_blocked_ones_are_free():
    log = CallLog()
    a_call(log, Outcome.CUT, clips=2)
    a_call(log, Outcome.BLOCKED)
    a_call(log, Outcome.ANSWERED, clips=1, model="musicgen")
    report = log.report()
    assert (report["paid"], report["clips"], report["cut"], report["blocked"], report["answered"]) == (
        2,
        3,
        1,
        1,
        1,
    )
    assert report["by_model"]["musicgen"]["paid"] == 1
    assert report["by_model"]["lyria-002"]["received"] == 2


def test_the_most_calls_at_once_are_remembered():
    log = CallLog()
    calls = [log.begin("lyria-002", "/path", authorized=True) for _ in range(3)]
    for call in calls:
        log.end(call, Outcome.ANSWERED)
    a_call(log, Outcome.ANSWERED)
    report = log.report()
    assert (report["peak_running"], report["running"]) == (3, 0)


def test_only_the_last_thousand_are_listed_but_all_are_counted():
    log = CallLog()
    for _ in range(REMEMBERED_CALLS + 5):
        a_call(log, Outcome.INVALID)
    report = log.report()
    assert len(report["calls"]) == REMEMBERED_CALLS
    assert report["invalid"] == REMEMBERED_CALLS + 5
    assert report["calls"][0]["number"] == 6


def test_a_call_that_outlives_a_clearing_is_not_counted_after_it():
    log = CallLog()
    call = log.begin("lyria-002", "/path", authorized=True)
    log.clear()
    log.pay(call, 1)
    log.end(call, Outcome.ABANDONED)
    report = log.report()
    assert (report["received"], report["paid"], report["abandoned"], report["running"]) == (0, 0, 0, 0)
    assert report["calls"] == []
