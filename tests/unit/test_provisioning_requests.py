"""What Google is asked for: held to its discovery document, and to its own messages."""

from typing import Any

import pytest
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.endpoint import ACCELERATORS
from gateway.errors import AttemptFault, ErrorCode
from gateway.provisioning import requests
from gateway.provisioning.description import State, describe, host_of
from gateway.provisioning.plan import Plan
from gateway.provisioning.troubles import CODES, explain, explain_operation
from gateway.provisioning.vertex import message_of
from tests import discovery
from tests.plans import IMAGE, a_plan

ENDPOINT = "projects/acme-music/locations/us-central1/endpoints/7"
MODEL = "projects/acme-music/locations/us-central1/models/9"

KINDS: dict[str, tuple[Any, str]] = {
    "ModelService.UploadModel": (v1.UploadModelRequest, "UploadModelRequest"),
    "EndpointService.CreateEndpoint": (v1.CreateEndpointRequest, "Endpoint"),
    "EndpointService.DeployModel": (v1.DeployModelRequest, "DeployModelRequest"),
    "EndpointService.UndeployModel": (v1.UndeployModelRequest, "UndeployModelRequest"),
    "EndpointService.DeleteEndpoint": (v1.DeleteEndpointRequest, ""),
    "ModelService.DeleteModel": (v1.DeleteModelRequest, ""),
}

FULL = a_plan(
    weights_uri="gs://acme-weights/musicgen",
    output_uri="gs://acme-music/out",
    service_account="music@acme-music.iam.gserviceaccount.com",
    accelerator_count=2,
    max_replicas=3,
)
SHARED = a_plan(dedicated=False, inference_timeout_s=60)

CALLS = (
    *requests.all_of(a_plan()),
    *requests.all_of(FULL),
    *requests.all_of(SHARED),
    requests.undeploy_model(ENDPOINT, "5", heir=None),
    requests.undeploy_model(ENDPOINT, "5", heir="6"),
    requests.delete_endpoint(ENDPOINT),
    requests.delete_model(MODEL),
)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.rpc)
def test_googles_discovery_document_and_its_messages_take_every_body(call: requests.Call) -> None:
    kind, schema = KINDS[call.rpc]
    if schema:
        assert discovery.faults(schema, call.body) == []
    else:
        assert call.body == {}
    message = json_format.MessageToDict(kind.pb(message_of(call, kind)))
    assert message == {**call.fields, **(message if schema == "Endpoint" else call.body)}


def test_a_misspelt_field_would_be_caught() -> None:
    body = {"displayNme": "x"}
    assert discovery.faults("Endpoint", body) != []
    call = requests.Call("EndpointService.CreateEndpoint", "POST", "/", {"parent": "p"}, body)
    with pytest.raises(json_format.ParseError, match="displayNme"):
        message_of(call, v1.CreateEndpointRequest)


def test_each_accelerator_is_one_of_googles() -> None:
    assert set(ACCELERATORS) <= set(discovery.values("MachineSpec", "acceleratorType"))


def container(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = requests.upload_model(plan).body["model"]["containerSpec"]
    return found


def environment(plan: Plan) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(plan)["env"]}


def test_the_container_is_told_its_licence_its_limit_and_where_to_put_what_is_too_long() -> None:
    assert environment(FULL) == {
        "MUSICGEN_ACKNOWLEDGE_LICENCE": "cc-by-nc-4.0",
        "MUSICGEN_ANSWER_LIMIT_BYTES": "10000000",
        "MUSICGEN_OUTPUT_URI": "gs://acme-music/out",
    }
    assert environment(SHARED) == {
        "MUSICGEN_ACKNOWLEDGE_LICENCE": "cc-by-nc-4.0",
        "MUSICGEN_ANSWER_LIMIT_BYTES": "1500000",
    }


@settings(max_examples=50)
@given(
    st.booleans(),
    st.sampled_from([None, "gs://acme-music/out"]),
    st.sampled_from(["cc-by-nc-4.0", "own-weights"]),
)
def test_nothing_of_googles_own_is_ever_set(dedicated: bool, output: str | None, licence: str) -> None:
    plan = a_plan(
        dedicated=dedicated,
        inference_timeout_s=600 if dedicated else 60,
        output_uri=output,
        licence=licence,
    )
    assert [name for name in environment(plan) if name.startswith("AIP_")] == []


def test_a_model_is_its_image_its_routes_and_its_weights() -> None:
    model = requests.upload_model(FULL).body["model"]
    assert model["artifactUri"] == "gs://acme-weights/musicgen"
    assert model["labels"]["gateway"] == "musicgen"
    spec = container(FULL)
    assert spec["imageUri"] == IMAGE
    assert spec["ports"] == [{"containerPort": 8080}]
    assert (spec["predictRoute"], spec["healthRoute"]) == ("/predict", "/health")
    assert "artifactUri" not in requests.upload_model(a_plan()).body["model"]


def test_a_dedicated_endpoint_has_its_timeout_and_a_shared_one_none() -> None:
    dedicated = requests.create_endpoint(a_plan(inference_timeout_s=1800)).body
    assert dedicated["dedicatedEndpointEnabled"] is True
    assert dedicated["clientConnectionConfig"] == {"inferenceTimeout": "1800s"}
    assert set(requests.create_endpoint(SHARED).body) == {"displayName", "labels"}


def test_a_deployment_has_the_machine_the_replicas_and_all_traffic() -> None:
    body = requests.deploy_model(FULL, ENDPOINT, MODEL).body
    assert body["trafficSplit"] == {"0": 100}
    deployed = body["deployedModel"]
    assert deployed["model"] == MODEL
    assert deployed["serviceAccount"] == "music@acme-music.iam.gserviceaccount.com"
    resources = deployed["dedicatedResources"]
    assert (resources["minReplicaCount"], resources["maxReplicaCount"]) == (1, 3)
    assert resources["machineSpec"] == {
        "machineType": "g2-standard-8",
        "acceleratorType": "NVIDIA_L4",
        "acceleratorCount": 2,
    }


def test_the_same_plan_has_the_same_names_and_another_has_others() -> None:
    assert requests.deployed_name(a_plan()) == requests.deployed_name(a_plan())
    assert requests.model_fingerprint(a_plan()) == requests.model_fingerprint(a_plan(max_replicas=2))
    assert requests.deployed_name(a_plan()) != requests.deployed_name(a_plan(max_replicas=2))
    other = a_plan(image=IMAGE.replace(":1", ":2"))
    assert requests.model_fingerprint(a_plan()) != requests.model_fingerprint(other)


# What is read back


def test_what_google_leaves_out_is_nothing() -> None:
    found = describe({"name": ENDPOINT, "deployedModels": [{"id": "5"}]})
    assert (found.state, found.dedicated, found.host, found.inference_timeout_s) == (
        State.SERVING,
        False,
        None,
        None,
    )
    (deployed,) = found.deployed
    assert (deployed.machine_type, deployed.ready, deployed.traffic_percent) == ("", None, 0)


@pytest.mark.parametrize(
    ("deployed", "unfinished", "state"),
    [
        ([], [], State.EMPTY),
        ([], ["op"], State.CHANGING),
        ([{"id": "5", "status": {}}], [], State.STARTING),
        ([{"id": "5", "status": {"availableReplicaCount": 1}}], [], State.SERVING),
        ([{"id": "5"}], ["op"], State.CHANGING),
    ],
)
def test_the_state_is_what_is_deployed_and_what_goes_on(
    deployed: list[dict[str, Any]], unfinished: list[str], state: State
) -> None:
    assert describe({"name": ENDPOINT, "deployedModels": deployed}, unfinished).state is state


@pytest.mark.parametrize("prefix", ["", "https://"])
def test_the_host_is_a_bare_name(prefix: str) -> None:
    name = "7.us-central1-4711.prediction.vertexai.goog"
    assert host_of({"dedicatedEndpointDns": prefix + name}) == name
    found = describe({"name": ENDPOINT, "dedicatedEndpointDns": prefix + name})
    assert found.settings == {"GATEWAY_MUSICGEN_ENDPOINT": ENDPOINT, "GATEWAY_MUSICGEN_HOST": name}


# What Google refuses


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("UNAUTHENTICATED", "gcloud auth application-default login"),
        ("PERMISSION_DENIED", "roles/aiplatform.user"),
        ("NOT_FOUND", "check project, location"),
        ("INVALID_ARGUMENT", "mend the option"),
        ("FAILED_PRECONDITION", "gateway endpoint describe"),
        ("RESOURCE_EXHAUSTED", "more quota"),
        ("ABORTED", "repeat the command later"),
        ("UNAVAILABLE", "could not be reached"),
        ("DEADLINE_EXCEEDED", "repeat the command"),
        ("DATA_LOSS", "Google failed"),
    ],
)
def test_what_google_refuses_says_what_to_do_and_what_google_said(status: str, advice: str) -> None:
    error = explain(status, "because")
    assert advice in error.detail
    assert error.internal == f"{status}: because"
    by_number = explain_operation({"code": CODES.index(status), "message": "because"})
    assert (by_number.detail, by_number.internal) == (error.detail, error.internal)


def test_only_what_passes_by_itself_is_not_the_operators_to_mend() -> None:
    assert explain("RESOURCE_EXHAUSTED", "x").fault is AttemptFault.BUSY
    assert explain("PERMISSION_DENIED", "x").code is ErrorCode.MODEL_MISCONFIGURED
    assert explain("UNAVAILABLE", "x").fault is AttemptFault.UNKNOWN


@pytest.mark.parametrize("error", [{}, {"code": 99}, {"code": "7"}, {"code": -1}])
def test_an_error_that_nobody_knows_is_an_error_still(error: dict[str, object]) -> None:
    assert explain_operation(error).internal == "UNKNOWN: no reason given"
