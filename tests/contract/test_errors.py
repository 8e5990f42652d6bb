"""Every error code is documented in README.md, and is one that a caller can meet."""

import re
from pathlib import Path

import pytest

from gateway.errors import ErrorCode

ROOT = Path(__file__).resolve().parents[2]


def documented() -> set[str]:
    """The codes in README.md's tables of errors: by HTTP status, and of failed tasks."""
    section = (ROOT / "README.md").read_text().split("\n## Errors\n", 1)[1].split("\n## ", 1)[0]
    codes: set[str] = set()
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 3:
            codes |= set(re.findall(r"`([a-z_]+)`", cells[1] if cells[0].isdigit() else cells[0]))
    return codes


def is_raised(code: ErrorCode) -> bool:
    name = f"ErrorCode.{code.name}"
    default_of_a_class = f"    code = {name}\n" in (ROOT / "gateway" / "errors.py").read_text()
    others = [path for path in (ROOT / "gateway").rglob("*.py") if path.name != "errors.py"]
    return default_of_a_class or any(re.search(rf"{name}\b", path.read_text()) for path in others)


def test_the_readme_has_every_code_and_no_other() -> None:
    assert documented() == {code.value for code in ErrorCode}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_is_raised_somewhere(code: ErrorCode) -> None:
    """A code that nothing raises is a promise that nobody keeps."""
    assert is_raised(code)
