"""An installation's rows from one database to another, with both held alone meanwhile.

Loaded by the command that does it, and by nothing that serves: it knows both kinds of database.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.util.concurrency import greenlet_spawn

from gateway.db.connecting import ERRORS, cause_of, said
from gateway.db.copying import Copied, Progress, copy_all, tables_in_order
from gateway.db.engine import Tx
from gateway.db.opening import hold_alone, migrate, read_revision
from gateway.db.tables import SCHEMA_REVISION
from gateway.errors import ConfigurationError, Conflict, ErrorCode, GatewayError, Unavailable
from gateway.urls import printable_url, sqlite_path

_ALL_ERRORS = (*ERRORS, sqlite3.Error)
_LOCKED = "database is locked"
# PostgreSQL's word that a lock did not come in time.
_LOCK_NOT_AVAILABLE = "55P03"


async def check_ends(from_url: str, to_url: str) -> None:
    """Whether there is something to copy, and no database of another version to copy it into.

    Changes nothing. Raises `ConfigurationError`.
    """
    if from_url == to_url or _is_same_file(sqlite_path(from_url), sqlite_path(to_url)):
        raise ConfigurationError("Both are the same database.")
    source = await read_revision(from_url)
    if source is None:
        raise ConfigurationError(f"There is no gateway's database at {printable_url(from_url)}.")
    if source != SCHEMA_REVISION:
        raise ConfigurationError(
            f"The database {printable_url(from_url)} has the schema {source}, and this version copies "
            f"{SCHEMA_REVISION}. Bring it there with gateway migrate, or use the version that wrote it."
        )
    target = await read_revision(to_url)
    if target not in {None, SCHEMA_REVISION}:
        raise ConfigurationError(
            f"The database {printable_url(to_url)} has the schema {target} already, and this version copies "
            f"{SCHEMA_REVISION}. Name a new database."
        )


async def move(from_url: str, to_url: str, told: Progress) -> tuple[Copied, ...]:
    """Copy everything from one database into another that is new or empty, in one transaction of the latter.

    The source must be of this version's schema and keeps all it has; the target is migrated where it is new.
    Whatever goes wrong, no row is left there. Raises `ConfigurationError` where one of the two will not do,
    `Conflict` where one is in use, has rows already or does not add up, `Unavailable` when one is lost.
    """
    await check_ends(from_url, to_url)
    async with _held(from_url) as source:
        file = await _identity(from_url)
        await migrate(to_url)
        async with _held(to_url) as target:
            try:
                copied: tuple[Copied, ...] = await greenlet_spawn(copy_all, source, target, told)
            except _ALL_ERRORS as error:
                raise _lost("The copy was broken off, and nothing of it is left.", error) from None
            if await _identity(from_url) != file:
                raise Conflict("The source's file was replaced meanwhile, so nothing was copied.")
    return copied


@asynccontextmanager
async def _held(url: str) -> AsyncIterator[Tx]:
    """Raises our own errors only, as far as they come of this database."""
    is_open = False
    try:
        async with hold_alone(url, tables_in_order()) as tx:
            is_open = True
            yield tx
    except _ALL_ERRORS as error:
        if is_open:
            where = printable_url(url)
            raise _lost(f"{where} was lost as it was to commit: see what is there.", error) from None
        raise _unusable(url, error) from None


def _unusable(url: str, error: BaseException) -> GatewayError:
    cause, where = cause_of(error), printable_url(url)
    if getattr(cause, "sqlstate", None) == _LOCK_NOT_AVAILABLE or str(cause) == _LOCKED:
        return Conflict(
            f"The database {where} is in use. Stop each gateway that serves it, and whoever else has it open."
        )
    return ConfigurationError(f"The database {where} cannot be used: {said(cause)}.")


def _lost(detail: str, error: BaseException) -> Unavailable:
    return Unavailable(detail, code=ErrorCode.DATABASE_UNAVAILABLE, internal=said(cause_of(error)))


def _is_same_file(one: Path | None, other: Path | None) -> bool:
    return one is not None and other is not None and one.resolve() == other.resolve()


async def _identity(url: str) -> tuple[int, int] | None:
    """Which file is at the path; None for a server, or where there is none."""
    path = sqlite_path(url)
    try:
        found = await asyncio.to_thread(path.stat) if path is not None else None
    except FileNotFoundError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)
