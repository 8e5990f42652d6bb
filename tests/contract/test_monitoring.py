"""deploy/monitoring: what promtool says of it, and whether it speaks of what the gateway tells."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.families.registry import KINDS
from gateway.metrics import CallMetrics, Metrics
from gateway.model import KeyMode
from tests.promtool import Expression, as_asked, faults_of, promtool, why_unavailable
from tests.specification import Specification

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "deploy" / "monitoring"
TESTS = sorted((PLACE / "alerts_test").iterdir())
# Prometheus gives these to all that it scrapes, and `up` besides.
OF_TARGETS = {"job", "instance"}
# Whoever adds to these decides that somebody is to be woken.
PAGES = {
    "GatewayDown",
    "GatewayErrors",
    "GatewayDatabaseAway",
    "GatewayModelFails",
    "GatewayNothingSucceeds",
    "GatewayUploadsFail",
    "GatewayLimitsRefuse",
}

Json = dict[str, Any]
Values = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def _promtool() -> None:
    if reason := why_unavailable():
        pytest.skip(reason)


needs_promtool = pytest.mark.usefixtures("_promtool")


def parsed(name: str) -> Json:
    found: Json = yaml.safe_load((PLACE / name).read_text())
    return found


def alerts() -> list[Json]:
    return [rule for group in parsed("alerts.yml")["groups"] for rule in group["rules"]]


def alert_tests() -> list[Json]:
    return [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]


def panels() -> list[Json]:
    return [panel for panel in parsed("dashboard.json")["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    of_panels = [as_asked(target["expr"]) for panel in panels() for target in panel["targets"]]
    return [alert["expr"] for alert in alerts()] + of_panels


def faults_in_tests(
    name: str, directory: Path, change: Callable[[str], str] = lambda text: text
) -> list[str]:
    """What its tests have against an alert, by itself: all rules together take ten times as long."""
    (rule,) = [alert for alert in alerts() if alert["alert"] == name]
    rule["expr"] = change(rule["expr"])
    rules = {"groups": [{"name": "alone", "rules": [rule]}]}
    tests = [test for test in alert_tests() if test["alert_rule_test"][0]["alertname"] == name]
    document = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests}
    (directory / "alerts.yml").write_text(yaml.safe_dump(rules))
    (directory / "alone.yml").write_text(yaml.safe_dump(document))
    return promtool("test", "rules", "alone.yml", cwd=directory)


@pytest.fixture(scope="module")
def told() -> Values:
    """What a scrape of a gateway that has had traffic tells: the values of each label of each series."""
    metrics = Metrics("1")
    for route in {path for path, _ in Specification.load().operations()}:
        for status in (200, 404, 503):
            metrics.request_answered(route, "GET", status, 0.1)
    for model in KINDS:
        metrics.uploads.stored(model, 1)
        for mode in KeyMode:
            CallMetrics(metrics, mode).on_call(model, "ok", 1.0, 1)
    found: Values = {"up": {}}
    for sample in (sample for family in metrics.registry.collect() for sample in family.samples):
        labels = found.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    return found


# What Prometheus says


@needs_promtool
def test_the_rules_are_valid() -> None:
    assert promtool("check", "rules", "alerts.yml", cwd=PLACE) == []


@needs_promtool
@pytest.mark.parametrize("name", [alert["alert"] for alert in alerts()])
def test_an_alert_fires_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    assert faults_in_tests(name, tmp_path) == []


@needs_promtool
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("GatewayModelFails", 'mode="live",', ""),
        ("GatewayQueueLong", "max by", "sum by"),
        ("GatewayDatabaseAway", "min by", "max by"),
    ],
    ids=["test keys too", "added up", "one instance for all"],
)
def test_an_alert_on_the_wrong_series_is_caught(name: str, before: str, after: str, tmp_path: Path) -> None:
    assert faults_in_tests(name, tmp_path, lambda text: text.replace(before, after)) != []


@pytest.mark.parametrize("path", TESTS, ids=[path.stem for path in TESTS])
def test_the_tests_of_alerts_are_of_these_rules_and_one_alert_each(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert (document["rule_files"], document["evaluation_interval"]) == (["../alerts.yml"], "1m")
    for test in document["tests"]:
        assert len({case["alertname"] for case in test["alert_rule_test"]}) == 1, test["name"]


@needs_promtool
def test_the_example_of_scraping_is_valid_and_takes_the_rules() -> None:
    assert promtool("check", "config", "prometheus.yml", cwd=PLACE) == []
    assert parsed("prometheus.yml")["rule_files"] == ["alerts.yml"]


@needs_promtool
def test_every_query_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    assert faults_of(expressions(), tmp_path) == []


@needs_promtool
def test_a_query_that_cannot_be_parsed_is_caught(tmp_path: Path) -> None:
    assert faults_of(["sum by (job (up)"], tmp_path) != []


# What the gateway tells


def test_every_metric_exists(told: Values) -> None:
    named = {name for text in expressions() for name in Expression(text).metrics}
    assert named - set(told) == set()


def test_every_label_exists_on_its_metric(told: Values) -> None:
    unknown = [
        (metric, label)
        for text in expressions()
        for metric, label, _, _ in Expression(text).matchers
        if label not in {*told[metric], *OF_TARGETS}
    ]
    assert unknown == []


def test_every_value_that_is_looked_for_exists(told: Values) -> None:
    """An outcome that is misspelt would never fire."""
    nowhere = [
        (metric, label, word)
        for text in expressions()
        for metric, label, operator, value in Expression(text).matchers
        if label not in OF_TARGETS
        for word in (value.split("|") if "~" in operator else [re.escape(value)])
        if not any(re.fullmatch(word, told_value) for told_value in told[metric][label])
    ]
    assert nowhere == []


def test_the_tests_of_alerts_use_series_as_the_gateway_tells_them(told: Values) -> None:
    for series in (each["series"] for test in alert_tests() for each in test["input_series"]):
        (name,) = Expression(series).metrics
        labels = {label for _, label, _, _ in Expression(series).matchers}
        assert labels == {*told[name], *OF_TARGETS}, series


def test_whatever_is_grouped_by_exists_on_some_metric_of_the_query(told: Values) -> None:
    for text in expressions():
        expression = Expression(text)
        there = {label for metric in expression.metrics for label in told[metric]}
        assert expression.groupings <= there | OF_TARGETS, text


def test_what_all_instances_tell_alike_is_never_added_up() -> None:
    alike = "gateway_tasks_waiting|gateway_tasks_oldest_seconds|gateway_webhooks_pending"
    text = "\n".join(expressions())
    greatest = re.findall(rf"\bmax by \([^)]*\) \((?:delta\()?(?:{alike})\b", text)
    assert len(greatest) == len(re.findall(alike, text)) > 0


def test_the_dashboard_shows_every_metric(told: Values) -> None:
    queries = [as_asked(target["expr"]) for panel in panels() for target in panel["targets"]]
    shown = {without_suffix(name) for query in queries for name in Expression(query).metrics}
    ours = {without_suffix(name) for name in told if name.startswith("gateway_")}
    assert {name for name in ours if not name.endswith("_created")} - shown == set()


def test_names_are_read_out_of_an_expression() -> None:
    found = Expression(
        'sum by (job, le) (rate(a_total{mode="live",x=~"b|{c}"}[5m])) / on (job) b_count > 0.5 unless min(c)'
    )
    assert found.metrics == {"a_total", "b_count", "c"}
    assert found.groupings == {"job", "le"}
    assert found.matchers == [("a_total", "mode", "=", "live"), ("a_total", "x", "=~", "b|{c}")]


def without_suffix(name: str) -> str:
    return re.sub(r"_(bucket|count|sum)$", "", name)


# What people are told


def test_what_wakes_somebody_is_decided_and_the_rest_waits() -> None:
    severities = {alert["alert"]: alert["labels"]["severity"] for alert in alerts()}
    assert {name for name, severity in severities.items() if severity == "page"} == PAGES
    assert set(severities.values()) == {"page", "ticket"}


def test_every_alert_has_a_paragraph_under_its_severity_and_none_is_left_over() -> None:
    text = (PLACE / "README.md").read_text()
    documented: dict[str, str] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        severity = re.search(r"^`severity: (\w+)`", section, re.MULTILINE)
        for name, paragraph in re.findall(r"^### (\w+)\n\n(.+)", section, re.MULTILINE):
            assert severity is not None
            assert len(paragraph) > 40, name
            documented[name] = severity[1]
    assert documented == {alert["alert"]: alert["labels"]["severity"] for alert in alerts()}


def test_every_alert_says_what_to_do() -> None:
    for alert in alerts():
        summary = alert["annotations"]["summary"]
        assert summary.endswith("."), alert["alert"]
        assert len(summary) < 200, alert["alert"]


def test_every_alert_is_shown_firing_and_silent() -> None:
    cases = [case for test in alert_tests() for case in test["alert_rule_test"]]
    names = {alert["alert"] for alert in alerts()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


# The dashboard


def test_the_dashboard_is_what_its_script_makes() -> None:
    made = subprocess.run(
        [sys.executable, PLACE / "dashboard.py"], capture_output=True, text=True, check=True
    ).stdout
    assert made == (PLACE / "dashboard.json").read_text(), "python dashboard.py > dashboard.json"


def test_the_dashboard_uses_the_variables_that_it_has() -> None:
    text = (PLACE / "dashboard.json").read_text()
    names = {variable["name"] for variable in json.loads(text)["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]\w*)", text)) == names


def test_legends_name_labels_that_their_query_keeps() -> None:
    for target in (target for panel in panels() for target in panel["targets"]):
        kept = Expression(as_asked(target["expr"])).groupings | OF_TARGETS
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, target["expr"]


def test_no_two_graphs_of_the_dashboard_lie_upon_each_other() -> None:
    everything = parsed("dashboard.json")["panels"]
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in everything)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert len({panel["id"] for panel in everything}) == len(everything)
