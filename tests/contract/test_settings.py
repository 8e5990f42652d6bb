"""Every setting is documented: a sentence where it is declared, and the same sentence in README.md."""

from pathlib import Path

from pydantic import SecretStr

from gateway.settings import Settings, variable_name

ROOT = Path(__file__).resolve().parents[2]


def row(field: str) -> str:
    """The line of README.md's table for a field of `Settings`."""
    declared = Settings.model_fields[field]
    default = declared.get_default()
    shown = "" if default in {None, ""} or isinstance(default, SecretStr) else f"`{default}`"
    return f"| `{variable_name(field)}` | {shown} | {declared.description} |"


def table() -> list[str]:
    return [row(field) for field in Settings.model_fields]


def test_every_setting_has_a_sentence() -> None:
    for field, declared in Settings.model_fields.items():
        assert declared.description, field
        assert declared.description.endswith("."), field


def test_the_readme_has_every_setting_as_it_is() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    missing = [line for line in table() if line not in lines]
    assert missing == [], "README.md's table of settings should have these lines:\n" + "\n".join(table())


def test_the_readme_has_no_setting_that_is_gone() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith(("| `GATEWAY_", "| `HOST`", "| `PORT`"))]
    assert [line for line in rows if line not in table()] == []


def test_no_sentence_breaks_the_table() -> None:
    assert [line for line in table() if line.count("|") != 4 or "\n" in line] == []
