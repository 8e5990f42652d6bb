"""Which schema an SQLite file has, and which this version runs on; without the migration machinery."""

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.db.tables import SCHEMA_REVISION


def current_revision(path: Path) -> str | None:
    """The revision written in the file; None when there is no file or no schema yet."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path, timeout=10.0)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return row[0] if row else None


def may_run_on(revision: str | None) -> bool:
    """Whether this version runs on a schema as it is: its own, or that of the very next version.

    Revisions are counted. A version adds one at most, on which the version before goes on working: so both
    run side by side while one replaces the other, and the way back is open (DECISIONS.md, 58).
    """
    return revision is not None and revision in {SCHEMA_REVISION, f"{int(SCHEMA_REVISION) + 1:04}"}
