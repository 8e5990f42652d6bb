"""openapi.yaml and the code say the same, both ways."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate
from pydantic import BaseModel

from gateway.bootstrap.services import Services
from gateway.errors import ErrorCode
from gateway.families.registry import KINDS
from gateway.messages import DeliveryState, DisabledReason, EventType, TryOutcome
from gateway.model import Scope, TaskState
from gateway.settings import Settings
from gateway.web.admin.routes import admin_routes
from gateway.web.admin.schemas import (
    AdjustmentBody,
    BudgetsBody,
    KeyBody,
    KeyPatch,
    MemberBody,
    RotationBody,
    TenantBody,
    TenantPatch,
)
from gateway.web.app import routes
from gateway.web.bodies import BODY_LIMIT_BYTES
from gateway.web.problems import STATUSES
from gateway.web.schemas import MusicGenerateBody, MusicGenerateLyriaBody
from gateway.web.webhook_schemas import RotationBody as WebhookRotationBody
from gateway.web.webhook_schemas import WebhookBody, WebhookChangesBody
from tests.api import make_apis
from tests.specification import PATH, Specification

# Told on pages of the dashboard, which are no part of the interface; /docs/errors has them.
OF_PAGES = frozenset({ErrorCode.SIGN_IN_REFUSED, ErrorCode.SIGN_IN_UNAVAILABLE})
# Said of a schema, not part of what it takes.
_REMARKS = frozenset({"title", "description", "deprecated", "examples", "example"})


# The document


def test_the_document_is_openapi(specification: Specification) -> None:
    validate(specification.document)
    assert specification.document["openapi"].startswith("3.1")


def test_the_document_needs_no_extensions_of_yaml() -> None:
    """Merge keys are not in YAML 1.2, and not every reader knows them."""
    assert "<<:" not in PATH.read_text()
    assert not list(duplicate_names(yaml.compose(PATH.read_text())))


def test_every_operation_is_described(specification: Specification) -> None:
    for path, method in specification.operations():
        operation = specification.document["paths"][path][method.lower()]
        assert operation["summary"], (path, method)
        assert operation["description"], (path, method)
        assert operation["tags"], (path, method)
    identifiers = [
        specification.document["paths"][path][method.lower()]["operationId"]
        for path, method in specification.operations()
    ]
    assert len(set(identifiers)) == len(identifiers)


def test_every_component_is_used(specification: Specification) -> None:
    text = PATH.read_text()
    unused = [
        f"#/components/{kind}/{name}"
        for kind, entries in specification.document["components"].items()
        for name in entries
        if kind != "securitySchemes" and f'"#/components/{kind}/{name}"' not in text
    ]
    # These answer where there is no operation to hang them on.
    assert unused == ["#/components/responses/RouteNotFound", "#/components/responses/MethodNotAllowed"]


def test_what_needs_a_key_says_so(specification: Specification) -> None:
    for path, method in specification.operations():
        operation = specification.document["paths"][path][method.lower()]
        keyed, administered = path.startswith("/api/"), path.startswith("/admin/api/")
        expected: Any = "as above" if keyed else [{"AdminToken": []}] if administered else []
        assert operation.get("security", "as above") == expected, path
        assert ("401" in operation["responses"]) is (keyed or administered), path
        assert ("x-required-scope" in operation) is keyed, path
        assert operation.get("x-required-scope", Scope.READ) in set(Scope), path


def test_an_older_name_of_the_link_is_marked(specification: Specification) -> None:
    assert specification.at("/components/schemas/Task/properties/image_url")["deprecated"] is True


# Routes


def test_every_route_is_documented_and_the_reverse(
    specification: Specification, settings: Settings, services: Services
) -> None:
    apis = make_apis(settings, services)
    assert apis.admin is not None
    served = {
        (re.sub(r":\w+}", "}", route.path), method)
        for route in [*routes(apis), *admin_routes(apis.admin)]
        for method in route.methods or ()
    }
    documented = specification.operations()
    # HEAD goes with GET everywhere, and is spelled out where its answer matters.
    implied = {(path, "HEAD") for path, method in documented if method == "GET"}
    assert served == documented | implied


def test_every_call_with_a_key_may_be_told_to_slow_down(specification: Specification) -> None:
    """The abuse guard stands before all of them."""
    for path, method in specification.operations():
        if path.startswith("/api/"):
            pointer = f"/paths/{path.replace('/', '~1')}/{method.lower()}/responses"
            answer, _ = specification.resolve(specification.at(pointer).get("429", {}), "")
            problem = answer["content"]["application/problem+json"]["schema"]["allOf"][1]
            assert "slow_down" in problem["properties"]["code"]["enum"], (path, method)


# Requests


@pytest.mark.parametrize(
    ("pointer", "model"),
    [
        ("/components/schemas/MusicGenerate", MusicGenerateBody),
        ("/components/schemas/MusicGenerateLyria", MusicGenerateLyriaBody),
        ("/components/schemas/TenantCreate", TenantBody),
        ("/components/schemas/TenantPatch", TenantPatch),
        ("/components/schemas/TenantBudgets", BudgetsBody),
        ("/components/schemas/MemberPut", MemberBody),
        ("/components/schemas/KeyCreate", KeyBody),
        ("/components/schemas/KeyPatch", KeyPatch),
        ("/components/schemas/KeyRotation", RotationBody),
        ("/components/schemas/Adjustment", AdjustmentBody),
        ("/components/schemas/WebhookNew", WebhookBody),
        ("/components/schemas/WebhookChanges", WebhookChangesBody),
        ("/components/schemas/WebhookRotation", WebhookRotationBody),
    ],
)
def test_request_bodies_are_what_the_code_takes(
    specification: Specification, pointer: str, model: type[BaseModel]
) -> None:
    documented = normal(resolved(specification, specification.at(pointer)))
    assert documented == normal(inlined(model.model_json_schema()))


def test_a_form_takes_the_same_fields_and_a_body_of_them(specification: Specification) -> None:
    form = normal(resolved(specification, specification.at("/components/schemas/MusicGenerateForm")))
    body = form["properties"].pop("body")
    expected = normal(MusicGenerateBody.model_json_schema())
    assert form["properties"] == body["properties"] == expected["properties"]
    assert form["additionalProperties"] is body["additionalProperties"] is False
    assert form["anyOf"] == [
        {"required": ["prompt"]},
        {"required": ["body"], "properties": {"body": {"required": ["prompt"]}}},
    ]


def test_both_spellings_of_the_fields_in_a_form_are_one(specification: Specification) -> None:
    form = specification.at("/components/schemas/MusicGenerateForm/properties")
    assert {k: v for k, v in form.items() if k != "body"} == form["body"]["properties"]


def test_the_three_ways_to_send_are_documented(specification: Specification) -> None:
    content = specification.at("/paths/~1api~1music_generate/post/requestBody/content")
    assert set(content) == {"application/json", "application/x-www-form-urlencoded", "multipart/form-data"}
    assert content["multipart/form-data"]["encoding"]["body"] == {"contentType": "application/json"}


def test_the_limit_of_a_body_is_documented(specification: Specification) -> None:
    description = specification.at("/paths/~1api~1music_generate/post/description")
    assert f"{BODY_LIMIT_BYTES:,} bytes" in description


# Values


def test_states_and_models_are_all_documented(specification: Specification) -> None:
    task = specification.at("/components/schemas/Task/properties")
    assert set(task["status"]["enum"]) == {state.value for state in TaskState}
    assert set(task["model"]["enum"]) == set(KINDS)


def test_events_and_what_becomes_of_them_are_all_documented(specification: Specification) -> None:
    schemas = specification.at("/components/schemas")
    assert set(specification.document["webhooks"]) == set(EventType)
    assert set(schemas["EventType"]["enum"]) == set(EventType)
    assert {kind for kind in EventType if f"`{kind}`" not in schemas["EventType"]["description"]} == set()
    assert set(schemas["DeliveryState"]["enum"]) == set(DeliveryState)
    assert set(schemas["WebhookEndpoint"]["properties"]["disabled_reason"]["enum"]) == {*DisabledReason, None}
    errors = set(TryOutcome) - {TryOutcome.DELIVERED}
    assert set(schemas["Try"]["properties"]["error"]["enum"]) == {*errors, None}
    described = schemas["Try"]["properties"]["error"]["description"]
    assert {error for error in errors if f"`{error}`" not in described} == set()


def test_why_a_task_fails_is_all_documented(specification: Specification) -> None:
    codes = specification.at("/components/schemas/TaskError/properties/code")
    of_tasks = {code.value for code in ErrorCode if code not in STATUSES} | {
        ErrorCode.MODEL_UNAVAILABLE.value
    }
    assert set(codes["enum"]) == of_tasks
    assert {code for code in of_tasks if f"`{code}`" not in codes["description"]} == set()


def test_every_error_code_is_documented_with_its_status_and_the_reverse(specification: Specification) -> None:
    documented = {
        (code, schema["properties"]["status"]["const"])
        for _, answer in answers(specification)
        for media in answer.get("content", {}).values()
        for schema in media["schema"].get("allOf", [])
        if "code" in schema.get("properties", {})
        for code in schema["properties"]["code"]["enum"]
    }
    assert documented == {
        (code.value, status) for code, (status, _) in STATUSES.items() if code not in OF_PAGES
    }


def test_an_error_is_documented_under_its_own_status(specification: Specification) -> None:
    for path, method in specification.operations():
        for status, reference in specification.document["paths"][path][method.lower()]["responses"].items():
            answer, _ = specification.resolve(reference, "")
            problem = answer.get("content", {}).get("application/problem+json")
            consts = [
                s["properties"]["status"]["const"]
                for s in (problem or {}).get("schema", {}).get("allOf", [])[1:]
            ]
            assert consts == ([int(status)] if int(status) >= 400 else []), (path, method, status)


# Examples


def test_every_example_is_valid(specification: Specification) -> None:
    checked = 0
    for pointer, holder in holders_of_examples(specification.document, ""):
        values = [holder["example"]] if "example" in holder else []
        values += [specification.resolve(e, "")[0]["value"] for e in holder.get("examples", {}).values()]
        for value in values:
            errors = [
                f"{e.json_path}: {e.message}"
                for e in specification.validator(f"{pointer}/schema").iter_errors(value)
            ]
            assert not errors, f"{pointer}: {errors}"
            checked += 1
    assert checked > 60


def test_every_body_has_examples_of_every_code(specification: Specification) -> None:
    for name, answer in answers(specification):
        for media_type, media in answer.get("content", {}).items():
            if media_type == "audio/*":
                continue
            values = [specification.resolve(e, "")[0]["value"] for e in media["examples"].values()]
            if media_type == "application/problem+json":
                codes = set(media["schema"]["allOf"][1]["properties"]["code"]["enum"])
                assert {value["code"] for value in values} == codes, name
            assert values, name


def test_examples_of_problems_have_their_real_titles(specification: Specification) -> None:
    for name, answer in answers(specification):
        problem = answer.get("content", {}).get("application/problem+json", {})
        for example in problem.get("examples", {}).values():
            value = example["value"]
            assert STATUSES[ErrorCode(value["code"])] == (value["status"], value["title"]), name
            assert value["type"] == f"urn:gateway:problem:{value['code']}", name


def test_every_request_body_has_examples(specification: Specification) -> None:
    for path, method in specification.operations():
        body = specification.document["paths"][path][method.lower()].get("requestBody", {"content": {}})
        assert all(media["examples"] for media in body["content"].values()), path


# Help


def answers(specification: Specification) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every documented response, by a name to tell it by."""
    yield from specification.document["components"]["responses"].items()
    for path, method in specification.operations():
        for status, answer in specification.document["paths"][path][method.lower()]["responses"].items():
            if "$ref" not in answer:
                yield f"{method} {path} {status}", answer


def holders_of_examples(value: Any, pointer: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything that has a schema and examples beside it."""
    if isinstance(value, dict):
        if "schema" in value and ("example" in value or "examples" in value):
            yield pointer, value
        for name, inner in value.items():
            if name not in {"example", "examples"}:
                yield from holders_of_examples(
                    inner, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
                )
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from holders_of_examples(inner, f"{pointer}/{index}")


def inlined(schema: dict[str, Any]) -> Any:
    """A model's schema with its own definitions put in."""
    return resolved(Specification(schema), {k: v for k, v in schema.items() if k != "$defs"})


def resolved(specification: Specification, schema: Any) -> Any:
    """The schema with its references put in; what stands beside one overrides it."""
    if isinstance(schema, list):
        return [resolved(specification, item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: resolved(specification, value) for name, value in schema.items() if name != "$ref"}
    if "$ref" not in schema:
        return rest
    return {**resolved(specification, specification.at(schema["$ref"].removeprefix("#"))), **rest}


def normal(schema: Any) -> Any:
    """Less what is only said about it; null as "may be left out", which is how the code says it."""
    if isinstance(schema, list):
        return [normal(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if {"type": "null"} in schema.get("anyOf", []) and "default" in schema:
        (inner,) = [option for option in schema["anyOf"] if option != {"type": "null"}]
        rest = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
        return normal({**inner, **rest})
    properties = {name: normal(value) for name, value in schema.get("properties", {}).items()}
    kept = {name: normal(value) for name, value in schema.items() if name not in _REMARKS}
    return {**kept, "properties": properties} if properties else kept


def duplicate_names(node: yaml.Node | None) -> Iterator[str]:
    """Names that a mapping has twice, which YAML forbids and its reader lets pass."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        yield from {name for name in names if names.count(name) > 1}
        for _, value in node.value:
            yield from duplicate_names(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from duplicate_names(item)
