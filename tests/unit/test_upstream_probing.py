"""What the answer to a call that costs nothing says of a deployment, and what such a call is."""

import json
from typing import Any

import pytest

from gateway.families.lyria2 import LYRIA2
from gateway.families.lyria3 import LYRIA3_CLIP
from gateway.families.musicgen import MUSICGEN
from gateway.findings import Finding, Outcome
from gateway.model import ModelKind
from gateway.upstream.probing import free_call, judge
from tests.factories import a_deployment

OWN_HOST = "7.us-central1-123.prediction.vertexai.goog"


def google(status: str, message: str = "no") -> dict[str, Any]:
    return {"error": {"code": 0, "message": message, "status": status}}


def judged(kind: ModelKind, status: int, body: object, **changes: Any) -> Finding:
    deployment = a_deployment(kind, **changes)
    text = body if isinstance(body, str) else json.dumps(body)
    return judge(deployment, free_call(deployment, None), status, text)


def test_lyria_2_is_asked_for_nothing_where_it_is_called() -> None:
    call = free_call(a_deployment(LYRIA2), None)
    assert (call.method, json.loads(call.body or b"")) == ("POST", {"instances": [], "parameters": {}})
    assert call.url.endswith("/locations/us-central1/publishers/google/models/lyria-002:predict")


def test_lyria_3_is_asked_without_input() -> None:
    call = free_call(a_deployment(LYRIA3_CLIP, location="global"), None)
    assert json.loads(call.body or b"") == {"model": "lyria-3-clip-preview", "store": False}
    assert call.headers["Api-Revision"]


def test_an_endpoint_is_looked_at_on_its_regions_host_and_its_container_left_alone() -> None:
    call = free_call(a_deployment(MUSICGEN, host=OWN_HOST), None)
    assert (call.method, call.body) == ("GET", None)
    assert call.url == (
        "https://us-central1-aiplatform.googleapis.com/v1/projects/test-project/locations/us-central1/endpoints/7"
    )


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, google("INVALID_ARGUMENT"), Outcome.OK),
        (400, "not JSON", Outcome.FAILED),
        (400, {"error": {"code": 400, "message": "no input"}}, Outcome.OK),
        (200, "welcome", Outcome.FAILED),
        (400, google("FAILED_PRECONDITION"), Outcome.FAILED),
        (401, google("UNAUTHENTICATED"), Outcome.FAILED),
        (403, google("PERMISSION_DENIED"), Outcome.FAILED),
        (404, google("NOT_FOUND"), Outcome.FAILED),
        (404, "<!DOCTYPE html>", Outcome.FAILED),
        (429, google("RESOURCE_EXHAUSTED"), Outcome.WARNING),
        (500, google("INTERNAL"), Outcome.FAILED),
        (302, "", Outcome.FAILED),
    ],
)
def test_an_answer_says_whether_a_model_may_be_called(status: int, body: object, outcome: Outcome) -> None:
    found = judged(LYRIA2, status, body)
    assert found.outcome is outcome
    assert bool(found.advice) is (outcome is not Outcome.OK)


def test_what_is_missing_is_named() -> None:
    assert (
        "roles/aiplatform.user"
        in judged(LYRIA2, 403, google("PERMISSION_DENIED", "Permission 'x' denied")).advice
    )
    assert (
        "Permission 'x' denied"
        in judged(LYRIA2, 403, google("PERMISSION_DENIED", "Permission 'x' denied")).found
    )


def test_an_endpoint_with_a_model_is_well() -> None:
    assert judged(MUSICGEN, 200, {"deployedModels": [{"id": "1"}]}).outcome is Outcome.OK


def test_an_endpoint_without_a_model_is_not() -> None:
    assert judged(MUSICGEN, 200, {"name": "x"}).found == "nothing is deployed on it"


@pytest.mark.parametrize(("host", "outcome"), [(None, Outcome.FAILED), (OWN_HOST, Outcome.OK)])
def test_a_host_of_its_own_must_be_the_one_that_is_configured(host: str | None, outcome: Outcome) -> None:
    answer = {"deployedModels": [{"id": "1"}], "dedicatedEndpointDns": OWN_HOST}
    assert judged(MUSICGEN, 200, answer, host=host).outcome is outcome
