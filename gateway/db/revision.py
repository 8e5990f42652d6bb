"""Which schema an SQLite file has, told without loading the migration machinery."""

import sqlite3
from contextlib import closing
from pathlib import Path


def current_revision(path: Path) -> str | None:
    """The revision written in the file; None when there is no file or no schema yet."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path, timeout=10.0)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return row[0] if row else None
