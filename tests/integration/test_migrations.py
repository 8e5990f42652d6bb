"""Migrations: what they build is what the code expects, whole or not at all, however many start at once."""

import fcntl
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import gateway.db.migrate
import gateway.db.webhook_tables  # noqa: F401 - its tables are among those compared
from gateway.db.migrate import migrate
from gateway.db.reconciliation import find_differences
from gateway.db.revision import current_revision
from gateway.db.tables import SCHEMA_REVISION, metadata
from gateway.errors import ConfigurationError

SCRIPTS = Path(gateway.db.migrate.__file__).parent / "migrations"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down" / "gateway.db"


def schema(path: Path) -> dict[str, str]:
    """Every table and index, as SQLite keeps its definition, whatever its spacing."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in rows}


def constraints(path: Path) -> dict[str, set[str]]:
    """The checks of each table, which Alembic does not compare."""
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        return {
            table: {f"{each['name']}: {each['sqltext']}" for each in inspector.get_check_constraints(table)}
            for table in inspector.get_table_names()
            if table != "alembic_version"
        }


def run_alembic(path: Path, action: str, revision: str) -> None:
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        getattr(command, action)(config, revision)


def test_a_fresh_database_is_what_the_tables_say(path: Path) -> None:
    migrate(path)
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_indexes_and_checks_are_what_the_tables_say(path: Path, tmp_path: Path) -> None:
    migrate(path)
    expected = tmp_path / "expected.db"
    engine = sa.create_engine(f"sqlite:///{expected}", poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        metadata.create_all(connection)
    made, wanted = schema(path), schema(expected)
    assert {name: sql for name, sql in made.items() if "INDEX" in sql.split(" (")[0]} == {
        name: sql for name, sql in wanted.items() if "INDEX" in sql.split(" (")[0]
    }
    assert constraints(path) == constraints(expected)
    assert any(constraints(path)["tasks"])


def test_the_code_knows_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_the_revision_is_told_without_alembic(path: Path) -> None:
    assert current_revision(path) is None
    migrate(path)
    assert current_revision(path) == SCHEMA_REVISION


def test_a_file_without_a_schema_has_no_revision(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    assert current_revision(path) is None


def test_down_to_nothing_and_up_again(path: Path) -> None:
    migrate(path)
    before = schema(path)
    run_alembic(path, "downgrade", "base")
    assert set(schema(path)) == {"alembic_version"}
    migrate(path)
    assert schema(path) == before


ENDS = ("succeeded", "failed", "canceled", "expired")


def insert(connection: sqlite3.Connection, table: str, **values: object) -> None:
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))


def insert_old_task(connection: sqlite3.Connection, number: int, state: str) -> None:
    """Of three clips at a cent each, two of which came before it ended."""
    insert(
        connection,
        "tasks",
        id=state,
        tenant_id="t",
        key_id="k",
        key_seq=number,
        tenant_seq=number,
        route="r",
        model="m",
        state=state,
        prompt="p",
        sample_count=3,
        metadata="{}",
        price_micros=30_000,
        emulated=0,
        request_id="q",
        created_at_ms=1_798_761_599_999,
        deadline_at_ms=1,
        not_before_ms=1,
        attempt_count=1,
        finished_at_ms=1_798_761_600_000 if state in ENDS else None,
        lease_token="l" if state == "running" else None,
    )
    attempt = {"id": f"a{number}", "task_id": state, "number": 1, "deployment": "d", "state": "succeeded"}
    insert(connection, "attempts", **attempt, started_at_ms=1, clips_asked=3, clips_delivered=2)
    for index in range(2 if state in {"running", "succeeded"} else 0):
        clip = {"task_id": state, "clip_index": index, "attempt_id": f"a{number}", "mime_type": "audio/wav"}
        sizes = {"size_bytes": 1, "sha256": "s", "duration_s": 1.0, "sample_rate_hz": 1, "channels": 1}
        insert(connection, "outputs", **clip, **sizes, object_name=f"{state}{index}")


def insert_old_tasks(path: Path) -> None:
    """A task in each state, in a database of the first revision."""
    with closing(sqlite3.connect(path)) as old, old:
        insert(old, "tenants", id="t", name="acme", status="active", created_at_ms=1, weight=1)
        insert(old, "api_keys", id="k", tenant_id="t", name="key", sha256="s", created_at_ms=1)
        for number, state in enumerate(("queued", "running", *ENDS), 1):
            insert_old_task(old, number, state)


def test_tasks_from_before_the_ledger_are_entered_in_it(path: Path) -> None:
    path.parent.mkdir(parents=True)
    run_alembic(path, "upgrade", "0001")
    insert_old_tasks(path)
    migrate(path)
    with closing(sqlite3.connect(path)) as new:
        entries = new.execute(
            "SELECT task_id, kind, held_micros, spent_micros FROM ledger ORDER BY id"
        ).fetchall()
        periods = new.execute("SELECT DISTINCT day, month FROM ledger").fetchall()
        balances = new.execute("SELECT period, held_micros, spent_micros FROM balances").fetchall()
        terms = new.execute("SELECT zone, price_ppm FROM tenants").fetchall()
    held = [(state, "hold", 30_000, 0) for state in ("queued", "running", *ENDS)]
    settled = [("succeeded", "settle", -30_000, 20_000)]
    released = [(state, "release", -30_000, 0) for state in ENDS[1:]]
    assert sorted(entries) == sorted(held + settled + released)
    assert periods == [("2026-12-31", "2026-12")]  # accepted a millisecond before the year ended
    assert balances == [(period, 60_000, 20_000) for period in ("2026-12-31", "2026-12", "total")]
    assert terms == [("UTC", 1_000_000)]
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        assert find_differences(connection) == ()
    with closing(sqlite3.connect(path)) as new, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        new.execute("DELETE FROM ledger")


def test_the_ledger_can_be_taken_back_and_nothing_else_goes_with_it(path: Path) -> None:
    path.parent.mkdir(parents=True)
    run_alembic(path, "upgrade", "0001")
    insert_old_tasks(path)
    before, rows = schema(path), contents(path)
    migrate(path)
    run_alembic(path, "downgrade", "0001")
    assert schema(path) == before
    assert constraints(path)["tenants"]
    assert contents(path) == rows
    migrate(path)
    assert current_revision(path) == SCHEMA_REVISION


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for name, sql in schema(path).items() if sql.startswith("CREATE TABLE")]
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


def test_migrating_again_changes_nothing(path: Path) -> None:
    migrate(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO tenants (id, name, status, created_at_ms, weight) "
            "VALUES ('t', 'acme', 'active', 1, 1)"
        )
    before = schema(path)
    migrate(path)
    assert schema(path) == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM tenants").fetchall() == [("acme",)]


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE tasks", "CREATE INDEX", "CREATE TABLE outputs", "INSERT"]
)
def test_a_migration_that_breaks_half_way_leaves_nothing(path: Path, statement: str) -> None:
    def break_at(conn, cursor, text, parameters, context, executemany) -> None:
        if text.strip().startswith(statement):
            raise RuntimeError("the lights went out")

    sa.event.listen(sa.Engine, "before_cursor_execute", break_at)
    try:
        with pytest.raises(RuntimeError, match="lights"):
            migrate(path)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", break_at)
    assert schema(path) == {}
    assert current_revision(path) is None
    migrate(path)
    assert current_revision(path) == SCHEMA_REVISION


_MIGRATE_AND_DIE = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from gateway.db.migrate import migrate

def die(conn, cursor, text, parameters, context, executemany):
    if text.strip().startswith("CREATE TABLE outputs"):
        os.kill(os.getpid(), signal.SIGKILL)

sa.event.listen(sa.Engine, "before_cursor_execute", die)
migrate(Path(sys.argv[1]))
"""


def test_a_killed_migration_leaves_nothing(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _MIGRATE_AND_DIE, str(path)], check=False)
    assert done.returncode == -9
    migrate(path)
    assert current_revision(path) == SCHEMA_REVISION


_MIGRATE_AND_OPEN = """
import asyncio, sys
from pathlib import Path
from gateway.bootstrap import open_database
from gateway.db import tenants
from gateway.settings import Settings

async def main():
    async with open_database(Settings(data_dir=Path(sys.argv[1]))) as database:
        print(await database.read(tenants.list_tenants))

sys.stdin.readline()
asyncio.run(main())
"""


def test_processes_that_start_at_once_do_not_trip_over_each_other(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _MIGRATE_AND_OPEN, str(tmp_path / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert outputs == [("()\n", "")] * 3
    assert current_revision(tmp_path / "data" / "gateway.db") == SCHEMA_REVISION


def test_a_second_migration_waits_for_the_first(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with path.with_name("gateway.db.migrating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command_line = [sys.executable, "-c", _MIGRATE_AND_OPEN, str(path.parent)]
        with subprocess.Popen(
            command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            other.stdin.write("go\n")
            other.stdin.flush()
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(2)
            assert current_revision(path) is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert other.communicate(timeout=60)[0] == "()\n"


def test_a_database_of_a_newer_version_is_refused_and_not_touched(path: Path) -> None:
    migrate(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = schema(path)
    with pytest.raises(ConfigurationError, match="newer gateway") as caught:
        migrate(path)
    assert str(path) in caught.value.detail
    assert schema(path) == before
    assert current_revision(path) == "9999"


@pytest.mark.parametrize("name", ["with space.db", "what?.db", "50%.db", "sharp#.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    migrate(tmp_path / name)
    assert current_revision(tmp_path / name) == SCHEMA_REVISION


def test_a_file_that_is_no_database_is_an_error_of_sqlites(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("no database at all, but a long enough text to be taken for one" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        migrate(path)


def test_only_the_owner_may_read_a_new_database(path: Path):
    migrate(path)
    assert path.stat().st_mode & 0o077 == 0
