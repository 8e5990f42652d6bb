"""The Cloud Run manifest against Google's own schema, and against what the gateway relies on."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.settings import Settings, variable_name

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "deploy" / "cloudrun" / "service.yaml"

Json = dict[str, Any]


@pytest.fixture
def manifest() -> Json:
    found: Json = yaml.safe_load(MANIFEST.read_text())
    return found


@pytest.fixture
def container(manifest: Json) -> Json:
    (only,) = manifest["spec"]["template"]["spec"]["containers"]
    found: Json = only
    return found


@pytest.fixture(scope="module")
def discovery() -> Json:
    """Google's description of the Cloud Run API, out of its Python client's wheel."""
    spec = importlib.util.find_spec("googleapiclient")
    assert spec is not None
    assert spec.origin is not None
    document = Path(spec.origin).parent / "discovery_cache" / "documents" / "run.v1.json"
    found: Json = json.loads(document.read_text())
    return found


@pytest.fixture(scope="module")
def faults(discovery: Json) -> Callable[[Json], list[str]]:
    """Lists what Google's schema has against a Knative-style Service."""
    schemas = {name: closed(schema) for name, schema in discovery["schemas"].items()}
    validator = jsonschema.Draft202012Validator({"$ref": "#/schemas/Service", "schemas": schemas})

    def check(manifest: Json) -> list[str]:
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]

    return check


def closed(schema: Any) -> Any:
    """A discovery schema as JSON Schema that allows no name it does not mention.

    Google's `format`s are not JSON Schema's, and its type `any` means none is given.
    """
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items() if key in {"type", "items", "enum"}}
    if found.get("type") == "any":
        del found["type"]
    if "$ref" in schema:
        found["$ref"] = f"#/schemas/{schema['$ref']}"
    if "properties" in schema:
        found["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        found["additionalProperties"] = False
    elif "additionalProperties" in schema:
        found["additionalProperties"] = closed(schema["additionalProperties"])
    return found


# What Google says


def test_manifest_is_valid_by_googles_schema(manifest: Json, faults: Callable[[Json], list[str]]) -> None:
    assert faults(manifest) == []


def test_a_misspelt_field_is_caught(
    manifest: Json, container: Json, faults: Callable[[Json], list[str]]
) -> None:
    container["resorces"] = container.pop("resources")
    (fault,) = faults(manifest)
    assert "resorces" in fault


def test_a_number_as_text_is_caught(manifest: Json, faults: Callable[[Json], list[str]]) -> None:
    manifest["spec"]["template"]["spec"]["containerConcurrency"] = "500"
    (fault,) = faults(manifest)
    assert "containerConcurrency" in fault


def test_annotations_are_known_and_on_the_right_level(manifest: Json, discovery: Json) -> None:
    described = discovery["schemas"]["ObjectMeta"]["properties"]["annotations"]["description"]
    levels = dict(re.findall(r"\* `([^`]+)`: ([A-Za-z, ]+?)[.,]? ?(?=\*|$)", described))
    for level, annotated in (("Service", manifest), ("Revision", manifest["spec"]["template"])):
        for name, value in annotated["metadata"]["annotations"].items():
            assert level in levels[name], f"{name} belongs on {levels[name]}"
            assert isinstance(value, str), f"{name} must be text"


# What the gateway relies on


def test_processor_time_goes_on_between_requests(manifest: Json) -> None:
    annotations = manifest["spec"]["template"]["metadata"]["annotations"]
    assert annotations["run.googleapis.com/cpu-throttling"] == "false"
    assert annotations["run.googleapis.com/execution-environment"] == "gen2"


def test_there_is_exactly_one_instance_because_the_database_is_embedded(manifest: Json) -> None:
    annotations = manifest["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/minScale"] == "1"
    assert annotations["autoscaling.knative.dev/maxScale"] == "1"
    assert manifest["metadata"]["annotations"]["run.googleapis.com/maxScale"] == "1"


def test_request_outlives_the_wait_for_music(manifest: Json, container: Json) -> None:
    wait_s = float(variables(container).get("GATEWAY_WAIT_S", Settings.model_fields["wait_s"].default))
    assert manifest["spec"]["template"]["spec"]["timeoutSeconds"] >= max(300, wait_s + 30)


def test_probes_ask_the_routes_made_for_them(container: Json) -> None:
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    (port,) = container["ports"]
    for probe in (container["startupProbe"], container["livenessProbe"]):
        assert probe["httpGet"]["port"] == port["containerPort"]
        assert probe["timeoutSeconds"] <= probe["periodSeconds"]


def test_every_variable_is_a_setting(container: Json) -> None:
    known = {variable_name(field) for field in Settings.model_fields}
    assert set(variables(container)) <= known


def test_values_are_accepted_by_the_settings(container: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(container).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.storage_url.startswith("gs://")
    assert [deployment.location for deployment in settings.deployments()] == ["us-central1"]


def test_secrets_come_from_the_secret_manager(container: Json) -> None:
    for item in container["env"]:
        secret = re.search("SECRET|TOKEN|PASSWORD|KEY", item["name"]) is not None
        assert ("valueFrom" in item) is secret, item["name"]
        assert ("value" in item) is not secret, item["name"]


def test_runs_as_an_account_of_its_own(manifest: Json) -> None:
    assert manifest["spec"]["template"]["spec"]["serviceAccountName"].startswith("gateway@")


def variables(container: Json) -> dict[str, str]:
    """The variables of `container`; a secret one stands as a long enough text."""
    return {item["name"]: item.get("value", "s" * 64) for item in container["env"]}
