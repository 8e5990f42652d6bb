"""The steps of deploying and undeploying, each safe to repeat: what is there already is found and used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import ConfigurationError, ErrorCode, NotFound
from gateway.provisioning import requests
from gateway.provisioning.description import Deployed, Description, describe, timeout_s_of
from gateway.provisioning.plan import Place, Plan
from gateway.provisioning.requests import Call, Json
from gateway.provisioning.troubles import explain_operation

_FIRST_LOOK_S = 1.0
_LOOK_S = 15.0
#: How often somebody who waits is told that it still goes on.
_WORD_S = 60.0


class Platform(Protocol):
    """Vertex AI as the steps see it: JSON in and out, as its REST reference (v1) has it.

    Everything raises `UpstreamError` with what to do about it.
    """

    def send(self, call: Call) -> Json:
        """Start something. The operation, as ``google.longrunning.Operation``."""
        ...

    def operation(self, name: str) -> Json: ...

    def unfinished(self, endpoint: str) -> list[str]:
        """Names of the operations on an endpoint that still go on."""
        ...

    def endpoints(self, place: Place, wanted: str) -> list[Json]: ...

    def models(self, place: Place, wanted: str) -> list[Json]: ...

    def endpoint(self, name: str) -> Json: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Survey:
    """What is there of a plan before a step is taken: the endpoint, the model, and what is deployed."""

    endpoint: Description | None
    model: str | None
    current: Deployed | None
    others: tuple[Deployed, ...]

    @property
    def is_done(self) -> bool:
        return self.current is not None and not self.others


@dataclass(frozen=True, slots=True)
class Undone:
    """What was taken down, as resource names and ids."""

    undeployed: tuple[str, ...]
    deleted: tuple[str, ...]


class Deployer:
    """Takes steps one by one, waits for each, and knows at any time what there is, should it be stopped.

    ``say`` gets a line about each step, ``sleep`` waits that many seconds.
    """

    def __init__(
        self, platform: Platform, *, say: Callable[[str], None], sleep: Callable[[float], None]
    ) -> None:
        self._platform = platform
        self._say = say
        self._sleep = sleep
        self._endpoint: str | None = None
        self._model: str | None = None
        self._operation: str | None = None

    def there_is(self) -> tuple[tuple[str, str], ...]:
        """What exists or goes on by what is known here, for whoever finds the work stopped."""
        known = (
            ("model", self._model),
            ("endpoint", self._endpoint),
            ("operation", self._operation),
        )
        return tuple((what, name) for what, name in known if name is not None)

    def survey(self, plan: Plan) -> Survey:
        """Raises `ConfigurationError` for an endpoint of another kind than planned."""
        endpoint = self._find(plan.place, plan.name)
        if endpoint is not None:
            _check_kind(endpoint, plan)
        label, fingerprint = requests.PLAN_LABEL, requests.model_fingerprint(plan)
        models = self._platform.models(
            plan.place, f"{requests.made_here(plan.name)} AND labels.{label}={fingerprint}"
        )
        found = None if endpoint is None else describe(endpoint)
        deployed = () if found is None else found.deployed
        wanted = requests.deployed_name(plan)
        current = next((each for each in deployed if each.name == wanted), None)
        return Survey(
            found,
            models[0]["name"] if models else None,
            current,
            tuple(each for each in deployed if each is not current),
        )

    def deploy(self, plan: Plan) -> Description:
        """Upload, create and deploy what is not there, then undeploy what it replaces.

        Raises `UpstreamError` for what Google refuses, and `ConfigurationError` as `survey` does.
        """
        found = self.survey(plan)
        self._model = found.model or self._upload(plan)
        self._endpoint = found.endpoint.endpoint if found.endpoint else self._create(plan)
        if self._wait_for_others(self._endpoint):
            found = self.survey(plan)
        if found.current is None:
            self._say(
                f"Deploying to {plan.machine}. This takes 10 to 30 minutes: a machine is got, the image "
                "pulled, the weights loaded."
            )
            self._run(requests.deploy_model(plan, self._endpoint, self._model))
            found = self.survey(plan)
        if found.others:
            self._undeploy(self._endpoint, found.others, heir=found.current.id if found.current else None)
        return self.description(self._endpoint)

    def named(self, place: Place, name: str) -> Description:
        """The endpoint that was made here under a name. Raises `NotFound`."""
        endpoint = self._find(place, name)
        if endpoint is None:
            raise NotFound(
                f"There is no endpoint {name!r} made by `gateway endpoint deploy` in {place.parent}.",
                code=ErrorCode.NOT_FOUND,
            )
        return self.description(endpoint["name"])

    def description(self, endpoint: str) -> Description:
        return describe(self._platform.endpoint(endpoint), self._platform.unfinished(endpoint))

    def check_made_here(self, endpoint: str) -> None:
        """Raises `ConfigurationError` for an endpoint that somebody else made: it is theirs to take down."""
        if not requests.is_made_here(self._platform.endpoint(endpoint)):
            raise ConfigurationError(
                f"{endpoint} was not made by `gateway endpoint deploy` (it has no label "
                f"{requests.LABEL}={requests.LABEL_VALUE}), so it is left alone."
            )

    def undeploy(self, endpoint: str, *, delete: bool) -> Undone:
        """Take every model off the endpoint, and with ``delete`` the endpoint and its models away too."""
        self._endpoint = endpoint
        self._wait_for_others(endpoint)
        found = self.description(endpoint)
        self._undeploy(endpoint, found.deployed, heir=None)
        deleted: list[str] = []
        if delete:
            models = self._platform.models(Place.of(endpoint), requests.made_here(found.name))
            self._say("Deleting the endpoint.")
            self._run(requests.delete_endpoint(endpoint))
            self._endpoint = None
            deleted.append(endpoint)
            for each in models:
                self._say(f"Deleting {each['name']}.")
                self._run(requests.delete_model(each["name"]))
                deleted.append(each["name"])
        return Undone(tuple(each.id for each in found.deployed), tuple(deleted))

    def _find(self, place: Place, name: str) -> Json | None:
        found = self._platform.endpoints(place, requests.made_here(name))
        if len(found) > 1:
            names = " ".join(each["name"] for each in found)
            raise ConfigurationError(
                f"There are {len(found)} endpoints {name!r} in {place.parent}: {names}. Undeploy those that "
                "are not wanted by their resource names, with --delete."
            )
        return found[0] if found else None

    def _upload(self, plan: Plan) -> str:
        self._say(f"Uploading the model {plan.name} of {plan.image}.")
        return str(self._run(requests.upload_model(plan))["model"])

    def _create(self, plan: Plan) -> str:
        self._say(f"Creating the endpoint {plan.name}.")
        return str(self._run(requests.create_endpoint(plan))["name"])

    def _undeploy(self, endpoint: str, unwanted: Sequence[Deployed], *, heir: str | None) -> None:
        """One by one. With no heir, the one that has most of the traffic inherits the rest and goes last."""
        ordered = sorted(unwanted, key=lambda each: each.traffic_percent)
        for each in ordered:
            inherits = ordered[-1].id if heir is None and each is not ordered[-1] else heir
            self._say(f"Undeploying {each.name or each.id}.")
            self._run(requests.undeploy_model(endpoint, each.id, heir=inherits))

    def _wait_for_others(self, endpoint: str) -> bool:
        """Wait for what an earlier run began. Whether there was anything."""
        names = self._platform.unfinished(endpoint)
        for name in names:
            self._say(f"Waiting for {name}, which was begun before.")
            # However it ends: if it failed, the step that comes next does what it did not.
            self._end_of({"name": name})
        return bool(names)

    def _run(self, call: Call) -> Json:
        """Do it and wait for its end; the response. Raises `UpstreamError`."""
        ended = self._end_of(self._platform.send(call))
        if "error" in ended:
            raise explain_operation(ended["error"])
        response: Json = ended.get("response", {})
        return response

    def _end_of(self, operation: Json) -> Json:
        """Google ends every operation by itself, a deployment within two hours: there is no limit here."""
        name = str(operation["name"])
        self._operation = name
        waited_s, told_s, pause_s = 0.0, 0.0, _FIRST_LOOK_S
        while not operation.get("done", False):
            self._sleep(pause_s)
            waited_s += pause_s
            pause_s = min(2 * pause_s, _LOOK_S)
            if waited_s - told_s >= _WORD_S:
                told_s = waited_s
                self._say(f"Still going on after {waited_s / 60:.0f} min: {name}")
            operation = self._platform.operation(name)
        self._operation = None
        return operation


def _check_kind(endpoint: Json, plan: Plan) -> None:
    """What an endpoint is created with stays as it is."""
    name = endpoint["name"]
    if bool(endpoint.get("dedicatedEndpointEnabled", False)) != plan.dedicated:
        kind, other = ("shared", "--shared") if plan.dedicated else ("dedicated", "--dedicated")
        raise ConfigurationError(
            f"{name} is a {kind} endpoint and cannot become another: say {other}, deploy under another "
            "--name, or `gateway endpoint undeploy --delete` it first."
        )
    timeout_s = timeout_s_of(endpoint)
    if plan.dedicated and timeout_s not in {None, float(plan.inference_timeout_s)}:
        raise ConfigurationError(
            f"{name} was created with --inference-timeout-s {timeout_s:g}: say that too, deploy under "
            "another --name, or `gateway endpoint undeploy --delete` it first."
        )
