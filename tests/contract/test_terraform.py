"""deploy/terraform against the provider's schema, the settings and its promises: least privilege first."""

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings, variable_name
from gateway.urls import CloudSqlPlace, cloud_sql_place
from tests import terraform, terraform_schema
from tests.discovery import document, words
from tests.terraform import Block

FILES = sorted(terraform_schema.TERRAFORM.glob("*.tf"))
ROOT = terraform_schema.ROOT

Json = dict[str, Any]

# Who may do what, and where. Nothing else is granted.
ROLES = {
    "google_project_iam_member.models": "roles/aiplatform.user",
    "google_project_iam_member.database": "roles/cloudsql.client",
    "google_project_iam_member.database_login": "roles/cloudsql.instanceUser",
    "google_storage_bucket_iam_member.audio": "roles/storage.objectUser",
    "google_storage_bucket_iam_member.backup": "roles/storage.objectUser",
    "google_service_account_iam_member.signs_as_itself": "roles/iam.serviceAccountTokenCreator",
    "google_secret_manager_secret_iam_member.signing_secret": "roles/secretmanager.secretAccessor",
    "google_secret_manager_secret_iam_member.admin_token": "roles/secretmanager.secretAccessor",
    "google_secret_manager_secret_iam_member.database_url": "roles/secretmanager.secretAccessor",
    "google_cloud_run_v2_service_iam_member.invokers": "roles/run.invoker",
}

# What expressions in the settings stand for, where no default of a variable tells.
SAMPLES = {
    "var.project": "my-project",
    "local.public_url": "https://gateway.example.com",
    "local.proxies": "2",
    "google_storage_bucket.audio.name": "my-bucket",
}


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return terraform.read_folder(terraform_schema.TERRAFORM)


@pytest.fixture(scope="module")
def schema() -> Json:
    return terraform_schema.load()


@pytest.fixture(scope="module")
def resources(blocks: list[Block]) -> dict[str, Json]:
    return {".".join(block.labels): block.body for block in blocks if block.kind == "resource"}


# The provider's schema


def test_every_argument_is_one_of_the_providers(blocks: list[Block], schema: Json) -> None:
    checked = [block for block in blocks if block.kind in {"resource", "data"}]
    assert len(checked) > 25
    assert [fault for block in checked for fault in terraform.faults(block, schema)] == []


def test_the_excerpt_holds_what_is_used_and_no_more(schema: Json) -> None:
    held = {(kind, name.removeprefix("google_")) for kind in ("resource", "data") for name in schema[kind]}
    assert held == terraform_schema.used()


def test_the_provider_is_of_the_version_whose_schema_was_read(blocks: list[Block], schema: Json) -> None:
    (settings,) = [block.body for block in blocks if block.kind == "terraform"]
    (providers,) = settings["required_providers"]
    major_and_minor = schema["version"].rpartition(".")[0]
    assert providers["google"]["version"] == f'"~> {major_and_minor}"'


@pytest.mark.parametrize(
    ("written", "caught"),
    [
        ('name = "b"\nlocation = "l"\nforce_destory = true', "there is no argument force_destory"),
        ('location = "l"', "name is missing"),
        ('name = "b"\nlocation = "l"\nforce_destroy = "no"', "force_destroy is no bool"),
        ('name = "b"\nlocation = "l"\nversionning {\nenabled = true\n}', "there is no block versionning"),
        ('name = "b"\nlocation = "l"\nversioning {\nenable = true\n}', "enabled is missing"),
        ('name = "b"\nlocation = "l"\nversioning = true', "versioning is a block"),
        (
            'name = "b"\nlocation = "l"\ndynamic "cors" {\nfor_each = []\ncontent {\norigins = []\n}\n}',
            "there is no argument origins",
        ),
    ],
)
def test_a_mistake_is_caught(written: str, caught: str, schema: Json) -> None:
    (block,) = terraform.read(f'resource "google_storage_bucket" "b" {{\n{written}\n}}\n')
    assert any(fault.endswith(caught) for fault in terraform.faults(block, schema))


def test_every_word_in_capitals_is_one_that_google_lists() -> None:
    apis = ("artifactregistry.v1", "billingbudgets.v1", "monitoring.v3", "run.v2", "sqladmin.v1")
    listed = {word for api in apis for word in words(document(api))}
    # HTTP's, PostgreSQL's, the provider's own, and the name of a variable.
    others = {"HEAD", "UTF8", "ABANDON", "LITESTREAM_URL"}
    text = "\n".join(path.read_text() for path in FILES)
    used = set(re.findall(r'"(?!GATEWAY_)([A-Z][A-Z0-9_]+)"', text))
    assert len(used) > 30
    assert used - listed == others


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_reference_leads_somewhere(path: Path, blocks: list[Block], schema: Json) -> None:
    assert terraform.dangling(path.read_text(), blocks, schema) == []


@pytest.mark.parametrize(
    "reference",
    ["var.projekt", "local.nothing", "google_storage_bucket.audio.adress", "google_sql_user.x.name"],
)
def test_a_reference_that_leads_nowhere_is_caught(reference: str, blocks: list[Block], schema: Json) -> None:
    assert terraform.dangling(f'x = "${{{reference}}}"\n', blocks, schema) == [reference]


# Form


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_in_the_canonical_format(path: Path) -> None:
    assert terraform.untidy(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "a {\n   b = 1\n}\n",
        "a {\n  b  = 1\n}\n",
        "a {\n  b = 1\n  long = 2\n}\n",
        "a {\n  b = 1 \n}\n",
        "a {\n\tb = 1\n}\n",
        "a {\n  b  = [\n    1,\n  ]\n}\n",
        "a {\n}",
    ],
)
def test_another_format_is_caught(text: str) -> None:
    assert terraform.untidy(text) != []


def test_every_variable_and_output_says_what_it_is(blocks: list[Block]) -> None:
    told = [block for block in blocks if block.kind in {"variable", "output"}]
    assert [block.address for block in told if not block.body.get("description")] == []
    assert [block.address for block in told if block.kind == "variable" and "type" not in block.body] == []


def test_every_variable_is_used(blocks: list[Block]) -> None:
    text = "\n".join(path.read_text() for path in FILES if not path.name.startswith("variables"))
    names = [block.labels[0] for block in blocks if block.kind == "variable"]
    sizes = {"sqlite_mib"}  # only checked against the memory
    assert {name for name in names if not re.search(rf"var\.{name}\b", text)} == sizes


# The settings


def test_settings_are_the_gateways_and_their_values_are_accepted(
    blocks: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {variable_name(field) for field in Settings.model_fields}
    found = settings_in((terraform_schema.TERRAFORM / "locals.tf").read_text())
    assert len(found) > 15
    for name, expression in found:
        assert name in fields
        for value in values(expression, blocks):
            with monkeypatch.context() as patch:
                patch.setenv(name, value)
                Settings()


def test_secrets_are_settings_and_come_from_the_secret_manager() -> None:
    text = (terraform_schema.TERRAFORM / "locals.tf").read_text()
    fields = {variable_name(field) for field in Settings.model_fields}
    secrets = set(re.findall(r"^\s+(GATEWAY_\w+) = \{$", text, re.MULTILINE))
    assert secrets == {"GATEWAY_SIGNING_SECRET", "GATEWAY_DATABASE_URL", "GATEWAY_ADMIN_TOKEN"}
    assert secrets <= fields
    assert secrets.isdisjoint(name for name, _ in settings_in(text))


def test_settings_of_ones_own_can_be_no_secret_and_nothing_that_is_checked_elsewhere(
    blocks: list[Block],
) -> None:
    (variable,) = [block for block in blocks if block.address == "variable.settings"]
    refused = set(re.findall(r"GATEWAY_\w+", variable.body["validation"][1]["condition"]))
    assert refused <= {variable_name(field) for field in Settings.model_fields}
    secret = {
        variable_name(name)
        for name, field in Settings.model_fields.items()
        if "Secret" in str(field.annotation)
    }
    assert secret <= refused


# What it promises


def test_roles_are_the_least_there_are(resources: dict[str, Json]) -> None:
    granted = {name: body["role"].strip('"') for name, body in resources.items() if "_iam_" in name}
    assert granted == ROLES


def test_nobody_is_everybody(resources: dict[str, Json]) -> None:
    members = {name: str(body["member"]) for name, body in resources.items() if "_iam_" in name}
    assert members.pop("google_cloud_run_v2_service_iam_member.invokers") == "${each.value}"
    assert set(members.values()) == {"${google_service_account.gateway.member}"}
    text = "\n".join(path.read_text() for path in FILES if path.name != "variables.tf")
    assert "allUsers" not in text
    assert "allAuthenticatedUsers" not in text


def test_there_is_no_key_file(resources: dict[str, Json]) -> None:
    assert [name for name in resources if "account_key" in name] == []


def test_the_internet_reaches_it_only_if_that_is_said(
    blocks: list[Block], resources: dict[str, Json]
) -> None:
    (public,) = [block.body for block in blocks if block.address == "variable.public"]
    assert public["default"] is False
    ingress = resources["google_cloud_run_v2_service.gateway"]["ingress"]
    assert ingress == '${var.public ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"}'


def test_buckets_are_private(resources: dict[str, Json]) -> None:
    buckets = [body for name, body in resources.items() if name.startswith("google_storage_bucket.")]
    assert len(buckets) == 2
    for bucket in buckets:
        assert bucket["public_access_prevention"] == '"enforced"'
        assert bucket["uniform_bucket_level_access"] is True
        assert bucket["force_destroy"] is False


def test_no_secret_reaches_state_or_plan(resources: dict[str, Json]) -> None:
    text = "\n".join(path.read_text() for path in FILES)
    assert re.findall(r"\b(?:secret_data|password) *=", text) == []
    assert "secret_data_wo" in resources["google_secret_manager_secret_version.database_url"]
    assert "password_wo" in resources["google_sql_user.gateway"]


def test_the_url_without_a_password_is_one_that_the_gateway_takes(resources: dict[str, Json]) -> None:
    text = (terraform_schema.TERRAFORM / "secrets.tf").read_text()
    (parts,) = re.findall(r"secret_data_wo = join\(\"\", \[\n(.*?)\n  \]\)", text, re.DOTALL)
    by_iam = re.sub(r"local\.database_iam \? (\S+) : \"(?:[^\"$]|\$\{.+?\})*\"", r"\1", parts)
    for name, value in (
        ("local.database_account", "gateway@p.iam"),
        ("var.name", "gateway"),
        ("google_sql_database_instance.gateway[0].connection_name", "p:us-central1:gateway-db"),
    ):
        by_iam = by_iam.replace(name, value)
    url = re.sub(r"[\s\",${}]", "", by_iam)
    place = CloudSqlPlace("p:us-central1:gateway-db", "gateway@p.iam", "gateway", "public")
    assert cloud_sql_place(url) == place
    assert resources["google_sql_user.account"]["type"] == '"CLOUD_IAM_SERVICE_ACCOUNT"'


def test_probes_ask_the_routes_made_for_them(resources: dict[str, Json]) -> None:
    (template,) = resources["google_cloud_run_v2_service.gateway"]["template"]
    (container,) = template["containers"]
    for name, path in (("startup_probe", "/readyz"), ("liveness_probe", "/livez")):
        (probe,) = container[name]
        assert probe["http_get"][0]["path"] == f'"{path}"'
        assert probe["timeout_seconds"] <= probe["period_seconds"]
    (startup,) = container["startup_probe"]
    assert startup["period_seconds"] * startup["failure_threshold"] <= 240


def test_processor_time_goes_on_between_requests(resources: dict[str, Json]) -> None:
    (template,) = resources["google_cloud_run_v2_service.gateway"]["template"]
    assert template["containers"][0]["resources"][0]["cpu_idle"] is False
    assert template["execution_environment"] == '"EXECUTION_ENVIRONMENT_GEN2"'


def test_grace_ends_before_cloud_run_kills(blocks: list[Block]) -> None:
    found = dict(settings_in((terraform_schema.TERRAFORM / "locals.tf").read_text()))
    assert [float(value) for value in values(found["GATEWAY_GRACE_S"], blocks)] == [5, 8]


def test_alerts_look_for_what_the_gateway_says() -> None:
    text = (terraform_schema.TERRAFORM / "alerts.tf").read_text()
    said = "\n".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    lines = re.findall(r'jsonPayload\.message =~ \\"(.+?)\\"', text)
    codes = re.findall(r'jsonPayload\.code = \\"(.+?)\\"', text)
    assert len(lines) == 2
    assert codes == ["model_misconfigured"]
    for line in lines:
        assert re.search(line, said), line
    assert '"model_misconfigured"' in said
    assert "code" in re.findall(r'extra=\{"(\w+)"', said)


def test_every_alert_is_in_the_runbook() -> None:
    runbook = (ROOT / "deploy" / "README.md").read_text()
    text = (terraform_schema.TERRAFORM / "alerts.tf").read_text()
    shown = re.findall(r"^ {4,6}(\w+) = \{$", text, re.MULTILINE)
    shown += re.findall(r'"\$\{var\.name\}: (\w+)"', text)
    assert len(shown) > 10
    assert [name for name in shown if f"`{name.replace('_', ' ')}`" not in runbook] == []


def test_what_the_runbook_sets_is_a_variable(blocks: list[Block]) -> None:
    names = {block.labels[0] for block in blocks if block.kind == "variable"}
    runbook = (ROOT / "deploy" / "README.md").read_text()
    set_there = set(re.findall(r"-var '?(\w+)=", runbook)) | set(
        re.findall(r"^(\w+) += ", runbook, re.MULTILINE)
    )
    assert set_there
    assert set_there <= names


def settings_in(text: str) -> list[tuple[str, str]]:
    """Name and expression of each setting that is no secret."""
    return re.findall(r"^\s+(GATEWAY_\w+) += (?!\{$)(.+)$", text, re.MULTILINE)


def values(expression: str, blocks: list[Block]) -> list[str]:
    """What a setting may be: both sides of a condition, with defaults of variables, or samples, put in."""
    if condition := re.fullmatch(r"tostring\((.*)\)", expression):
        return values(condition[1], blocks)
    if condition := re.fullmatch(r"[^?]+ \? (.+) : (.+)", expression):
        return [value for side in condition.groups() for value in values(side, blocks)]
    if re.fullmatch(r"\d+", expression):
        return [expression]
    if text := re.fullmatch(r'"(.*)"', expression):
        return [re.sub(r"\$\{(.+?)\}", lambda match: values(match[1], blocks)[0], text[1])]
    if expression in SAMPLES:
        return [SAMPLES[expression]]
    defaults = {block.labels[0]: block.body["default"] for block in blocks if "default" in block.body}
    return [str(defaults[expression.removeprefix("var.")]).strip('"')]
