"""Amounts as text: exact both ways, or refused."""

from decimal import Decimal

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.money import DOLLARS, DOLLARS_OR_NONE, FACTOR, SIGNED_DOLLARS
from gateway.cli.values import Said
from gateway.units import format_usd, parse_millionths

MICROS = st.integers(-(10**15) + 1, 10**15 - 1)


@pytest.mark.parametrize(
    ("text", "millionths"),
    [
        ("0", 0),
        ("25", 25_000_000),
        ("0.06", 60_000),
        ("0.000001", 1),
        ("-0.01", -10_000),
        ("1.250000", 1_250_000),
        ("007.5", 7_500_000),
        ("999999999.999999", 999_999_999_999_999),
    ],
)
def test_decimals_are_read_exactly(text: str, millionths: int) -> None:
    assert parse_millionths(text) == millionths


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "-",
            ".5",
            "5.",
            "1,5",
            "1_000",
            "$5",
            "+5",
            "--5",
            "1e3",
            "1E999999999",
            "nan",
            "inf",
            "-inf",
        ),
        *(
            "0.0000001",
            "1.00000000000000000000000000000000001",
            "1000000000",
            "٣",
            "²",
            "1 ",
            " 1",
            "1\n",
            "0x10",
        ),
    ],
)
def test_anything_else_is_refused_not_rounded(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_millionths(text)


@given(MICROS)
def test_what_is_written_is_read_as_the_same(micros: int) -> None:
    text = format_usd(micros)
    assert parse_millionths(text) == micros == int(Decimal(text) * 1_000_000)
    assert len(text.partition(".")[2]) >= 2


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0.00"), (1, "0.000001"), (-1, "-0.000001"), (60_000, "0.06"), (-1_500_000, "-1.50")],
)
def test_dollars_have_cents(micros: int, text: str) -> None:
    assert format_usd(micros) == text


@pytest.mark.parametrize("kind", [DOLLARS, FACTOR, DOLLARS_OR_NONE])
def test_less_than_nothing_is_refused(kind: "click.ParamType[object]") -> None:
    with pytest.raises(click.BadParameter, match="less than nothing"):
        kind.convert("-0.01", None, None)


def test_a_credit_is_less_than_nothing() -> None:
    assert SIGNED_DOLLARS.convert("-0.01", None, None) == -10_000


def test_what_is_no_number_is_said_to_be_none() -> None:
    with pytest.raises(click.BadParameter, match="'much' is not a number"):
        DOLLARS.convert("much", None, None)


def test_a_limit_is_an_amount_or_none() -> None:
    assert DOLLARS_OR_NONE.convert("0", None, None) == Said(0)
    assert DOLLARS_OR_NONE.convert("none", None, None) == Said(None)
