"""A stand-in for the part of Vertex AI that makes endpoints: Google's own messages over gRPC, with its rules.

It holds every request to the discovery document, keeps what was made, gives ids out as Google does (under the
number of the project), and has long-running operations that take as many looks as a test wants.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.cloud import aiplatform_v1 as v1
from google.longrunning import operations_pb2
from google.protobuf import json_format

from tests import discovery

PROJECT, NUMBER = "acme-music", "4711"
LOCATION = "us-central1"
HOST = "1001.us-central1-4711.prediction.vertexai.goog"
NEVER = 10**9
# Google tells more than its client has names for.
UNHEARD = "type.googleapis.com/google.cloud.aiplatform.internal.Unheard"

Json = dict[str, Any]


class Refused(Exception):
    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        self.code, self.message = code, message


@dataclass
class Going:
    """An operation: what it does in its end, and how many looks are left until then."""

    message: operations_pb2.Operation
    finish: Callable[[], Any]
    looks: int


@dataclass
class StandIn:
    """What is there, what was asked for, and what the next calls shall meet."""

    url: str = ""
    endpoints: dict[str, Json] = field(default_factory=dict)
    models: dict[str, Json] = field(default_factory=dict)
    calls: list[tuple[str, Json]] = field(default_factory=list)
    #: Looks that each operation takes; 0 is done as soon as it began.
    looks: int = 0
    #: How the next call of a method is refused, and how its operation fails.
    refusals: dict[str, Refused] = field(default_factory=dict)
    failures: dict[str, Refused] = field(default_factory=dict)
    #: Called with the method's name when it was asked for.
    on_call: Callable[[str], None] = lambda _method: None
    _operations: dict[str, Going] = field(default_factory=dict)
    _last_id: int = 1000
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def changes(self) -> list[str]:
        """The methods that changed something, in order."""
        return [method for method, _body in self.calls]

    def finish_all(self) -> None:
        for going in self._operations.values():
            going.looks = 0
            self._advance(going)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        names = {
            "google.cloud.aiplatform.v1.ModelService": {
                "UploadModel": (v1.UploadModelRequest, self._upload_model),
                "ListModels": (v1.ListModelsRequest, self._list_models),
                "DeleteModel": (v1.DeleteModelRequest, self._delete_model),
            },
            "google.cloud.aiplatform.v1.EndpointService": {
                "CreateEndpoint": (v1.CreateEndpointRequest, self._create_endpoint),
                "GetEndpoint": (v1.GetEndpointRequest, self._get_endpoint),
                "ListEndpoints": (v1.ListEndpointsRequest, self._list_endpoints),
                "DeployModel": (v1.DeployModelRequest, self._deploy_model),
                "UndeployModel": (v1.UndeployModelRequest, self._undeploy_model),
                "DeleteEndpoint": (v1.DeleteEndpointRequest, self._delete_endpoint),
            },
            "google.longrunning.Operations": {
                "GetOperation": (operations_pb2.GetOperationRequest, self._get_operation),
                "ListOperations": (operations_pb2.ListOperationsRequest, self._list_operations),
            },
        }
        return [
            grpc.method_handlers_generic_handler(
                service, {name: self._handler(name, *each) for name, each in methods.items()}
            )
            for service, methods in names.items()
        ]

    def _handler(self, name: str, kind: Any, answer: Callable[[Json], Any]) -> Any:
        message = kind.pb() if hasattr(kind, "pb") else kind

        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            self.on_call(name)
            try:
                with self._lock:
                    if name in self.refusals:
                        raise self.refusals.pop(name)
                    return answer(json_format.MessageToDict(request))
            except Refused as refused:
                context.abort(refused.code, refused.message)

        return grpc.unary_unary_rpc_method_handler(
            serve,
            request_deserializer=message.FromString,
            response_serializer=lambda answered: answered.SerializeToString(),
        )

    # Models

    def _upload_model(self, request: Json) -> Any:
        self._in_place(request.pop("parent"))
        self._asked("UploadModel", "UploadModelRequest", request)
        spec = request["model"]["containerSpec"]
        if any(each["name"].startswith("AIP_") for each in spec["env"]):
            _refuse("Environment variables that begin with AIP_ are reserved.")
        if not spec["imageUri"].startswith(f"{LOCATION}-docker.pkg.dev/"):
            _refuse("The image is not in the region of the model.")
        name = f"projects/{NUMBER}/locations/{LOCATION}/models/{self._new_id()}"

        def finish() -> Any:
            self.models[name] = {**request["model"], "name": name}
            return v1.UploadModelResponse.pb(v1.UploadModelResponse(model=name, model_version_id="1"))

        return self._begin("UploadModel", name, finish)

    def _list_models(self, request: Json) -> Any:
        self._in_place(request["parent"])
        found = [each for each in self.models.values() if _matches(each, request["filter"])]
        return json_format.ParseDict({"models": found}, v1.ListModelsResponse.pb()())

    def _delete_model(self, request: Json) -> Any:
        name = _known(self.models, request.pop("name"))["name"]
        self.calls.append(("DeleteModel", {}))
        if any(each["model"] == name for one in self.endpoints.values() for each in one["deployedModels"]):
            _refuse("The model is deployed.", grpc.StatusCode.FAILED_PRECONDITION)
        return self._begin("DeleteModel", name, lambda: self.models.pop(name) and None)

    # Endpoints

    def _create_endpoint(self, request: Json) -> Any:
        self._in_place(request["parent"])
        endpoint = request["endpoint"]
        self._asked("CreateEndpoint", "Endpoint", endpoint)
        name = f"projects/{NUMBER}/locations/{LOCATION}/endpoints/{self._new_id()}"
        given = {"name": name, "createTime": "2026-11-26T12:00:00Z", "deployedModels": []}
        if endpoint.get("dedicatedEndpointEnabled"):
            given["dedicatedEndpointDns"] = f"https://{HOST}"

        def finish() -> Any:
            self.endpoints[name] = {**endpoint, **given}
            return _endpoint({"name": name})

        return self._begin("CreateEndpoint", name, finish)

    def _get_endpoint(self, request: Json) -> Any:
        return _endpoint(_known(self.endpoints, request["name"]))

    def _list_endpoints(self, request: Json) -> Any:
        self._in_place(request["parent"])
        found = [each for each in self.endpoints.values() if _matches(each, request["filter"])]
        return json_format.ParseDict({"endpoints": found}, v1.ListEndpointsResponse.pb()())

    def _deploy_model(self, request: Json) -> Any:
        endpoint = _known(self.endpoints, request.pop("endpoint"))
        self._asked("DeployModel", "DeployModelRequest", request)
        _known(self.models, request["deployedModel"]["model"])
        if sum(request["trafficSplit"].values()) != 100:
            _refuse("The traffic split must add up to 100.")
        given = {"id": str(self._new_id()), "createTime": "2026-11-26T12:10:00Z"}

        def finish() -> Any:
            status = {
                "availableReplicaCount": request["deployedModel"]["dedicatedResources"]["minReplicaCount"]
            }
            endpoint["deployedModels"].append({**request["deployedModel"], **given, "status": status})
            endpoint["trafficSplit"] = {given["id"]: 100}
            return v1.DeployModelResponse.pb(v1.DeployModelResponse())

        return self._begin("DeployModel", endpoint["name"], finish)

    def _undeploy_model(self, request: Json) -> Any:
        endpoint = _known(self.endpoints, request.pop("endpoint"))
        self._asked("UndeployModel", "UndeployModelRequest", request)
        gone = request["deployedModelId"]
        left = [each for each in endpoint["deployedModels"] if each["id"] != gone]
        if len(left) == len(endpoint["deployedModels"]):
            _refuse(f"There is no deployed model {gone}.", grpc.StatusCode.NOT_FOUND)
        split = request.get("trafficSplit", endpoint.get("trafficSplit", {}))
        if left and (split.get(gone) or not set(split) <= {each["id"] for each in left}):
            _refuse("The deployed model has traffic.", grpc.StatusCode.FAILED_PRECONDITION)

        def finish() -> Any:
            endpoint["deployedModels"] = left
            endpoint["trafficSplit"] = split if left else {}
            return v1.UndeployModelResponse.pb(v1.UndeployModelResponse())

        return self._begin("UndeployModel", endpoint["name"], finish)

    def _delete_endpoint(self, request: Json) -> Any:
        endpoint = _known(self.endpoints, request.pop("name"))
        self.calls.append(("DeleteEndpoint", {}))
        if endpoint["deployedModels"]:
            _refuse("The endpoint has deployed models.", grpc.StatusCode.FAILED_PRECONDITION)
        return self._begin(
            "DeleteEndpoint", endpoint["name"], lambda: self.endpoints.pop(endpoint["name"]) and None
        )

    # Operations

    def _begin(self, method: str, resource: str, finish: Callable[[], Any]) -> operations_pb2.Operation:
        message = operations_pb2.Operation(name=f"{resource}/operations/{self._new_id()}")
        message.metadata.type_url = UNHEARD
        failure = self.failures.pop(method, None)

        def end() -> Any:
            if failure is not None:
                raise failure
            return finish()

        going = Going(message, end, self.looks)
        self._operations[message.name] = going
        self._advance(going)
        return message

    def _advance(self, going: Going) -> None:
        if going.message.done or going.looks > 0:
            going.looks -= 1
            return
        going.message.done = True
        try:
            response = going.finish()
        except Refused as refused:
            going.message.error.code = refused.code.value[0]
            going.message.error.message = refused.message
            going.message.error.details.add(type_url=UNHEARD)
        else:
            if response is not None:
                going.message.response.Pack(response)

    def _get_operation(self, request: Json) -> operations_pb2.Operation:
        going = self._operations[request["name"]]
        self._advance(going)
        return going.message

    def _list_operations(self, request: Json) -> operations_pb2.ListOperationsResponse:
        """All there ever were, one on a page."""
        number = request["name"].rpartition("/")[2]
        found = [each.message for name, each in self._operations.items() if f"/endpoints/{number}/" in name]
        page = int(request.get("pageToken", 0))
        following = str(page + 1) if page + 1 < len(found) else ""
        return operations_pb2.ListOperationsResponse(
            operations=found[page : page + 1], next_page_token=following
        )

    def _asked(self, method: str, schema: str, body: Json) -> None:
        self.calls.append((method, body))
        if found := discovery.faults(schema, body):
            _refuse("; ".join(found))

    def _in_place(self, parent: str) -> None:
        if parent not in {f"projects/{each}/locations/{LOCATION}" for each in (PROJECT, NUMBER)}:
            _refuse(f"Permission denied on {parent}.", grpc.StatusCode.PERMISSION_DENIED)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id


def _refuse(message: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> NoReturn:
    raise Refused(code, message)


def _known(things: dict[str, Json], name: str) -> Json:
    """By project id or number."""
    found = things.get(name.replace(f"projects/{PROJECT}/", f"projects/{NUMBER}/"))
    return found if found is not None else _refuse(f"{name} was not found.", grpc.StatusCode.NOT_FOUND)


def _endpoint(document: Json) -> Any:
    return json_format.ParseDict(document, v1.Endpoint.pb()())


def _matches(resource: Json, wanted: str) -> bool:
    """Filters as the reference of the lists has them: a display name, and labels, joined by AND."""
    for term in wanted.split(" AND "):
        name, _, value = term.partition("=")
        if name == "display_name":
            found = resource["displayName"]
        else:
            found = resource.get("labels", {}).get(name.removeprefix("labels."))
        if found != value.strip('"'):
            return False
    return True


@contextmanager
def start_standin() -> Iterator[StandIn]:
    standin = StandIn()
    server = grpc.server(ThreadPoolExecutor(2), handlers=standin.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    standin.url = f"http://127.0.0.1:{port}"
    try:
        yield standin
    finally:
        server.stop(grace=None).wait()
