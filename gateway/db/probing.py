"""Whether a database can be reached, of which schema it is, and whether it can be written, without a change.

What is written is taken back in the same transaction: a row where this version runs on the schema, else a
table, as `migrate` would make one.
"""

import asyncio
import importlib
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gateway.db.revision import current_revision, may_run_on
from gateway.errors import ConfigurationError
from gateway.urls import sqlite_path

_BUSY_TIMEOUT_S = 3.0
# A name that no deployment of anybody's has.
_ROW = (
    "INSERT INTO deployments (name, cooling_until_ms, busy_count, fault_count, broken_count) "
    "VALUES ('gateway check', 0, 0, 0, 0)"
)
_TABLE = "CREATE TABLE gateway_check (id INTEGER)"


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """``revision`` is None where there is no schema of ours yet; ``software`` has a name and a version."""

    revision: str | None
    software: str


def probe_statement(revision: str | None) -> str:
    """What is written, to be taken back."""
    return _ROW if may_run_on(revision) else _TABLE


async def probe_database(url: str) -> DatabaseState:
    """Reach it, read its revision, write, and take that back. A file that is not there is not made.

    Raises `ConfigurationError` with what is wrong.
    """
    path = sqlite_path(url)
    try:
        if path is not None:
            return await asyncio.to_thread(_probe_file, path)
        postgres = importlib.import_module("gateway.db.probing_postgres")
        state: DatabaseState = await postgres.probe(url)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"It cannot be used: {error}.") from error
    return state


def _probe_file(path: Path) -> DatabaseState:
    software = f"SQLite {sqlite3.sqlite_version}"
    if not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"it is not there, and cannot be made in {folder}")
        return DatabaseState(None, software)
    revision = current_revision(path)
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        try:
            raw.execute(probe_statement(revision))
        finally:
            raw.execute("ROLLBACK")
    return DatabaseState(revision, software)
