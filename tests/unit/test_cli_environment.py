"""How our errors end a command: a line on stderr, and a code."""

import click
import pytest

from gateway.cli.environment import fail
from gateway.errors import (
    ConfigurationError,
    Conflict,
    FieldError,
    GatewayError,
    InvalidRequest,
    Unavailable,
)

COMMAND = click.Command(
    "update",
    params=[
        click.Argument(["name"]),
        click.Option(["--rpm"]),
        click.Option(["--model", "allowed_models"]),
        click.Option(["--idempotency-key"]),
        click.Option(["--price-multiplier", "price_ppm"]),
        click.Option(["--expires-in", "expires_in_s"]),
        click.Option(["--expires-at", "expires_at_ms"]),
    ],
)


def told(error: GatewayError, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    with COMMAND.make_context("update", ["acme", *words]), pytest.raises(SystemExit) as ended:
        fail(error)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(Conflict("It is there."), 1), (ConfigurationError("It is there."), 2)]
)
def test_an_error_is_a_line_and_a_code(
    capsys: pytest.CaptureFixture[str], error: GatewayError, code: int
) -> None:
    assert told(error, capsys) == (code, "error: It is there.\n")


def test_what_is_for_the_operator_is_on_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = Unavailable("The database is away.", internal="disk I/O error\n  at page 7")
    assert told(error, capsys) == (1, "error: The database is away. (disk I/O error at page 7)\n")


@pytest.mark.parametrize(
    ("field", "spelling"),
    [
        ("rpm", "--rpm"),
        ("allowed_models", "--model"),
        ("price_multiplier", "--price-multiplier"),
        ("price_ppm", "--price-multiplier"),
        ("Idempotency-Key", "--idempotency-key"),
        # Not an option here, so it is left as the service calls it.
        ("name", "name"),
        ("weight", "weight"),
    ],
)
def test_fields_are_named_as_the_options_that_set_them(
    capsys: pytest.CaptureFixture[str], field: str, spelling: str
) -> None:
    error = InvalidRequest((FieldError(field, "invalid", "will not do."),))
    assert told(error, capsys) == (1, f"error: {spelling}: will not do.\n")


@pytest.mark.parametrize("used", ["--expires-in", "--expires-at"])
def test_of_two_options_the_one_that_was_used_is_named(capsys: pytest.CaptureFixture[str], used: str) -> None:
    error = InvalidRequest((FieldError("expires_at", "past", "is over."), FieldError("rpm", "x", "is high.")))
    assert told(error, capsys, used, "1") == (1, f"error: {used}: is over. --rpm: is high.\n")
