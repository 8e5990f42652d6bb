"""Cancel-After: what is understood, and what is refused by name."""

import pytest

from gateway.errors import InvalidRequest
from gateway.web.deadlines import parse_cancel_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("90s", 90), (" 90s ", 90), ("5m", 300), ("1h", 3600), ("900", 900), ("0900s", 900)],
)
def test_durations_are_seconds(text: str, seconds: int) -> None:
    assert parse_cancel_after([text], 3600) == seconds


def test_nothing_said_is_no_time() -> None:
    assert parse_cancel_after([], 900) is None


@pytest.mark.parametrize(
    "values",
    [[""], ["soon"], ["-5s"], ["1.5m"], ["5 m"], ["5M"], ["1d"], ["90s, 5m"], ["٩٠"], ["9999999999"],
     ["90s", "90s"]],
)  # fmt: skip
def test_what_is_no_duration_is_refused(values: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_cancel_after(values, 900)
    (fault,) = caught.value.fields
    assert (fault.field, fault.code) == ("Cancel-After", "invalid")


@pytest.mark.parametrize("text", ["0", "4", "4s", "901", "16m", "999999999h"])
def test_too_short_and_too_long_are_refused_with_what_will_do(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_cancel_after([text], 900.0)
    (fault,) = caught.value.fields
    assert (fault.field, fault.code) == ("Cancel-After", "out_of_range")
    assert fault.detail == "must be 5 to 900 seconds."
