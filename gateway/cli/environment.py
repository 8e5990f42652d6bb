"""The one place that reads the environment into settings, and that turns our errors into exit codes.

Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeVar

import click
from pydantic import ValidationError

from gateway.accounts.service import Accounts
from gateway.bootstrap import SystemClock, make_accounts, open_database
from gateway.errors import ConfigurationError, GatewayError
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


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    async with open_database(settings) as database:
        yield make_accounts(database, SystemClock())
