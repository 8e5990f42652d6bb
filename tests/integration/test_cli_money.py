"""The commands about money: what they take, print and end with."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from tests.shell import TenantShell

REASON = ("--reason", "clip 2 was silent")


class Purse(TenantShell):
    """The command line with one tenant, which has a budget."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, "--budget-usd-month", "25")

    def budgets(self, *words: str) -> dict[str, tuple[int | None, int]]:
        """Limit and spent by window."""
        listed = self.json("tenant", "budget", self.tenant, *words)
        assert {each["held_micros"] for each in listed} == {0}
        assert [each["resets_at"] is None for each in listed] == [False, False, True]
        return {each["window"]: (each["limit_micros"], each["spent_micros"]) for each in listed}

    def adjust(self, usd: str, *words: str, answer: str | None = None) -> Result:
        return self.run("ledger", "adjust", "--tenant", self.tenant, "--usd", usd, *words, answer=answer)


@pytest.fixture
def shell(tmp_path: Path) -> Purse:
    return Purse(tmp_path / "data")


def test_a_tenant_is_created_with_its_terms(shell: Purse) -> None:
    budgets = ("--budget-usd-day", "5", "--budget-usd-month", "100.50", "--budget-usd-total", "0.000001")
    terms = ("--zone", "America/St_Johns", "--price-multiplier", "0.333333")
    made = shell.json("tenant", "create", "radio", *budgets, *terms)
    assert (made["zone"], made["price_ppm"]) == ("America/St_Johns", 333_333)
    listed = shell.json("tenant", "budget", made["id"])
    assert [each["limit_micros"] for each in listed] == [5_000_000, 100_500_000, 1]


def test_a_tenant_that_names_no_terms_pays_list_prices_in_utc(shell: Purse) -> None:
    made = shell.json("tenant", "create", "radio")
    assert (made["zone"], made["price_ppm"]) == ("UTC", 1_000_000)
    assert {each["limit_micros"] for each in shell.json("tenant", "budget", made["id"])} == {None}


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--budget-usd-month", "0.0000001", "at most six decimal places"),
        ("--budget-usd-month", "-1", "less than nothing"),
        ("--budget-usd-day", "much", "not a number"),
        ("--budget-usd-total", "none", "not a number"),
        ("--price-multiplier", "-1", "less than nothing"),
        ("--price-multiplier", "1e3", "not a number"),
    ],
)
def test_wrong_amounts_are_wrong_usage(shell: Purse, option: str, value: str, complaint: str) -> None:
    result = shell.run("tenant", "create", "radio", option, value)
    assert result.exit_code == 2
    assert option in result.stderr
    assert complaint in result.stderr


def test_a_zone_that_is_none_is_refused(shell: Purse) -> None:
    result = shell.run("tenant", "create", "radio", "--zone", "Europe/Atlantis")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: --zone: 'Europe/Atlantis' is not a time zone; write one like Europe/Berlin.\n",
    )


# gateway tenant budget


def test_budgets_named_are_changed_and_the_others_stay(shell: Purse) -> None:
    assert shell.budgets() == {"day": (None, 0), "month": (25_000_000, 0), "total": (None, 0)}
    changed = {"day": (5_000_000, 0), "month": (25_000_000, 0), "total": (100_000_000, 0)}
    assert shell.budgets("--day", "5", "--total", "100") == changed
    assert shell.budgets("--month", "none")["month"] == (None, 0)


def test_what_was_used_stays_used(shell: Purse) -> None:
    shell.adjust("0.07", *REASON, "--yes")
    assert shell.budgets("--month", "0.05") == {
        "day": (None, 70_000),
        "month": (50_000, 70_000),
        "total": (None, 70_000),
    }


def test_budgets_are_shown_to_people(shell: Purse) -> None:
    shell.adjust("0.07", *REASON, "--yes")
    listed = shell.json("tenant", "budget", shell.tenant)
    assert [each["remaining_micros"] for each in listed] == [None, 24_930_000, None]
    # With the milliseconds of a midnight, which are 0.
    tomorrow, next_month = (each["resets_at"].replace(".000", "") for each in listed[:2])
    result = shell.run("tenant", "budget", shell.tenant)
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["WINDOW", "LIMIT", "SPENT", "HELD", "LEFT", "RESETS"],
        ["day", "none", "0.07", "0.00", tomorrow],
        ["month", "25.00", "0.07", "0.00", "24.93", next_month],
        ["total", "none", "0.07", "0.00"],
    ]


def test_a_budget_needs_a_tenant(shell: Purse) -> None:
    result = shell.run("tenant", "budget", "ten_x", "--day", "1")
    assert result.exit_code == 1
    assert "no tenant 'ten_x'" in result.stderr


# gateway ledger adjust


def test_an_adjustment_asks_first(shell: Purse) -> None:
    result = shell.adjust("0.07", *REASON, answer="y\n")
    assert result.exit_code == 0
    assert f"0.07 dollars as spent by acme ({shell.tenant}): this stays in the ledger" in result.stderr
    assert result.stdout == f"Entered 0.07 dollars as spent by {shell.tenant}.\n"
    assert shell.budgets()["total"] == (None, 70_000)


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_an_adjustment_that_is_not_confirmed_is_not_made(shell: Purse, answer: str) -> None:
    assert shell.adjust("0.07", *REASON, answer=answer).exit_code == 3
    assert shell.budgets()["total"] == (None, 0)


def test_a_credit_is_negative(shell: Purse) -> None:
    shell.adjust("1", *REASON, "--yes")
    result = shell.adjust("-0.25", *REASON, "--yes")
    assert result.stdout == f"Entered -0.25 dollars as spent by {shell.tenant}.\n"
    assert shell.budgets()["total"] == (None, 750_000)


def test_an_adjustment_says_who_made_it_and_why(shell: Purse) -> None:
    shell.adjust("1", *REASON, "--yes")
    with closing(sqlite3.connect(shell.database)) as raw:
        ((actor, reason),) = raw.execute("SELECT actor, reason FROM ledger").fetchall()
    assert actor.startswith("cli:")
    assert len(actor) > len("cli:")
    assert reason == "clip 2 was silent"


def test_a_user_without_a_name_is_a_number(shell: Purse, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert shell.adjust("1", *REASON, "--yes").exit_code == 0
    with closing(sqlite3.connect(shell.database)) as raw:
        ((actor,),) = raw.execute("SELECT actor FROM ledger").fetchall()
    assert actor.removeprefix("cli:").isdecimal()


@pytest.mark.parametrize(
    ("usd", "words", "code", "complaint"),
    [
        ("1", [], 2, "Missing option '--reason'"),
        ("1", ["--reason", " "], 1, "needs a reason"),
        ("0", REASON, 1, "of nothing"),
        ("-0.01", REASON, 1, "has spent $0.00 in all"),
        ("0.0000001", REASON, 2, "at most six decimal places"),
    ],
)
def test_adjustments_that_make_no_sense_are_refused(
    shell: Purse, usd: str, words: list[str], code: int, complaint: str
) -> None:
    result = shell.adjust(usd, *words, "--yes")
    assert result.exit_code == code
    assert complaint in result.stderr
    assert shell.budgets()["total"] == (None, 0)


# gateway reconcile


def test_right_books_end_with_0(shell: Purse) -> None:
    shell.adjust("1", *REASON, "--yes")
    result = shell.run("reconcile")
    assert (result.exit_code, result.stdout) == (0, "Everything adds up.\n")
    assert shell.json("reconcile") == []


def test_wrong_books_end_with_1_and_each_difference(shell: Purse) -> None:
    shell.adjust("1", *REASON, "--yes")
    with closing(sqlite3.connect(shell.database)) as raw, raw:
        raw.execute("UPDATE balances SET spent_micros = 7 WHERE period = 'total'")
    shown = shell.run("reconcile")
    assert shown.exit_code == 1
    heading, row = shown.stdout.splitlines()
    assert heading.split() == ["WHAT", "WHICH", "KEPT", "COUNTED"]
    assert row.split() == ["spent", "balance", shell.tenant, "total", "7", "1000000"]
    as_json = shell.run("reconcile", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout) == [
        {"what": "spent balance", "which": f"{shell.tenant} total", "kept": 7, "counted": 1_000_000}
    ]
