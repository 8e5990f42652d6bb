"""The README has every command, every long option and every exit code, and none that is not there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from gateway.cli.environment import Exit
from gateway.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
LONG = re.compile(r"--[a-z][a-z-]*")


@dataclass(frozen=True, slots=True)
class Command:
    """A command or a group of them, under its whole name."""

    name: str
    command: click.Command

    def tree(self) -> Iterator["Command"]:
        yield self
        if isinstance(self.command, click.Group):
            context = click.Context(self.command)
            for name in self.command.list_commands(context):
                child = self.command.get_command(context, name)
                assert child is not None
                yield from Command(f"{self.name} {name}", child).tree()

    def options(self) -> list[click.Option]:
        return [parameter for parameter in self.command.params if isinstance(parameter, click.Option)]


ALL = tuple(Command("gateway", main).tree())


def implemented() -> dict[str, set[str]]:
    """The long options of every command that is no group."""
    return {
        each.name: {word for option in each.options() for word in option.opts if LONG.fullmatch(word)}
        for each in ALL
        if not isinstance(each.command, click.Group)
    }


def section(heading: str) -> list[list[str]]:
    """The tables under a heading, each as its rows without heading and rule."""
    text = re.split(rf"^#+ {heading}\n", (ROOT / "README.md").read_text(), flags=re.MULTILINE)[1]
    text = re.split(r"^#+ ", text, flags=re.MULTILINE)[0]
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [table.splitlines() for table in tables]


def documented() -> dict[str, set[str]]:
    """As the README has them; words in capitals stand for the options of a table that they head."""
    commands, *shared = section("Commands")
    stand_for = {rows[0].split()[1]: LONG.findall("\n".join(rows[2:])) for rows in shared}
    found = {}
    for row in commands[2:]:
        code = row.split("`")[1]
        name = re.match(r"[a-z]+(?:[ -][a-z]+)*", code)
        assert name is not None, row
        options = set(LONG.findall(code))
        for word, spellings in stand_for.items():
            if f"[{word}]" in code:
                options |= set(spellings)
        found[name[0]] = options
    return found


def test_the_readme_has_the_commands_that_there_are() -> None:
    assert sorted(documented()) == sorted(implemented())


def test_the_readme_has_the_options_that_there_are() -> None:
    told, there = documented(), implemented()
    assert {name: missing for name in there if (missing := there[name] - told.get(name, set()))} == {}
    assert {name: gone for name in there if (gone := told.get(name, set()) - there[name])} == {}


def test_every_command_and_every_option_has_a_sentence() -> None:
    assert [each.name for each in ALL if not each.command.help] == []
    silent = [(each.name, option.name) for each in ALL for option in each.options() if not option.help]
    assert silent == []


@pytest.mark.parametrize(
    "name",
    [
        *("gateway tenant create", "gateway tenant list", "gateway tenant show", "gateway tenant update"),
        *("gateway tenant suspend", "gateway tenant activate", "gateway tenant budget"),
        *("gateway member put", "gateway member remove", "gateway member list"),
        *("gateway key create", "gateway key list", "gateway key show", "gateway key update"),
        *("gateway key rotate", "gateway key disable", "gateway key enable", "gateway key revoke"),
        *("gateway ledger list", "gateway audit list", "gateway reconcile"),
        *("gateway copy-database", "gateway check"),
        *("gateway endpoint deploy", "gateway endpoint describe", "gateway endpoint undeploy"),
    ],
)
def test_programs_can_read_what_is_administered(name: str) -> None:
    assert "--json" in implemented()[name]


def test_the_readme_has_the_exit_codes_that_there_are() -> None:
    (table,) = section("Exit codes")
    assert [int(row.split()[1]) for row in table[2:]] == [0, *sorted(Exit)]
