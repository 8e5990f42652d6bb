"""What Google is asked for, in its own words: bodies as the REST reference of Vertex AI has them (v1).

Pure. What `--dry-run` prints is what a real run sends: `vertex` turns the same bodies into messages.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from gateway.provisioning.plan import Plan

Json = dict[str, Any]

#: What tells endpoints and models that were made here from all others in a project.
LABEL, LABEL_VALUE = "gateway", "musicgen"
#: A model's label with the fingerprint of what it was made of.
PLAN_LABEL = "gateway-plan"

PORT = 8080
PREDICT_ROUTE = "/predict"
HEALTH_ROUTE = "/health"

_FINGERPRINT_CHARS = 12


@dataclass(frozen=True, slots=True)
class Call:
    """A call that changes something: ``rpc`` as ``Service.Method``, and the same over REST.

    ``fields`` are those of the request message that REST has in the path.
    """

    rpc: str
    verb: str
    path: str
    fields: Json
    body: Json

    def rendered(self) -> Json:
        return {"method": self.rpc, "http": f"{self.verb} {self.path}", "body": self.body}


def upload_model(plan: Plan) -> Call:
    parent = plan.place.parent
    return Call(
        "ModelService.UploadModel",
        "POST",
        f"/v1/{parent}/models:upload",
        {"parent": parent},
        {"model": {**_model(plan), "labels": {LABEL: LABEL_VALUE, PLAN_LABEL: model_fingerprint(plan)}}},
    )


def create_endpoint(plan: Plan) -> Call:
    parent = plan.place.parent
    endpoint: Json = {"displayName": plan.name, "labels": {LABEL: LABEL_VALUE}}
    if plan.dedicated:
        endpoint["dedicatedEndpointEnabled"] = True
        endpoint["clientConnectionConfig"] = {"inferenceTimeout": f"{plan.inference_timeout_s}s"}
    return Call(
        "EndpointService.CreateEndpoint", "POST", f"/v1/{parent}/endpoints", {"parent": parent}, endpoint
    )


def deploy_model(plan: Plan, endpoint: str, model: str) -> Call:
    """All traffic goes to it at once; ``0`` stands for the one that is being deployed."""
    deployed = {**_deployed(plan), "model": model, "displayName": deployed_name(plan)}
    return Call(
        "EndpointService.DeployModel",
        "POST",
        f"/v1/{endpoint}:deployModel",
        {"endpoint": endpoint},
        {"deployedModel": deployed, "trafficSplit": {"0": 100}},
    )


def undeploy_model(endpoint: str, deployed_id: str, *, heir: str | None) -> Call:
    """``heir`` is who gets all traffic then: a model that has some is not undeployed while others stay."""
    body: Json = {"deployedModelId": deployed_id}
    if heir is not None:
        body["trafficSplit"] = {heir: 100}
    return Call(
        "EndpointService.UndeployModel",
        "POST",
        f"/v1/{endpoint}:undeployModel",
        {"endpoint": endpoint},
        body,
    )


def delete_endpoint(endpoint: str) -> Call:
    return Call("EndpointService.DeleteEndpoint", "DELETE", f"/v1/{endpoint}", {"name": endpoint}, {})


def delete_model(model: str) -> Call:
    return Call("ModelService.DeleteModel", "DELETE", f"/v1/{model}", {"name": model}, {})


def all_of(plan: Plan) -> tuple[Call, ...]:
    """What deploying takes where nothing is there yet. Google gives out the ids, so words stand for them."""
    endpoint, model = f"{plan.place.parent}/endpoints/ENDPOINT_ID", f"{plan.place.parent}/models/MODEL_ID"
    return upload_model(plan), create_endpoint(plan), deploy_model(plan, endpoint, model)


def made_here(name: str) -> str:
    """A filter of lists for what was made here under this name."""
    return f'display_name="{name}" AND labels.{LABEL}={LABEL_VALUE}'


def is_made_here(resource: Json) -> bool:
    labels: Json = resource.get("labels", {})
    return labels.get(LABEL) == LABEL_VALUE


def model_fingerprint(plan: Plan) -> str:
    """Of what a model is made of: the same means that it need not be uploaded again."""
    return _fingerprint(_model(plan))


def deployed_name(plan: Plan) -> str:
    """Names a deployment by all that it is made of, so that repeating a command finds its work done."""
    return f"{plan.name}-{_fingerprint([_model(plan), _deployed(plan)])}"


def _model(plan: Plan) -> Json:
    model: Json = {
        "displayName": plan.name,
        "containerSpec": {
            "imageUri": plan.image,
            "env": [{"name": name, "value": value} for name, value in _environment(plan).items()],
            "ports": [{"containerPort": PORT}],
            "predictRoute": PREDICT_ROUTE,
            "healthRoute": HEALTH_ROUTE,
        },
    }
    if plan.weights_uri is not None:
        model["artifactUri"] = plan.weights_uri
    return model


def _environment(plan: Plan) -> dict[str, str]:
    """Names that begin with ``AIP_`` are Google's own and may not be set."""
    variables = {
        "MUSICGEN_ACKNOWLEDGE_LICENCE": plan.licence,
        "MUSICGEN_ANSWER_LIMIT_BYTES": str(plan.answer_limit_bytes),
    }
    if plan.output_uri is not None:
        variables["MUSICGEN_OUTPUT_URI"] = plan.output_uri
    return variables


def _deployed(plan: Plan) -> Json:
    deployed: Json = {
        "dedicatedResources": {
            "machineSpec": {
                "machineType": plan.machine_type,
                "acceleratorType": plan.accelerator,
                "acceleratorCount": plan.accelerator_count,
            },
            "minReplicaCount": plan.min_replicas,
            "maxReplicaCount": plan.max_replicas,
        }
    }
    if plan.service_account is not None:
        deployed["serviceAccount"] = plan.service_account
    return deployed


def _fingerprint(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_CHARS]
