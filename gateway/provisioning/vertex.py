"""Vertex AI through Google's own client: the only module that loads it (`pip install 'gateway[endpoint]'`).

It speaks gRPC: over REST that client (2.7.0) asks for operations under ``/ui/`` in place of ``/v1/``, and
sends enumerations as numbers. Bodies are JSON as REST has it and become messages here (protobuf's mapping).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import google.auth
import grpc
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.api_core.retry import Retry, if_transient_error
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.cloud import aiplatform_v1 as v1
from google.cloud.aiplatform_v1.services.endpoint_service.transports.grpc import EndpointServiceGrpcTransport
from google.cloud.aiplatform_v1.services.model_service.transports.grpc import ModelServiceGrpcTransport
from google.protobuf import json_format

from gateway.errors import ConfigurationError, UpstreamError
from gateway.provisioning.plan import Place
from gateway.provisioning.requests import Call, Json
from gateway.provisioning.troubles import explain

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_CALL_S = 60.0
#: How long a question that Google did not answer is asked again; what changes something is sent once.
_PATIENCE_S = 180.0

#: The field of a request that REST's body is, where it is not the request itself.
_BODY_FIELDS = {"EndpointService.CreateEndpoint": "endpoint"}


class Vertex:
    """A `Platform`. Each call may take a minute; questions are repeated for ``patience_s``."""

    def __init__(
        self,
        models: v1.ModelServiceClient,
        endpoints: v1.EndpointServiceClient,
        *,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._models = models
        self._endpoints = endpoints
        self._asking: dict[str, Any] = {
            "retry": Retry(predicate=if_transient_error, initial=1.0, maximum=10.0, timeout=patience_s),
            "timeout": _CALL_S,
        }
        self._calls: Mapping[str, tuple[Any, Callable[..., Any]]] = {
            "ModelService.UploadModel": (v1.UploadModelRequest, models.upload_model),
            "ModelService.DeleteModel": (v1.DeleteModelRequest, models.delete_model),
            "EndpointService.CreateEndpoint": (v1.CreateEndpointRequest, endpoints.create_endpoint),
            "EndpointService.DeployModel": (v1.DeployModelRequest, endpoints.deploy_model),
            "EndpointService.UndeployModel": (v1.UndeployModelRequest, endpoints.undeploy_model),
            "EndpointService.DeleteEndpoint": (v1.DeleteEndpointRequest, endpoints.delete_endpoint),
        }

    def send(self, call: Call) -> Json:
        kind, method = self._calls[call.rpc]
        with _explained():
            sent = method(request=message_of(call, kind), timeout=_CALL_S)
        return _operation(sent.operation)

    def operation(self, name: str) -> Json:
        with _explained():
            return _operation(self._endpoints.get_operation({"name": name}, **self._asking))

    def unfinished(self, endpoint: str) -> list[str]:
        found: list[str] = []
        page = ""
        while True:
            with _explained():
                listed = self._endpoints.list_operations(
                    {"name": endpoint, "page_token": page}, **self._asking
                )
            found += [each.name for each in listed.operations if not each.done]
            page = listed.next_page_token
            if not page:
                return found

    def endpoints(self, place: Place, wanted: str) -> list[Json]:
        with _explained():
            found = self._endpoints.list_endpoints(
                v1.ListEndpointsRequest(parent=place.parent, filter=wanted), **self._asking
            )
            return _listed(found, v1.Endpoint)

    def models(self, place: Place, wanted: str) -> list[Json]:
        with _explained():
            found = self._models.list_models(
                v1.ListModelsRequest(parent=place.parent, filter=wanted), **self._asking
            )
            return _listed(found, v1.Model)

    def endpoint(self, name: str) -> Json:
        with _explained():
            return _as_json(v1.Endpoint.pb(self._endpoints.get_endpoint(name=name, **self._asking)))

    def close(self) -> None:
        self._models.transport.close()
        self._endpoints.transport.close()


def message_of(call: Call, kind: Any) -> Any:
    """The message of a call; what Google has no name for cannot pass."""
    field = _BODY_FIELDS.get(call.rpc)
    document = {**call.fields, **(call.body if field is None else {field: call.body})}
    return kind.wrap(json_format.ParseDict(document, kind.pb()()))


def open_vertex(location: str, *, url: str, anonymous: bool) -> Vertex:
    """Google's own servers in a region, or whatever answers at ``url``.

    Raises `ConfigurationError` where there are no credentials, or where they would be sent to nowhere safe.
    """
    if not url and anonymous:
        raise ConfigurationError(
            "Google answers nobody without credentials: leave GATEWAY_GOOGLE_AUTH alone, or set "
            "GATEWAY_VERTEX_URL."
        )
    address = urlsplit(url)
    if address.scheme == "http" and not anonymous:
        raise ConfigurationError(
            "GATEWAY_VERTEX_URL is not encrypted, so no credentials are sent there: set "
            "GATEWAY_GOOGLE_AUTH=anonymous for a stand-in."
        )
    if anonymous:
        if address.scheme == "https":
            channel = grpc.secure_channel(address.netloc, grpc.ssl_channel_credentials())
        else:
            channel = grpc.insecure_channel(address.netloc)
        return Vertex(
            v1.ModelServiceClient(transport=ModelServiceGrpcTransport(channel=channel)),
            v1.EndpointServiceClient(transport=EndpointServiceGrpcTransport(channel=channel)),
        )
    options = ClientOptions(api_endpoint=address.netloc or f"{location}-aiplatform.googleapis.com")
    credentials = _credentials()
    return Vertex(
        v1.ModelServiceClient(credentials=credentials, client_options=options),
        v1.EndpointServiceClient(credentials=credentials, client_options=options),
    )


def _credentials() -> Credentials:
    """Good for a token at once: later, inside gRPC, a refusal looks like a server that cannot be reached."""
    try:
        found, _project = google.auth.default(scopes=_SCOPES)
        found.refresh(Request())
    except GoogleAuthError as error:
        raise ConfigurationError(
            "No Google credentials can be used. Run `gcloud auth application-default login`, or point "
            "GOOGLE_APPLICATION_CREDENTIALS at a key file.",
            internal=str(error),
        ) from error
    return found


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except exceptions.RetryError as error:
        raise _explained_call(error.cause) from error
    except exceptions.GoogleAPICallError as error:
        raise _explained_call(error) from error


def _explained_call(error: Any) -> UpstreamError:
    status = error.grpc_status_code
    return explain("UNKNOWN" if status is None else status.name, error.message)


def _operation(found: Any) -> Json:
    """Without what may be of types that this client has no name for, and that nothing here reads."""
    plain = type(found)()
    plain.CopyFrom(found)
    plain.ClearField("metadata")
    if plain.HasField("error"):
        plain.error.ClearField("details")
    return _as_json(plain)


def _as_json(message: Any) -> Json:
    return cast("Json", json_format.MessageToDict(message))


def _listed(found: Iterable[Any], kind: Any) -> list[Json]:
    return [_as_json(kind.pb(each)) for each in found]
