"""A real Prometheus with the rules of deploy/monitoring, and what it makes of a gateway in trouble."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.emulator import RunningEmulator
from tests.promtool import Json, RunningPrometheus, as_asked, start_prometheus, why_unavailable
from tests.running import RunningGateway, start_gateway
from tests.system.patience import until

PLACE = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"


@pytest.fixture
def watched(tmp_path: Path, emulator: RunningEmulator) -> Iterator[RunningGateway]:
    """A gateway of its own: what it counts is of this test."""
    if reason := why_unavailable():
        pytest.skip(reason)
    with start_gateway(tmp_path, emulator.url) as gateway:
        yield gateway


@pytest.fixture
def prometheus(tmp_path: Path, watched: RunningGateway) -> Iterator[RunningPrometheus]:
    """As in the example, but quicker, and with another target."""
    configuration: Json = yaml.safe_load((PLACE / "prometheus.yml").read_text())
    del configuration["alerting"]
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(PLACE / "alerts.yml")]
    (job,) = configuration["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{watched.port}"]}]
    with start_prometheus(tmp_path, configuration) as running:
        yield running


def firing(prometheus: RunningPrometheus) -> dict[str, list[Json]]:
    """The labels of alerts that fire, by name."""
    return {
        rule["name"]: [alert["labels"] for alert in rule["alerts"] if alert["state"] == "firing"]
        for rule in prometheus.rules()
    }


def queries() -> list[str]:
    panels = json.loads((PLACE / "dashboard.json").read_text())["panels"]
    return [as_asked(target["expr"]) for panel in panels for target in panel.get("targets", [])]


def test_a_gateway_whose_model_is_misconfigured_is_seen_by_a_real_prometheus(
    prometheus: RunningPrometheus, watched: RunningGateway, emulator: RunningEmulator
) -> None:
    until(lambda: prometheus.query('gateway_upstream_calls_total{outcome="misconfigured"} == 0'))
    emulator.script({"preset": "not_found", "model": "lyria-002"})
    task = httpx.post(
        f"{watched.url}/api/music_generate_lyria",
        headers={"X-Api-Key": watched.create_key()},
        json={"prompt": "slow piano"},
        timeout=60,
        trust_env=False,
    ).json()
    assert task["error"]["code"] == "model_misconfigured"
    until(lambda: firing(prometheus)["GatewayModelMisconfigured"])
    fired = {name: labels for name, labels in firing(prometheus).items() if labels}
    assert list(fired) == ["GatewayModelMisconfigured"]
    (labels,) = fired["GatewayModelMisconfigured"]
    assert (labels["job"], labels["model"], labels["severity"]) == ("gateway", "lyria-002", "ticket")
    until(lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"})
    assert [query for query in queries() if "upstream_calls" in query and not prometheus.query(query)] == []
    assert [query for query in queries() if "process_" in query and not prometheus.query(query)] == []
