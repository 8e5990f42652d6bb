"""Every column of a report of usage is documented: in README.md, and for HTTP in openapi.yaml."""

import re
from pathlib import Path

from gateway.accounts.export import GROUP_COLUMNS, measures
from gateway.db.usage import Usage
from tests.specification import Specification

ROOT = Path(__file__).resolve().parents[2]
GROUPS = [column for columns in GROUP_COLUMNS.values() for column in columns]
FIGURES = list(measures(Usage(), with_cost=True))


def test_the_readme_has_every_column_in_its_order() -> None:
    section = (ROOT / "README.md").read_text().split("\n## Usage\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    documented = [name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])]
    assert documented == [*GROUPS, *FIGURES]


def test_the_specification_has_every_column(specification: Specification) -> None:
    figures = specification.at("/components/schemas/UsageFigures")
    assert list(figures["properties"]) == FIGURES
    assert figures["required"] == list(measures(Usage(), with_cost=False))
    _, names = specification.at("/components/schemas/UsageRow/allOf")
    assert list(names["properties"]) == GROUPS


def test_an_example_of_csv_has_the_columns_it_would_have(specification: Specification) -> None:
    examples = specification.at("/components/responses/Usage/content/text~1csv/examples")
    first = examples["models"]["value"].splitlines()[0]
    assert first.split(",") == ["model", *measures(Usage(), with_cost=False)]
