"""The one place that reads the environment into settings, and that turns our errors into exit codes.

Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration.
"""

import asyncio
import getpass
import os
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

import click
from pydantic import ValidationError

from gateway.errors import ConfigurationError, GatewayError
from gateway.model import Act
from gateway.settings import Settings, unknown_names, variable_name

T = TypeVar("T")


def read_settings() -> Settings:
    """Settings from the environment. Ends the program with a line per mistake."""
    try:
        settings = Settings()
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            field = str(detail["loc"][0]) if detail["loc"] else ""
            name = variable_name(field) if field in Settings.model_fields else field
            click.echo(f"{name}: {detail['msg']}".removeprefix(": "), err=True)
        raise SystemExit(2) from None
    for name in unknown_names(dict(os.environ)):  # noqa: TID251 - only the names, to tell of typos
        click.echo(f"warning: {name} is not a setting of this version and is ignored", err=True)
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; our errors become a line on stderr and an exit code."""
    try:
        return asyncio.run(work)
    except GatewayError as error:
        fail(error)


def fail(error: GatewayError) -> NoReturn:
    click.echo(f"error: {error.detail}", err=True)
    if error.internal:
        click.echo(f"  ({error.internal})", err=True)
    raise SystemExit(2 if isinstance(error, ConfigurationError) else 1) from error


def this_user() -> Act:
    """Whoever runs this command, for the audit log."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # In a container a user need not have a name.
        name = str(os.getuid())
    return Act(actor=f"cli:{name}", source="cli")
