"""Columns that stay columns."""

import pytest

from gateway.cli.tables import moment, print_facts, print_json, print_table
from gateway.model import KeyState, TenantStatus


def test_columns_are_aligned_and_nothing_trails(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "NAME", "RPM"), [("t1", "a longer name", None), ("ten_2", "b", 5)])
    assert capsys.readouterr().out.split("\n") == [
        "ID     NAME           RPM",
        "t1     a longer name",
        "ten_2  b              5",
        "",
    ]


def test_wide_characters_take_two_columns_and_accents_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "RPM"), [("音楽", 1), ("ae\u0301ro", 2), ("plain", 3)])
    assert capsys.readouterr().out.split("\n") == [
        "NAME   RPM",
        "音楽   1",
        "ae\u0301ro   2",
        "plain  3",
        "",
    ]


def test_a_table_without_rows_is_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "NAME"), [])
    assert capsys.readouterr().out == "ID  NAME\n"


def test_facts_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("ID", "k1"), ("Owner", ""), ("Revoked", None), ("Weight", 0)])
    assert capsys.readouterr().out == "ID:      k1\nWeight:  0\n"


def test_states_have_no_colours_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("STATE", "STATUS"), [(KeyState.REVOKED, TenantStatus.ACTIVE)])
    assert capsys.readouterr().out == "STATE    STATUS\nrevoked  active\n"


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "音楽\n", "tags": ("a",), "rpm": None})
    assert capsys.readouterr().out == '{"name": "\\u97f3\\u697d\\n", "tags": ["a"], "rpm": null}\n'


def test_a_moment_is_told_to_the_second_that_has_begun() -> None:
    assert moment(1_800_000_000_999) == "2027-01-15T08:00:00Z"
    assert moment(None) is None
