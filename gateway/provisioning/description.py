"""What an endpoint is, read from Google's ``Endpoint`` (REST, v1), and how the gateway is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.provisioning.requests import Json


class State(StrEnum):
    EMPTY = "empty"  # nothing is deployed, so nothing costs money
    CHANGING = "changing"  # an operation of Google's is under way
    STARTING = "starting"  # deployed, and no replica is ready yet
    SERVING = "serving"


@dataclass(frozen=True, slots=True)
class Deployed:
    """A model on an endpoint. ``ready`` is None where Google does not say how many replicas are."""

    id: str
    name: str
    model: str
    machine_type: str
    accelerator: str
    accelerator_count: int
    min_replicas: int
    max_replicas: int
    ready: int | None
    traffic_percent: int
    created_at: str | None


@dataclass(frozen=True, slots=True)
class Description:
    """``host`` is the name that a dedicated endpoint is called by; None for a shared one."""

    endpoint: str
    name: str
    state: State
    dedicated: bool
    host: str | None
    inference_timeout_s: float | None
    created_at: str | None
    deployed: tuple[Deployed, ...]

    @property
    def settings(self) -> dict[str, str]:
        """What to set so that the gateway calls it."""
        variables = {"GATEWAY_MUSICGEN_ENDPOINT": self.endpoint}
        if self.host is not None:
            variables["GATEWAY_MUSICGEN_HOST"] = self.host
        return variables


def describe(endpoint: Json, unfinished: Sequence[str] = ()) -> Description:
    """``unfinished`` are the operations on it that still go on."""
    dedicated = bool(endpoint.get("dedicatedEndpointEnabled", False))
    deployed = tuple(
        _deployed(each, endpoint.get("trafficSplit", {})) for each in endpoint.get("deployedModels", ())
    )
    return Description(
        endpoint=endpoint["name"],
        name=endpoint.get("displayName", ""),
        state=_state(deployed, unfinished),
        dedicated=dedicated,
        host=host_of(endpoint),
        inference_timeout_s=timeout_s_of(endpoint),
        created_at=endpoint.get("createTime"),
        deployed=deployed,
    )


def host_of(endpoint: Json) -> str | None:
    """Google's reference has the name with ``https://``, some of its answers have it without."""
    return str(endpoint.get("dedicatedEndpointDns", "")).removeprefix("https://").strip("/") or None


def timeout_s_of(endpoint: Json) -> float | None:
    """Seconds; None where Google does not say."""
    text = endpoint.get("clientConnectionConfig", {}).get("inferenceTimeout")
    return None if text is None else float(str(text).removesuffix("s"))


def _state(deployed: Sequence[Deployed], unfinished: Sequence[str]) -> State:
    if unfinished:
        return State.CHANGING
    if not deployed:
        return State.EMPTY
    return State.STARTING if all(each.ready == 0 for each in deployed) else State.SERVING


def _deployed(found: Json, traffic: Json) -> Deployed:
    resources: Json = found.get("dedicatedResources", {})
    machine: Json = resources.get("machineSpec", {})
    status: Json | None = found.get("status")
    return Deployed(
        id=found["id"],
        name=found.get("displayName", ""),
        model=found.get("model", ""),
        machine_type=machine.get("machineType", ""),
        accelerator=machine.get("acceleratorType", ""),
        accelerator_count=machine.get("acceleratorCount", 0),
        min_replicas=resources.get("minReplicaCount", 0),
        max_replicas=resources.get("maxReplicaCount", 0),
        # A message leaves out what is zero.
        ready=None if status is None else status.get("availableReplicaCount", 0),
        traffic_percent=traffic.get(found["id"], 0),
        created_at=found.get("createTime"),
    )
