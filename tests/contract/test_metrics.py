"""Every metric is documented in README.md, with the name a scrape shows and the words it shows."""

import re
from pathlib import Path

from prometheus_client import Metric

from gateway.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]


def declared() -> list[Metric]:
    """Ours, without those of the process and of Python."""
    return [metric for metric in Metrics("1").registry.collect() if metric.name.startswith("gateway_")]


def row(metric: Metric) -> str:
    """The line of README.md's table for a metric."""
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return f"| `{name}` | {metric.type} | {metric.documentation} |"


def table() -> list[str]:
    return [row(metric) for metric in declared()]


def test_the_readme_has_every_metric_as_it_is() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    missing = [line for line in table() if line not in lines]
    assert missing == [], "README.md's table of metrics should have these lines:\n" + "\n".join(table())


def test_the_readme_has_no_metric_that_is_gone() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("| `gateway_") and line not in table()] == []


def test_metrics_are_declared_in_one_place() -> None:
    makers = re.compile(r"prometheus_client import [^\n]*(Counter|Gauge|Histogram|Summary|Info|Enum)")
    declaring = [path.name for path in (ROOT / "gateway").rglob("*.py") if makers.search(path.read_text())]
    assert declaring == ["metrics.py"]
