"""Whether a deployment may be called, asked in a way that costs nothing.

- Lyria 2: its own ``:predict`` with no instance in it. We take it that Google looks at permission and model
  before the request, so that it is 401, 403 or 404 where a real call would be, and else 400
  ``INVALID_ARGUMENT``: without an instance there is nothing that could be made, and nothing to be paid.
  ``GET publishers/google/models/…`` would be free too, but takes another permission than calling does.
- Lyria 3: an interaction without ``input``, for the same reasons; ``store`` is false.
- An endpoint of one's own: ``GET`` of the endpoint, on its region's host. That says what is deployed there
  and which host it has, and disturbs no container. It takes ``aiplatform.endpoints.get``, which the role that
  calls it has too; that its own host can be reached it does not show.

Nobody has tried this on a live project yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.families.family import Surface
from gateway.families.registry import FAMILIES
from gateway.findings import Finding, Outcome
from gateway.model import Deployment
from gateway.telemetry import redact
from gateway.upstream.target import call_url, endpoint_url

_TEXT_LIMIT = 300
_OK = 200
_INVALID = 400
# What there is to say of a call without anything in it.
_REFUSED = "INVALID_ARGUMENT"
_BUSY = frozenset({429, 503})
_AGAIN = "Try again; if it stays, see Google Cloud's status."


@dataclass(frozen=True, slots=True)
class FreeCall:
    """A request that nothing is paid for. ``body`` is JSON; None where there is none."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


def free_call(deployment: Deployment, base_url: str | None) -> FreeCall:
    """``base_url`` replaces Google's scheme and host. Raises `ConfigurationError`."""
    traits = FAMILIES[deployment.kind].traits
    if traits.surface is Surface.ENDPOINT:
        return FreeCall("GET", endpoint_url(deployment, base_url), {}, None)
    asked: dict[str, Any] = {"instances": [], "parameters": {}}
    if traits.surface is Surface.INTERACTIONS:
        asked = {"model": deployment.kind, "store": False}
    headers = {"content-type": "application/json", **dict(traits.headers)}
    return FreeCall("POST", call_url(deployment, base_url), headers, orjson.dumps(asked))


def judge(deployment: Deployment, call: FreeCall, status: int, text: str) -> Finding:
    """What the answer to a free call says of the deployment. Pure."""
    check, tried = f"deployment {deployment.name}", f"{call.method} {call.url}"
    error = _error_of(text)
    said = f"{status} {redact(str(error.get('message') or text)[:_TEXT_LIMIT])}".strip()
    if status == _OK and call.method == "GET":
        return _judge_endpoint(deployment, check, tried, _object(text))
    if status == _INVALID and error and error.get("status", _REFUSED) == _REFUSED:
        return Finding(check, Outcome.OK, tried, f"it may be called ({status}; nothing was made)")
    if status in _BUSY:
        return Finding(check, Outcome.WARNING, tried, f"it is at capacity: {said}", _AGAIN)
    return Finding(check, Outcome.FAILED, tried, said, _advice(deployment, status))


def _advice(deployment: Deployment, status: int) -> str:
    place = deployment.endpoint or f"project {deployment.project}, location {deployment.location}"
    advice = {
        401: "Renew the credentials; see the line about the token.",
        403: f"Grant the account roles/aiplatform.user, and enable aiplatform.googleapis.com ({place}).",
        200: "Whoever answers takes what Google refuses; see GATEWAY_VERTEX_URL, and proxies on the way.",
        400: "Whoever answers does not speak as Google does; see GATEWAY_VERTEX_URL, and proxies on the way.",
        404: f"See whether the name, project and location are right, and open to you ({place}).",
    }
    return advice.get(status, _AGAIN)


def _judge_endpoint(deployment: Deployment, check: str, tried: str, found: Mapping[str, Any]) -> Finding:
    if not found.get("deployedModels"):
        advice = "Deploy it with gateway endpoint deploy."
        return Finding(check, Outcome.FAILED, tried, "nothing is deployed on it", advice)
    host = str(found.get("dedicatedEndpointDns") or "")
    if host and host != deployment.host:
        advice = f"Set its host to {host}: GATEWAY_MUSICGEN_HOST, or host in the file of deployments."
        return Finding(check, Outcome.FAILED, tried, f"it has a host of its own, {host}", advice)
    return Finding(check, Outcome.OK, tried, "it is there, with a model deployed")


def _error_of(text: str) -> Mapping[str, Any]:
    error = _object(text).get("error")
    return error if isinstance(error, dict) else {}


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
