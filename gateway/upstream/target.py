"""Where a deployment is called: Vertex AI's hosts and resource names.

A location becomes part of a host name and the rest parts of a path, so nothing is taken that could lead the
call, and the access token with it, anywhere else.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote

from gateway.errors import ConfigurationError
from gateway.families.family import Surface
from gateway.families.registry import FAMILIES
from gateway.model import Deployment

_LOCATION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
#: Project ids (old ones with a domain: `example.com:name`) and numbers.
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]*")
#: A dedicated endpoint's own: the access token is sent there.
_OWN_HOST = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+\.prediction\.vertexai\.goog")
_ENDPOINT = re.compile(r"projects/([^/]+)/locations/([^/]+)/endpoints/([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Vertex AI endpoint's resource name, taken apart."""

    project: str
    location: str
    endpoint_id: str

    @classmethod
    def parse(cls, name: str) -> "Endpoint":
        """``projects/P/locations/L/endpoints/E``. Raises `ConfigurationError` for anything else."""
        match = _ENDPOINT.fullmatch(name)
        if match is None:
            raise ConfigurationError(f"{name!r} is not projects/P/locations/L/endpoints/E")
        project, location, endpoint_id = match.groups()
        return cls(_project(project), _location(location), endpoint_id)


def call_url(deployment: Deployment, base_url: str | None = None) -> str:
    """Where the deployment's model is called. ``base_url`` replaces Google's scheme and host.

    Raises `ConfigurationError` when a name in the deployment cannot be Google's.
    """
    surface = FAMILIES[deployment.kind].traits.surface
    if surface is Surface.ENDPOINT:
        own = None if deployment.host is None else f"https://{_own_host(deployment.host)}"
        return f"{endpoint_url(deployment, base_url or own)}:predict"
    location = _location(deployment.location)
    base = base_url.rstrip("/") if base_url else _host(location)
    place = f"projects/{quote(_project(deployment.project), safe='')}/locations/{quote(location, safe='')}"
    if surface is Surface.INTERACTIONS:
        return f"{base}/v1beta1/{place}/interactions"
    return f"{base}/v1/{place}/publishers/google/models/{quote(deployment.kind, safe='')}:predict"


def endpoint_url(deployment: Deployment, base_url: str | None = None) -> str:
    """The deployment's endpoint as a resource, on its region's host. Raises as `call_url` does."""
    if deployment.endpoint is None:
        raise ConfigurationError(f"deployment {deployment.name!r} of {deployment.kind} needs an endpoint")
    endpoint = Endpoint.parse(deployment.endpoint)
    base = base_url.rstrip("/") if base_url else _host(endpoint.location)
    place = f"projects/{quote(endpoint.project, safe='')}/locations/{quote(endpoint.location, safe='')}"
    return f"{base}/v1/{place}/endpoints/{quote(endpoint.endpoint_id, safe='')}"


def _own_host(host: str) -> str:
    if not _OWN_HOST.fullmatch(host):
        raise ConfigurationError(
            f"{host!r} is not the host of an endpoint: ENDPOINT.REGION-UID.prediction.vertexai.goog"
        )
    return host


def _host(location: str) -> str:
    if location == "global":
        return "https://aiplatform.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def _location(text: str) -> str:
    if not _LOCATION.fullmatch(text):
        raise ConfigurationError(f"{text!r} is not a location such as us-central1 or global")
    return text


def _project(text: str) -> str:
    if not _PROJECT.fullmatch(text):
        raise ConfigurationError(f"{text!r} is not a project id or number")
    return text
