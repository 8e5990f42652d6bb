"""How a PostgreSQL server is reached, how long it is waited for, and what its failures mean."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway.errors import ConfigurationError
from gateway.urls import cloud_sql_place, postgres_dsn

_CONNECT_TIMEOUT_S = 5.0
_STATEMENTS_KEPT = 200

# Chosen to end a deadlock, or in the way of another transaction.
_IN_THE_WAY = frozenset({"40001", "40P01"})
# Somebody else may have written meanwhile what was looked for and not found: looking again finds it.
_THERE_ALREADY = "23505"
# The server is going away, is not there yet, or has ended the session.
_LOST = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
# Also where the server has had no say; and a plan that a migration made void.
_LOST_OR_OUTDATED = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidCachedStatementError,
)

#: All that may come of the connection or of a statement. Timeouts are `OSError` too.
ERRORS = (
    sa.exc.DBAPIError,
    sa.exc.TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds after which something is given up; 0 is never.

    ``lock_s`` is also how long a connection from the pool is waited for. ``idle_s`` is less: a process that
    was stopped in the middle of a transaction must not keep out all who wait for its locks. After
    ``network_s`` more the server itself is taken to be out of reach.
    """

    statement_s: float = 60.0
    lock_s: float = 10.0
    idle_s: float = 5.0
    network_s: float = 5.0


USUAL = Patience()
LONG = Patience(statement_s=900.0)
ENDLESS = Patience(statement_s=0.0, lock_s=0.0, idle_s=0.0)
ALONE = Patience(statement_s=0.0, lock_s=3.0, idle_s=0.0)

#: How the server knows connections of gateways.
APPLICATION = "gateway"


class Server(Protocol):
    """Where a database is, and how a connection to it is opened."""

    async def connect(self, **options: Any) -> asyncpg.Connection:
        """``options`` are asyncpg's. Raises what is in `ERRORS`."""

    async def close(self) -> None:
        """Connections that were opened stay."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server that is reached as the ``dsn`` says."""

    dsn: str

    async def connect(self, **options: Any) -> asyncpg.Connection:
        return await asyncpg.connect(self.dsn, **options)

    async def close(self) -> None:
        """Nothing is kept."""


async def find_server(url: str) -> Server:
    """The server of a URL of PostgreSQL. Nothing of Google's is loaded unless it names an instance.

    Raises `ConfigurationError` where Google's connector is wanted and not installed, or has no credentials.
    """
    place = cloud_sql_place(url)
    if place is None:
        return Address(postgres_dsn(url))
    try:
        cloudsql = importlib.import_module("gateway.db.cloudsql")
    except ImportError as error:
        raise ConfigurationError(
            "Google's connector is not installed: pip install 'gateway[cloudsql]', or an image made with it.",
            internal=str(error),
        ) from error
    server: Server = await cloudsql.CloudSqlServer.open(place)
    return server


@asynccontextmanager
async def server_of(url: str) -> AsyncIterator[Server]:
    """As `find_server`, closed at the end."""
    server = await find_server(url)
    try:
        yield server
    finally:
        await server.close()


async def connect(server: Server, patience: Patience) -> asyncpg.Connection:
    """A connection as the gateway uses them: in UTC, and with an end to every kind of waiting."""
    return await server.connect(
        timeout=_CONNECT_TIMEOUT_S,
        command_timeout=patience.statement_s + patience.network_s if patience.statement_s else None,
        statement_cache_size=_STATEMENTS_KEPT,
        max_cached_statement_lifetime=0,
        server_settings={
            "application_name": APPLICATION,
            "timezone": "UTC",
            "statement_timeout": _milliseconds(patience.statement_s),
            "lock_timeout": _milliseconds(patience.lock_s),
            "idle_in_transaction_session_timeout": _milliseconds(patience.idle_s),
            # An accepted task survives a power cut, whatever the server does unless told.
            "synchronous_commit": "on",
            # Compiling a plan to machine code takes longer than any of ours.
            "jit": "off",
        },
    )


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def make_engine(server: Server, patience: Patience, **options: Any) -> AsyncEngine:
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(connect, server, patience),
        # Prompts have no place in a log.
        hide_parameters=True,
        **options,
    )


class Refused(Exception):
    """What the server said, without the values that it said it of."""

    def __init__(self, error: asyncpg.PostgresError) -> None:
        super().__init__(error.message)
        self.sqlstate = error.sqlstate


def cause_of(error: BaseException) -> BaseException:
    """What the driver said, from under what SQLAlchemy made of it."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def may_pass(cause: BaseException, tries: int) -> bool:
    """Whether another try may be luckier, after so many. Nothing must remain of the one that failed."""
    if isinstance(cause, TimeoutError | sa.exc.TimeoutError | ValueError):
        return False
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate == _THERE_ALREADY:
        return tries == 1
    return sqlstate in _IN_THE_WAY | _LOST or isinstance(cause, _LOST_OR_OUTDATED)


def said(cause: BaseException) -> str:
    """For the log: what went wrong, without the values that it went wrong with."""
    if isinstance(cause, asyncpg.DataError | ValueError):
        # What comes after the colon is the value.
        return str(cause).partition(":")[0]
    if isinstance(cause, sa.exc.TimeoutError):
        return "all connections were busy for too long"
    if isinstance(cause, TimeoutError):
        return "it does not answer"
    # Not str(): that adds DETAIL, which quotes the row.
    return str(cause.args[0]) if isinstance(cause, asyncpg.PostgresError) else str(cause)
