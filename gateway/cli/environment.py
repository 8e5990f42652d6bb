"""The one place that reads the environment into settings, and that turns our errors into exit codes.

README, "Exit codes", has them for people.
"""

import asyncio
import getpass
import os
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource
from pydantic import ValidationError

from gateway.bootstrap.services import Office, open_office
from gateway.errors import ConfigurationError, GatewayError, InvalidRequest
from gateway.model import Act
from gateway.settings import Settings, unknown_names, variable_name

T = TypeVar("T")

# Where an option is spelled otherwise than the field that it sets: parameter name to field.
_OTHER_FIELDS = {"expires_in_s": "expires_at"}


class Exit(IntEnum):
    """How a command ends when it is not done; 2 is also click's own for wrong usage."""

    FAILED = 1
    MISCONFIGURED = 2
    NOT_CONFIRMED = 3


def read_settings() -> Settings:
    """Settings from the environment. Ends the program with a line per mistake."""
    try:
        settings = Settings()
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            field = str(detail["loc"][0]) if detail["loc"] else ""
            name = variable_name(field) if field in Settings.model_fields else field
            click.echo(f"{name}: {detail['msg']}".removeprefix(": "), err=True)
        raise SystemExit(Exit.MISCONFIGURED) from None
    for name in unknown_names(dict(os.environ)):  # noqa: TID251 - only the names, to tell of typos
        click.echo(f"warning: {name} is not a setting of this version and is ignored", err=True)
    if settings.no_color:
        click.get_current_context().color = False
    return settings


def at_office(settings: Settings, work: Callable[[Office], Coroutine[Any, Any, T]]) -> T:
    """Do a piece of administration on the configured database; our errors end the program."""

    async def opened() -> T:
        async with open_office(settings) as office:
            return await work(office)

    return run(opened())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; our errors become a line on stderr and an exit code."""
    try:
        return asyncio.run(work)
    except GatewayError as error:
        fail(error)


def fail(error: GatewayError) -> NoReturn:
    said = _in_options(error) if isinstance(error, InvalidRequest) else error.detail
    because = f" ({' '.join(error.internal.split())})" if error.internal else ""
    click.echo(f"error: {said}{because}", err=True)
    code = Exit.MISCONFIGURED if isinstance(error, ConfigurationError) else Exit.FAILED
    raise SystemExit(code) from error


def this_user() -> Act:
    """Whoever runs this command, for the audit log."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # In a container a user need not have a name.
        name = str(os.getuid())
    return Act(actor=f"cli:{name}", source="cli")


def _in_options(error: InvalidRequest) -> str:
    """What is wrong, with each field under the name of the option that sets it."""
    context = click.get_current_context()
    options = [each for each in context.command.params if isinstance(each, click.Option)]
    # Of two options that set one field, the one that was used comes first.
    options.sort(key=lambda each: context.get_parameter_source(each.name or "") is ParameterSource.DEFAULT)
    names = {name: each.opts[0] for each in reversed(options) for name in _fields(each)}
    return " ".join(f"{names.get(_plain(each.field), each.field)}: {each.detail}" for each in error.fields)


def _fields(option: click.Option) -> set[str]:
    """The fields that an option may stand for: its parameter's name, and what it is spelled like."""
    name = option.name or ""
    return {name, _OTHER_FIELDS.get(name, name), _plain(option.opts[0].removeprefix("--"))}


def _plain(field: str) -> str:
    """As parameters are named: ``Idempotency-Key`` is ``idempotency_key``."""
    return field.lower().replace("-", "_")
