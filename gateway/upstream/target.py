"""Where a deployment is called: Vertex AI's hosts and resource names.

A location becomes part of a host name and the rest parts of a path, so nothing is taken that could lead the
call, and the access token with it, anywhere else.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote

from gateway.errors import ConfigurationError
from gateway.model import Deployment, ModelKind

_LOCATION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
#: Project ids (old ones with a domain: `example.com:name`) and numbers.
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]*")
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


def predict_url(deployment: Deployment, base_url: str | None = None) -> str:
    """The URL of the deployment's ``:predict``; ``base_url`` replaces scheme and host, the path stays.

    Raises `ConfigurationError` when a name in the deployment cannot be Google's.
    """
    if deployment.endpoint is not None:
        endpoint = Endpoint.parse(deployment.endpoint)
        project, location = endpoint.project, endpoint.location
        resource = f"endpoints/{quote(endpoint.endpoint_id, safe='')}"
    elif deployment.kind is ModelKind.LYRIA2:
        project, location = _project(deployment.project), _location(deployment.location)
        resource = f"publishers/google/models/{quote(deployment.kind.value, safe='')}"
    else:
        raise ConfigurationError(
            f"deployment {deployment.name!r} of {deployment.kind.value} needs an endpoint"
        )
    base = base_url.rstrip("/") if base_url else _host(location)
    place = f"projects/{quote(project, safe='')}/locations/{quote(location, safe='')}"
    return f"{base}/v1/{place}/{resource}:predict"


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
