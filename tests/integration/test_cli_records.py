"""gateway ledger list and gateway audit list: what was, for people and for programs."""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest

from gateway.bootstrap.services import SystemClock
from tests.shell import TenantShell

NOW_MS = 1_800_000_000_000
NOW = "2027-01-15T08:00:00Z"
EXACTLY_NOW = "2027-01-15T08:00:00.000Z"
REASON = "clip 2 was silent"


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "now_ms", lambda _: NOW_MS)
    monkeypatch.setattr("getpass.getuser", lambda: "ada")


def adjust(acme: TenantShell, tenant_id: str, usd: str) -> None:
    acme.done("ledger", "adjust", "--tenant", tenant_id, "--usd", usd, "--reason", REASON, "--yes")


# The ledger


def test_entries_are_listed_for_people(acme: TenantShell) -> None:
    adjust(acme, acme.tenant, "1.5")
    adjust(acme, acme.tenant, "-0.25")
    heading, newest, oldest = acme.done("ledger", "list").splitlines()
    assert heading.split() == ["ID", "TIME", "TENANT", "KIND", "HELD", "SPENT", "TASK", "BY", "REASON"]
    assert newest.split() == ["2", NOW, acme.tenant, "adjust", "0.00", "-0.25", "cli:ada", *REASON.split()]
    assert oldest.split()[5] == "1.50"


def test_entries_are_listed_for_programs(acme: TenantShell) -> None:
    adjust(acme, acme.tenant, "1.5")
    assert acme.json("ledger", "list") == [
        {
            "id": 1,
            "at": EXACTLY_NOW,
            "tenant_id": acme.tenant,
            "key_id": None,
            "task_id": None,
            "kind": "adjust",
            "held_micros": 0,
            "spent_micros": 1_500_000,
            "day": "2027-01-15",
            "month": "2027-01",
            "actor": "cli:ada",
            "reason": REASON,
        }
    ]


def test_the_newest_entries_are_listed_of_all_or_of_one_tenant(acme: TenantShell) -> None:
    radio = acme.json("tenant", "create", "radio")["id"]
    for tenant_id in (acme.tenant, radio, acme.tenant):
        adjust(acme, tenant_id, "1")
    assert [entry["id"] for entry in acme.json("ledger", "list")] == [3, 2, 1]
    assert [entry["id"] for entry in acme.json("ledger", "list", "--limit", "2")] == [3, 2]
    assert [entry["id"] for entry in acme.json("ledger", "list", "--tenant", radio)] == [2]


def test_entries_of_a_task_name_it(acme: TenantShell) -> None:
    """Its hold, and the settlement that takes its place."""
    columns = "tenant_id, key_id, task_id, kind, held_micros, spent_micros, day, month, at_ms, actor, reason"
    entry = (acme.tenant, "k1", "task_1", "hold", 120_000, 0, "2027-01-15", "2027-01", NOW_MS, "key:k1", "")
    settle = (*entry[:3], "settle", -120_000, 60_000, *entry[6:])
    with closing(sqlite3.connect(acme.database)) as raw, raw:
        marks = ", ".join("?" * len(entry))
        raw.executemany(f"INSERT INTO ledger ({columns}) VALUES ({marks})", [entry, settle])
    _, newest, oldest = acme.done("ledger", "list").splitlines()
    assert newest.split()[3:] == ["settle", "-0.12", "0.06", "task_1", "key:k1"]
    assert oldest.split()[3:] == ["hold", "0.12", "0.00", "task_1", "key:k1"]
    settled, _ = acme.json("ledger", "list")
    assert (settled["kind"], settled["task_id"], settled["key_id"]) == ("settle", "task_1", "k1")
    assert (settled["held_micros"], settled["spent_micros"]) == (-120_000, 60_000)


# The audit log


def test_acts_are_listed_for_people_with_what_they_changed(acme: TenantShell) -> None:
    acme.done(
        "tenant", "update", acme.tenant, "--rpm", "5", "--price-multiplier", "1.25", "--model", "musicgen"
    )
    acme.done("tenant", "budget", acme.tenant, "--month", "25")
    acme.done("tenant", "budget", acme.tenant, "--month", "none", "--day", "0.5")
    acme.done("tenant", "suspend", acme.tenant, "--yes")
    adjust(acme, acme.tenant, "1")
    acme.done("member", "put", acme.tenant, "ada@example.com", "--role", "owner")
    acme.done("member", "remove", acme.tenant, "ada@example.com", "--yes")
    key_id = acme.key("--tag", "web", "--expires-in", "1h")
    acme.done("key", "update", key_id, "--expires-in", "none", "--tag", "none")
    heading, *rows = acme.done("audit", "list").splitlines()
    assert heading.split() == ["TIME", "WHO", "FROM", "ACT", "ON", "CHANGE"]
    assert {tuple(row.split()[:3]) for row in rows} == {(NOW, "cli:ada", "cli")}
    told = [re.split(" {2,}", row)[3:] for row in reversed(rows)]
    adjusted = told.pop(5)
    assert adjusted[:2] == ["ledger.adjust", acme.tenant]
    assert adjusted[2].startswith(f"spent: 1.00; reason: {REASON}")
    terms = "name: acme; status: active; zone: UTC; price_multiplier: 1.00; weight: 1; warn_percents: 80, 100"
    update = "price_multiplier: 1.00 → 1.25; rpm: none → 5; allowed_models: none → musicgen"
    key = "name: key; mode: live; tags: web; scopes: generate, read; expires_at: 2027-01-15T09:00:00Z"
    assert told == [
        ["tenant.create", acme.tenant, terms],
        ["tenant.update", acme.tenant, update],
        ["tenant.budgets", acme.tenant, "month: none → 25.00"],
        ["tenant.budgets", acme.tenant, "day: none → 0.50; month: 25.00 → none"],
        ["tenant.suspend", acme.tenant, "status: active → suspended"],
        ["member.put", "ada@example.com", "role: owner"],
        ["member.remove", "ada@example.com", "role: owner"],
        ["key.create", key_id, key],
        ["key.update", key_id, "tags: web → none; expires_at: 2027-01-15T09:00:00Z → none"],
    ]  # fmt: skip


def test_acts_are_listed_for_programs(acme: TenantShell) -> None:
    acme.done("tenant", "update", acme.tenant, "--rpm", "5")
    newest, _ = acme.json("audit", "list")
    assert newest == {
        "id": 2,
        "at": EXACTLY_NOW,
        "actor": "cli:ada",
        "source": "cli",
        "request_id": "",
        "action": "tenant.update",
        "tenant_id": acme.tenant,
        "target": acme.tenant,
        "before": {"rpm": None},
        "after": {"rpm": 5},
    }


def test_the_newest_acts_are_listed_of_all_or_of_one_tenant(acme: TenantShell) -> None:
    radio = acme.json("tenant", "create", "radio")["id"]
    acme.done("tenant", "update", acme.tenant, "--rpm", "5")
    assert [act["id"] for act in acme.json("audit", "list")] == [3, 2, 1]
    assert [act["id"] for act in acme.json("audit", "list", "--limit", "1")] == [3]
    assert [act["id"] for act in acme.json("audit", "list", "--tenant", radio)] == [2]


def test_no_text_of_a_key_is_in_the_log(acme: TenantShell) -> None:
    made = acme.json("key", "create", "--tenant", acme.tenant)
    rotated = acme.json("key", "rotate", made["id"], "--idempotency-key", "a secret name")
    listed = acme.done("audit", "list") + acme.done("audit", "list", "--json")
    for secret in (made["key"][21:], rotated["key"][21:], "a secret name"):
        assert secret not in listed
    assert f"{made['id']}  " in listed


# Both


@pytest.mark.parametrize("group", ["ledger", "audit"])
@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--tenant", "ten_x"], 1, "error: There is no tenant 'ten_x'"),
        (["--limit", "0"], 2, "--limit"),
        (["--limit", "all"], 2, "--limit"),
    ],
)
def test_a_list_that_cannot_be_had_is_told(
    acme: TenantShell, group: str, words: Sequence[str], code: int, complaint: str
) -> None:
    result = acme.run(group, "list", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert complaint in result.stderr
