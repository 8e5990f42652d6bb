"""``gateway usage``: what it takes, prints and writes."""

import asyncio
import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from gateway.db import accounts, tasks, work
from gateway.db.engine import Tx
from gateway.db.sqlite import SqliteDatabase
from gateway.db.work import AttemptEnd
from gateway.model import Periods, TaskState
from gateway.tasks import charging
from tests.factories import NOW_MS, a_clip, a_task
from tests.shell import Shell

RANGE = ("--from", "2027-01-01", "--to", "2027-01-31")


async def make_a_clip(file: Path, key_id: str) -> None:
    """A task of ninety seconds on 15 January 2027, 08:00 in UTC; its call cost less than was charged."""
    database = await SqliteDatabase.open(file)

    def write(tx: Tx) -> None:
        key = accounts.get_key(tx, key_id)
        assert key is not None
        task = a_task(key)
        tasks.insert_task(tx, task, key_seq=1, tenant_seq=1, deadline_at_ms=NOW_MS)
        charging.hold(tx, task, Periods("2027-01-15", "2027-01"))
        work.claim(tx, task.id, token="t", now_ms=NOW_MS, expires_at_ms=NOW_MS)
        call = {"token": "t", "attempt_id": "a1", "deployment": "d", "clips_asked": 1}
        work.begin_attempt(tx, task.id, now_ms=NOW_MS, **call)
        end = AttemptEnd("a1", "succeeded", (a_clip(task, duration_s=90.0),), cost_micros=43_000)
        work.end_attempt(tx, task.id, end, now_ms=NOW_MS)
        work.finish(tx, task.id, token="t", state=TaskState.SUCCEEDED, error=None, now_ms=NOW_MS)
        charging.conclude(tx, task, TaskState.SUCCEEDED, delivered=1, now_ms=NOW_MS)

    await database.write(write)
    await database.close()


class UsedShell(Shell):
    """The command line on a data directory with a tenant of one task and one of none."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.tenant: str = self.json("tenant", "create", "=radio", "--zone", "Pacific/Kiritimati")["id"]
        self.key: str = self.json("key", "create", "--tenant", self.tenant, "--name", "podcast")["id"]
        self.other: str = self.json("tenant", "create", "other")["id"]
        asyncio.run(make_a_clip(self.database, self.key))

    def ok(self, *words: str) -> str:
        """As it was written: read as text, the line ends of CSV would be others."""
        result = self.run(*words)
        assert result.exit_code == 0, result.stderr
        return result.stdout_bytes.decode()


@pytest.fixture
def shell(tmp_path: Path, migrated_file: Path) -> UsedShell:
    (tmp_path / "data").mkdir()
    shutil.copy(migrated_file, tmp_path / "data" / "gateway.db")
    return UsedShell(tmp_path / "data")


def lines(text: str) -> list[dict[str, str]]:
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline="")))


# gateway usage export


def test_everything_is_exported_by_tenant_key_model_and_day(shell: UsedShell) -> None:
    (line,) = lines(shell.ok("usage", "export", *RANGE))
    named = {name: value for name, value in line.items() if value != "0"}
    assert named == {
        "tenant_id": shell.tenant,
        "tenant_name": "'=radio",
        "key_id": shell.key,
        "key_name": "podcast",
        "model": "lyria-002",
        "day": "2027-01-15",
        "requests": "1",
        "succeeded": "1",
        "clips": "1",
        "audio_seconds": "90.0",
        "attempts": "1",
        "spent_micros": "60000",
        "charged_micros": "60000",
        "charged_usd": "0.06",
        "provider_cost_micros": "43000",
        "provider_cost_usd": "0.043",
    }


def test_an_export_as_json_says_what_it_covers(shell: UsedShell) -> None:
    report = json.loads(shell.ok("usage", "export", *RANGE, "--format", "json", "--group-by", "tenant"))
    assert (report["tenant_id"], report["zone"], report["group_by"]) == (None, "UTC", ["tenant"])
    assert (report["from"], report["to"]) == ("2027-01-01T00:00:00+00:00", "2027-02-01T00:00:00+00:00")
    assert [row["tenant_name"] for row in report["rows"]] == ["=radio"]
    assert report["total"]["charged_micros"] == 60_000


def test_an_export_can_be_of_one_tenant_in_its_own_zone(shell: UsedShell) -> None:
    """There it was ten in the evening."""
    report = json.loads(
        shell.ok("usage", "export", *RANGE, "--tenant", shell.tenant, "--format", "json", "--group-by", "day")
    )
    assert report["zone"] == "Pacific/Kiritimati"
    assert [row["day"] for row in report["rows"]] == ["2027-01-15"]
    other = json.loads(shell.ok("usage", "export", *RANGE, "--tenant", shell.other, "--format", "json"))
    assert other["rows"] == []


@pytest.mark.parametrize(("zone", "day"), [("Pacific/Pago_Pago", "2027-01-14"), ("Asia/Tokyo", "2027-01-15")])
def test_an_export_can_be_of_another_zones_days(shell: UsedShell, zone: str, day: str) -> None:
    (line,) = lines(shell.ok("usage", "export", *RANGE, "--tz", zone, "--group-by", "day"))
    assert line["day"] == day


def test_an_export_goes_to_a_file(shell: UsedShell, tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    assert shell.ok("usage", "export", *RANGE, "--output", str(file)) == ""
    assert file.read_bytes().decode() == shell.ok("usage", "export", *RANGE)


def test_a_file_that_cannot_be_written_is_told(shell: UsedShell, tmp_path: Path) -> None:
    result = shell.run("usage", "export", *RANGE, "--output", str(tmp_path / "nowhere" / "usage.csv"))
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr


# gateway usage show


def test_usage_is_shown_to_people(shell: UsedShell) -> None:
    first, *table = shell.ok("usage", "show", *RANGE).splitlines()
    assert first == "2027-01-01 to 2027-01-31, days of UTC"
    assert [line.split() for line in table] == [
        [
            *("TENANT", "REQUESTS", "SUCCEEDED", "FAILED", "OPEN", "TESTS", "CLIPS", "MINUTES", "CALLS"),
            *("UNKNOWN", "HELD", "CHARGED", "COST"),
        ],
        ["=radio", "1", "1", "0", "0", "0", "1", "1.5", "1", "0", "0.00", "0.06", "0.043"],
        ["all", "together", "1", "1", "0", "0", "0", "1", "1.5", "1", "0", "0.00", "0.06", "0.043"],
    ]


def test_keys_are_shown_with_their_ids(shell: UsedShell) -> None:
    _, _, row, _ = shell.ok("usage", "show", *RANGE, "--group-by", "key,model,day").splitlines()
    assert row.split()[:4] == ["podcast", shell.key, "lyria-002", "2027-01-15"]


def test_adjustments_are_shown_without_a_key(shell: UsedShell) -> None:
    shell.ok("ledger", "adjust", "--tenant", shell.tenant, "--usd", "0.5", "--reason", "why", "--yes")
    row, _ = shell.ok("usage", "show", "--group-by", "key").splitlines()[2:]
    assert row.split() == [*["0"] * 5, "0", "0.0", "0", "0", "0.00", "0.50", "0.00"]


def test_what_is_shown_is_what_is_exported(shell: UsedShell) -> None:
    groups = ("--group-by", "tenant,day")
    exported = json.loads(shell.ok("usage", "export", *RANGE, *groups, "--format", "json"))
    assert shell.json("usage", "show", *RANGE, *groups) == exported


def test_all_of_it_in_one_line(shell: UsedShell) -> None:
    rows = shell.ok("usage", "show", *RANGE, "--group-by", "").splitlines()[2:]
    assert rows[0] == rows[1]


# Refusals


@pytest.mark.parametrize("command", ["show", "export"])
@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("--from", "01/02/2027"), 1, "error: --from: must be a day like 2026-11-22.\n"),
        (("--from", "2025-01-01", "--to", "2027-01-01"), 1, "ask for at most 400"),
        (("--tz", "Mars"), 1, "error: --tz: is not a time zone"),
        (("--tenant", "ten_x"), 1, "no tenant 'ten_x'"),
        (("--group-by", "days"), 2, "takes tenant, key, model, day, separated by commas."),
    ],
)
def test_what_cannot_be_reported_is_refused(
    shell: UsedShell, command: str, words: tuple[str, ...], code: int, complaint: str
) -> None:
    result = shell.run("usage", command, *words)
    assert result.exit_code == code
    assert complaint in result.stderr
    assert result.stdout == ""


def test_a_format_that_is_none_is_wrong_usage(shell: UsedShell) -> None:
    assert shell.run("usage", "export", "--format", "xml").exit_code == 2
