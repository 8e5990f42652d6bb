"""Durations, times and the word none, as they are written on the command line."""

import click
import pytest

from gateway.cli.values import DURATION, MOMENT, OrNone, Said

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("0s", 0), ("36500d", 3_153_600_000)],
)
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: int) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "1.5h", "-1d", "1w", "1h30m", "1H", " 1h", "1 h", "٣s"])
def test_what_is_no_duration_is_told_with_some_that_are(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration like 90s, 15m, 12h or 30d"):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize("text", ["36501d", "3153600001s", "9999999999d"])
def test_a_duration_has_an_end(text: str) -> None:
    """Beyond it are years that cannot be written."""
    with pytest.raises(click.BadParameter, match="is longer than 36500d"):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.250Z", 250),
        ("1970-01-01T00:00:00+00:00", 0),
        ("1970-01-01T01:00:00-01:00", 2 * HOUR_MS),
        ("2027-01-31T18:00:00+01:00", 1_801_414_800_000),
    ],
)
def test_a_time_has_an_offset(text: str, ms: int) -> None:
    assert MOMENT.convert(text, None, None) == ms


@pytest.mark.parametrize(
    "text",
    ["", "now", "2027-01-31", "2027-01-31T18:00:00", "2027-02-30T00:00:00Z", "9999-12-31T23:00:00-05:00"],
)
def test_what_is_no_time_is_told_with_some_that_are(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time like 2027-01-31T18:00:00Z"):
        MOMENT.convert(text, None, None)


def test_none_is_said_and_not_merely_left_out() -> None:
    number = OrNone(click.INT)
    assert number.convert("none", None, None) == Said(None)
    assert number.convert("7", None, None) == Said(7)


@pytest.mark.parametrize("text", ["None", "no", ""])
def test_only_the_word_none_is_none(text: str) -> None:
    with pytest.raises(click.BadParameter):
        OrNone(click.INT).convert(text, None, None)


@pytest.mark.parametrize(("typed", "offered"), [("", ["wav", "none"]), ("n", ["none"]), ("w", ["wav"])])
def test_none_is_offered_to_whoever_lets_the_shell_complete(typed: str, offered: list[str]) -> None:
    option = click.Option(["--format"], type=OrNone(click.Choice(["wav"])))
    found = option.shell_complete(click.Context(click.Command("update")), typed)
    assert [item.value for item in found] == offered
