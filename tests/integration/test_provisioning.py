"""The steps of deploying, through Google's own client, against a stand-in that keeps Google's rules."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud import aiplatform_v1 as v1
from google.cloud.aiplatform_v1.services.endpoint_service.transports.grpc import EndpointServiceGrpcTransport
from google.cloud.aiplatform_v1.services.model_service.transports.grpc import ModelServiceGrpcTransport

from gateway.errors import AttemptFault, ConfigurationError, NotFound, UpstreamError
from gateway.provisioning import requests
from gateway.provisioning.deployer import Deployer
from gateway.provisioning.description import State
from gateway.provisioning.vertex import Vertex, open_vertex
from tests.httpstub import Answer, Call, start_stub
from tests.plans import IMAGE, PLACE, a_plan
from tests.standin import NEVER, Refused, StandIn, start_standin

DEPLOYING = ["UploadModel", "CreateEndpoint", "DeployModel"]
BUSY = Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "CustomModelServingL4GPUsPerProjectPerRegion")


class Desk:
    """A deployer whose words are kept, and whose time passes by itself."""

    def __init__(self, platform: Vertex) -> None:
        self.said: list[str] = []
        self.slept: list[float] = []
        self.deployer = Deployer(platform, say=self.said.append, sleep=self.slept.append)


@pytest.fixture
def google() -> Iterator[StandIn]:
    with start_standin() as standin:
        yield standin


@pytest.fixture
def vertex(google: StandIn) -> Iterator[Vertex]:
    opened = open_vertex("us-central1", url=google.url, anonymous=True)
    yield opened
    opened.close()


@pytest.fixture
def desk(vertex: Vertex) -> Desk:
    return Desk(vertex)


# Deploying


def test_a_model_is_uploaded_an_endpoint_created_and_the_one_deployed_on_the_other(
    google: StandIn, desk: Desk
) -> None:
    found = desk.deployer.deploy(a_plan())
    assert google.changes == DEPLOYING
    (endpoint,) = google.endpoints
    assert (found.endpoint, found.state) == (endpoint, State.SERVING)
    (deployed,) = found.deployed
    assert (deployed.traffic_percent, deployed.ready, deployed.machine_type) == (100, 1, "g2-standard-8")
    assert list(google.models) == [deployed.model]
    assert desk.deployer.there_is() == (("model", deployed.model), ("endpoint", endpoint))
    assert len(desk.said) == 3


def test_what_is_sent_is_what_a_dry_run_shows(google: StandIn, desk: Desk) -> None:
    desk.deployer.deploy(a_plan())
    shown = json.dumps([call.body for call in requests.all_of(a_plan())])
    (endpoint,), (model,) = google.endpoints, google.models
    for word, name in (("endpoints/ENDPOINT_ID", endpoint), ("models/MODEL_ID", model)):
        shown = shown.replace(f"{PLACE.parent}/{word}", name)
    assert [body for _method, body in google.calls] == json.loads(shown)


def test_repeating_it_changes_nothing(google: StandIn, desk: Desk) -> None:
    first = desk.deployer.deploy(a_plan())
    assert desk.deployer.survey(a_plan()).is_done
    assert desk.deployer.deploy(a_plan()) == first
    assert google.changes == DEPLOYING


@pytest.mark.parametrize("failed", DEPLOYING)
def test_what_failed_half_way_is_taken_up_where_it_stopped(google: StandIn, desk: Desk, failed: str) -> None:
    google.failures[failed] = BUSY
    with pytest.raises(UpstreamError, match="more quota") as caught:
        desk.deployer.deploy(a_plan())
    assert caught.value.fault is AttemptFault.BUSY
    assert "CustomModelServingL4GPUs" in str(caught.value.internal)
    assert len(desk.deployer.there_is()) == DEPLOYING.index(failed)
    assert desk.deployer.deploy(a_plan()).state is State.SERVING
    assert google.changes == [
        *DEPLOYING[: DEPLOYING.index(failed) + 1],
        *DEPLOYING[DEPLOYING.index(failed) :],
    ]


def test_another_image_replaces_the_one_before_on_the_same_endpoint(google: StandIn, desk: Desk) -> None:
    before = desk.deployer.deploy(a_plan())
    other = a_plan(image=IMAGE.replace(":1", ":2"))
    survey = desk.deployer.survey(other)
    assert (survey.current, survey.others) == (None, before.deployed)
    after = desk.deployer.deploy(other)
    assert google.changes[3:] == ["UploadModel", "DeployModel", "UndeployModel"]
    assert after.endpoint == before.endpoint
    assert [each.traffic_percent for each in after.deployed] == [100]
    assert after.deployed[0].model != before.deployed[0].model


def test_more_replicas_need_no_other_model(google: StandIn, desk: Desk) -> None:
    desk.deployer.deploy(a_plan())
    after = desk.deployer.deploy(a_plan(max_replicas=3))
    assert google.changes[3:] == ["DeployModel", "UndeployModel"]
    assert [each.max_replicas for each in after.deployed] == [3]


def test_what_was_to_be_replaced_is_taken_off_by_the_next_run(google: StandIn, desk: Desk) -> None:
    desk.deployer.deploy(a_plan())
    other = a_plan(max_replicas=3)
    google.refusals["UndeployModel"] = Refused(grpc.StatusCode.ABORTED, "busy")
    with pytest.raises(UpstreamError, match="repeat the command later"):
        desk.deployer.deploy(other)
    assert not desk.deployer.survey(other).is_done
    assert len(desk.deployer.deploy(other).deployed) == 1


def test_what_somebody_elses_has_the_same_name_is_not_taken_for_ours(google: StandIn, desk: Desk) -> None:
    theirs = "projects/4711/locations/us-central1/endpoints/1"
    google.endpoints[theirs] = {"name": theirs, "displayName": "musicgen", "deployedModels": []}
    assert desk.deployer.deploy(a_plan()).endpoint != theirs
    with pytest.raises(ConfigurationError, match="was not made by"):
        desk.deployer.check_made_here(theirs)


def test_two_endpoints_of_one_name_are_for_people_to_tell_apart(google: StandIn, desk: Desk) -> None:
    found = desk.deployer.deploy(a_plan())
    google.endpoints["copy"] = google.endpoints[found.endpoint] | {"name": f"{found.endpoint}0"}
    with pytest.raises(ConfigurationError, match="There are 2 endpoints"):
        desk.deployer.deploy(a_plan())


@pytest.mark.parametrize(
    ("first", "then", "advice"),
    [
        ({}, {"dedicated": False, "inference_timeout_s": 60}, "say --dedicated"),
        ({"dedicated": False, "inference_timeout_s": 60}, {}, "say --shared"),
        ({"inference_timeout_s": 900}, {}, "--inference-timeout-s 900"),
    ],
)
def test_an_endpoint_does_not_become_another_kind(
    google: StandIn, desk: Desk, first: dict[str, object], then: dict[str, object], advice: str
) -> None:
    desk.deployer.deploy(a_plan(**first))
    with pytest.raises(ConfigurationError, match=advice):
        desk.deployer.deploy(a_plan(**then))
    assert google.changes == DEPLOYING


# Waiting


def test_an_operation_is_looked_at_until_it_is_done_less_and_less_often(google: StandIn, desk: Desk) -> None:
    google.looks = 7
    desk.deployer.deploy(a_plan())
    assert desk.slept[:7] == [1, 2, 4, 8, 15, 15, 15]
    assert len(desk.slept) % 3 == 0
    still = [line for line in desk.said if line.startswith("Still going on after 1 min: projects/4711/")]
    assert len(still) == 3


def test_stopped_while_waiting_it_knows_what_there_is_and_the_next_run_waits_for_the_same(
    google: StandIn, vertex: Vertex
) -> None:
    def ctrl_c(_seconds: float) -> None:
        raise KeyboardInterrupt

    google.on_call = lambda method: setattr(google, "looks", NEVER if method == "DeployModel" else 0)
    stopped = Deployer(vertex, say=lambda _line: None, sleep=ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        stopped.deploy(a_plan())
    (endpoint,), (model,) = google.endpoints, google.models
    there = dict(stopped.there_is())
    assert (there["endpoint"], there["model"]) == (endpoint, model)
    assert there["operation"].startswith(f"{endpoint}/operations/")

    desk = Desk(vertex)
    assert desk.deployer.description(endpoint).state is State.CHANGING
    google.on_call = lambda method: google.finish_all() if method == "GetOperation" else None
    assert desk.deployer.deploy(a_plan()).state is State.SERVING
    assert google.changes == DEPLOYING
    assert desk.said == [f"Waiting for {there['operation']}, which was begun before."]


def test_an_earlier_operation_that_fails_is_made_up_for(google: StandIn, vertex: Vertex) -> None:
    def give_up(_seconds: float) -> None:
        raise KeyboardInterrupt

    google.failures["DeployModel"] = BUSY
    google.on_call = lambda method: setattr(google, "looks", NEVER if method == "DeployModel" else 0)
    with pytest.raises(KeyboardInterrupt):
        Deployer(vertex, say=lambda _line: None, sleep=give_up).deploy(a_plan())
    google.on_call = lambda method: google.finish_all() if method == "GetOperation" else None
    google.looks = 0
    assert Desk(vertex).deployer.deploy(a_plan()).state is State.SERVING
    assert google.changes == [*DEPLOYING, "DeployModel"]


# Showing and undeploying


def test_an_endpoint_is_found_by_its_name_and_by_its_resource_name(desk: Desk) -> None:
    made = desk.deployer.deploy(a_plan(name="studio"))
    assert desk.deployer.named(PLACE, "studio") == made
    assert desk.deployer.description(made.endpoint) == made
    assert made.host is not None
    with pytest.raises(NotFound, match="no endpoint 'musicgen'"):
        desk.deployer.named(PLACE, "musicgen")


def test_undeploying_takes_off_every_model_and_leaves_the_rest(google: StandIn, desk: Desk) -> None:
    made = desk.deployer.deploy(a_plan())
    done = desk.deployer.undeploy(made.endpoint, delete=False)
    assert done.undeployed == (made.deployed[0].id,)
    assert done.deleted == ()
    assert desk.deployer.description(made.endpoint).state is State.EMPTY
    assert len(google.models) == 1
    assert desk.deployer.undeploy(made.endpoint, delete=False).undeployed == ()
    assert desk.deployer.deploy(a_plan()).state is State.SERVING


def test_models_that_share_the_traffic_can_all_be_taken_off(google: StandIn, desk: Desk) -> None:
    endpoint = desk.deployer.deploy(a_plan()).endpoint
    held = google.endpoints[endpoint]
    (first,) = held["deployedModels"]
    held["deployedModels"] = [first, {**first, "id": "8"}, {**first, "id": "9"}]
    held["trafficSplit"] = {first["id"]: 50, "8": 30, "9": 20}
    assert desk.deployer.undeploy(endpoint, delete=False).undeployed == (first["id"], "8", "9")
    assert held["deployedModels"] == []


def test_deleting_takes_the_endpoint_and_every_model_of_its_name(google: StandIn, desk: Desk) -> None:
    desk.deployer.deploy(a_plan())
    made = desk.deployer.deploy(a_plan(image=IMAGE.replace(":1", ":2")))
    theirs = "projects/4711/locations/us-central1/models/1"
    google.models[theirs] = {"name": theirs, "displayName": "musicgen"}
    done = desk.deployer.undeploy(made.endpoint, delete=True)
    assert len(done.deleted) == 3
    assert done.deleted[0] == made.endpoint
    assert (google.endpoints, list(google.models)) == ({}, [theirs])


# Google's client


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "roles/aiplatform.user"),
        (grpc.StatusCode.INVALID_ARGUMENT, "mend the option"),
        (grpc.StatusCode.NOT_FOUND, "check project"),
        (grpc.StatusCode.UNAUTHENTICATED, "gcloud auth"),
        (grpc.StatusCode.INTERNAL, "Google failed"),
    ],
)
def test_what_google_refuses_is_an_error_of_ours(
    google: StandIn, desk: Desk, code: grpc.StatusCode, advice: str
) -> None:
    google.refusals["CreateEndpoint"] = Refused(code, "Because.")
    with pytest.raises(UpstreamError, match=advice) as caught:
        desk.deployer.deploy(a_plan())
    assert caught.value.internal == f"{code.name}: Because."


def test_a_question_is_asked_again_and_a_change_is_not(google: StandIn, vertex: Vertex) -> None:
    trouble = Refused(grpc.StatusCode.UNAVAILABLE, "Try again.")
    google.refusals["ListEndpoints"] = trouble
    assert vertex.endpoints(PLACE, requests.made_here("musicgen")) == []
    google.refusals["UploadModel"] = trouble
    with pytest.raises(UpstreamError, match="repeat the command"):
        vertex.send(requests.upload_model(a_plan()))
    assert google.changes == []


def test_a_server_that_is_not_there_is_given_up_in_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    lost = Vertex(
        v1.ModelServiceClient(transport=ModelServiceGrpcTransport(channel=channel)),
        v1.EndpointServiceClient(transport=EndpointServiceGrpcTransport(channel=channel)),
        patience_s=0,
    )
    with pytest.raises(UpstreamError, match="could not be reached"):
        lost.endpoint("projects/acme-music/locations/us-central1/endpoints/7")
    lost.close()


@pytest.mark.parametrize(
    ("url", "anonymous", "advice"),
    [
        ("", True, "answers nobody without credentials"),
        ("http://127.0.0.1:1", False, "is not encrypted"),
    ],
)
def test_credentials_are_asked_for_where_they_are_needed_and_sent_nowhere_else(
    url: str, anonymous: bool, advice: str
) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        open_vertex("us-central1", url=url, anonymous=anonymous)


def test_an_encrypted_stand_in_needs_no_credentials() -> None:
    open_vertex("us-central1", url="https://127.0.0.1:1", anonymous=True).close()


def a_key_file(directory: Path, token_url: str) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "key.json"
    account = {"type": "service_account", "client_email": "x@acme-music.iam.gserviceaccount.com"}
    path.write_text(json.dumps({**account, "private_key": pem.decode(), "token_uri": f"{token_url}/token"}))
    return path


@pytest.mark.parametrize("granted", [True, False])
def test_credentials_are_tried_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granted: bool
) -> None:
    asked: list[Call] = []

    def token(call: Call) -> Answer:
        asked.append(call)
        body = {"access_token": "t", "expires_in": 3600} if granted else {"error": "invalid_grant"}
        return Answer(
            200 if granted else 400, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )

    with start_stub(token) as url:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(a_key_file(tmp_path, url)))
        if granted:
            open_vertex("us-central1", url="", anonymous=False).close()
        else:
            with pytest.raises(ConfigurationError, match="application-default login") as caught:
                open_vertex("us-central1", url="", anonymous=False)
            assert "invalid_grant" in str(caught.value.internal)
    assert [call.path for call in asked] == ["/token"]
