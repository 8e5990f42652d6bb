"""The emulator against somebody else's reading of the wire: Google's own client, and its published schema.

The client speaks REST here. Over REST it raises the HTTP names of its errors (`BadRequest`,
`TooManyRequests`), of which `InvalidArgument` and `ResourceExhausted` are the gRPC subclasses.
"""

import base64
import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import googleapiclient
import httpx
import jsonschema
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.aiplatform_v1 import PredictionServiceClient
from google.cloud.aiplatform_v1.services.prediction_service.transports.rest import (
    PredictionServiceRestTransport,
)
from google.oauth2.credentials import Credentials
from google.protobuf import json_format, struct_pb2

from tests.emulator import RunningEmulator, start_emulator

LYRIA = "projects/test-project/locations/us-central1/publishers/google/models/lyria-002"
MUSICGEN = "projects/test-project/locations/us-central1/endpoints/7"


def value(document: Any) -> struct_pb2.Value:
    return json_format.ParseDict(document, struct_pb2.Value())


def client_of(emulator: RunningEmulator, credentials: Any) -> PredictionServiceClient:
    return PredictionServiceClient(
        transport=PredictionServiceRestTransport(
            host=emulator.url.removeprefix("http://"), url_scheme="http", credentials=credentials
        )
    )


@pytest.fixture
def google(emulator: RunningEmulator) -> Iterator[PredictionServiceClient]:
    with client_of(emulator, AnonymousCredentials()) as client:
        yield client


def frames_of(prediction: Any) -> tuple[int, int, int]:
    with wave.open(io.BytesIO(base64.b64decode(prediction["audioContent"], validate=True))) as file:
        return file.getframerate(), file.getnchannels(), file.getnframes()


def test_googles_client_gets_clips_of_lyria(emulator, google):
    answer = google.predict(
        endpoint=LYRIA,
        instances=[value({"prompt": "warm jazz", "negative_prompt": "drums"})],
        parameters=value({"sample_count": 2}),
    )
    assert [frames_of(entry) for entry in answer.predictions] == [(48_000, 2, 48_000)] * 2
    assert answer.predictions[0]["mimeType"] == "audio/wav"
    assert answer.model_display_name == "Lyria 2"
    assert answer.deployed_model_id
    assert emulator.calls()["clips"] == 2


def test_googles_client_sends_numbers_as_doubles_and_they_count_as_integers(emulator, google):
    google.predict(endpoint=LYRIA, instances=[value({"prompt": "warm jazz", "seed": 98765})])
    assert emulator.calls()["calls"][0]["seed"] == 98765


def test_googles_client_gets_music_of_the_asked_length_from_an_endpoint(google):
    answer = google.predict(
        endpoint=MUSICGEN,
        instances=[value({"prompt": "techno"})],
        parameters=value({"duration_seconds": 2, "sample_count": 2, "seed": 7}),
    )
    assert [frames_of(entry) for entry in answer.predictions] == [(32_000, 1, 64_000)] * 2
    assert [int(entry["seed"]) for entry in answer.predictions] == [7, 8]


@pytest.mark.parametrize("endpoint", [LYRIA, MUSICGEN])
@pytest.mark.parametrize(
    ("preset", "error", "words"),
    [
        ("recitation", exceptions.BadRequest, "blocked by recitation checks"),
        ("safety", exceptions.BadRequest, "Prompt flag"),
        ("quota", exceptions.TooManyRequests, "Quota exceeded"),
        ("capacity", exceptions.TooManyRequests, "Resource exhausted"),
        ("not_found", exceptions.NotFound, "was not found"),
        ("internal", exceptions.InternalServerError, "Internal error"),
    ],
)
def test_googles_client_raises_its_own_errors(emulator, google, endpoint, preset, error, words):
    emulator.script({"preset": preset})
    with pytest.raises(error, match=words):
        google.predict(endpoint=endpoint, instances=[value({"prompt": "x"})])


def test_googles_client_reads_the_details_of_an_unknown_name(google):
    with pytest.raises(exceptions.BadRequest, match='Unknown name "bpm"') as caught:
        google.predict(endpoint=LYRIA, instances=[value({"prompt": "x", "bpm": 120})])
    assert caught.value.details[0]["fieldViolations"][0]["field"] == "instances[0]"


def test_googles_client_learns_of_an_unknown_model(google):
    with pytest.raises(exceptions.NotFound, match="lyria-009"):
        google.predict(endpoint=LYRIA.replace("lyria-002", "lyria-009"), instances=[value({"prompt": "x"})])


def test_a_token_is_wanted_when_the_emulator_was_told_so():
    with start_emulator("--require-token") as strict:
        # Google's client would fetch a new token on a 401, so the stranger is a plain one.
        refused = httpx.post(f"{strict.url}/v1/{LYRIA}:predict", json={"instances": [{"prompt": "x"}]})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.json()["error"]["status"] == "UNAUTHENTICATED"
        assert refused.json()["error"]["details"][0]["reason"] == "CREDENTIALS_MISSING"
        with client_of(strict, Credentials("a-token")) as friend:
            friend.predict(endpoint=LYRIA, instances=[value({"prompt": "x"})])
        assert [call["authorized"] for call in strict.calls()["calls"]] == [False, True]


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    """Google's discovery document of aiplatform v1 as JSON Schema, in which no further names are allowed."""
    documents = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    document = json.loads((documents / "aiplatform.v1.json").read_text(encoding="utf-8"))
    return {name: closed(schema) for name, schema in document["schemas"].items()}


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        name: closed(item)
        for name, item in schema.items()
        if name not in {"format", "id", "description", "readOnly", "deprecated"}
        and (name, item) != ("type", "any")
    }
    if "$ref" in made:
        made["$ref"] = f"#/schemas/{made['$ref']}"
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def check(schemas: dict[str, Any], name: str, document: Any) -> None:
    jsonschema.validate(document, {"$ref": f"#/schemas/{name}", "schemas": schemas})


BODIES = (
    {"instances": [{"prompt": "jazz", "negative_prompt": "drums", "seed": 5}], "parameters": {}},
    {"instances": [{"prompt": "jazz"}], "parameters": {"sample_count": 2}, "labels": {"team": "a"}},
)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("resource", [LYRIA])
def test_what_the_emulator_takes_and_gives_is_in_googles_schema(emulator, schemas, resource, body):
    check(schemas, "GoogleCloudAiplatformV1PredictRequest", body)
    answer = httpx.post(f"{emulator.url}/v1/{resource}:predict", json=body)
    assert answer.status_code == 200
    check(schemas, "GoogleCloudAiplatformV1PredictResponse", answer.json())


@pytest.mark.parametrize(
    "effect", ["empty_predictions", "no_predictions", "wrong_field", "whitespace", "escaped"]
)
def test_odd_answers_are_still_in_googles_schema(emulator, schemas, effect):
    emulator.script({effect: True})
    answer = httpx.post(f"{emulator.url}/v1/{MUSICGEN}:predict", json={"instances": [{"prompt": "x"}]})
    check(schemas, "GoogleCloudAiplatformV1PredictResponse", answer.json())


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"prompt": "x"}], "unheard": 1},
        {"instances": {"prompt": "x"}},
        {"instances": [{"prompt": "x"}], "labels": {"a": 1}},
    ],
)
def test_what_googles_schema_refuses_the_emulator_refuses(emulator, schemas, body):
    with pytest.raises(jsonschema.ValidationError):
        check(schemas, "GoogleCloudAiplatformV1PredictRequest", body)
    answer = httpx.post(f"{emulator.url}/v1/{LYRIA}:predict", json=body)
    assert answer.status_code == 400
    check_error(schemas, answer)


@pytest.mark.parametrize(
    "preset", ["recitation", "safety", "language", "quota", "capacity", "not_found", "internal"]
)
def test_errors_are_googles_status_in_its_envelope(emulator, schemas, preset):
    emulator.script({"preset": preset})
    answer = httpx.post(f"{emulator.url}/v1/{LYRIA}:predict", json={"instances": [{"prompt": "x"}]})
    check_error(schemas, answer)


def check_error(schemas: dict[str, Any], answer: httpx.Response) -> None:
    """The envelope is ``google.rpc.Status``, its code the HTTP status, and the canonical name beside it."""
    document = answer.json()
    assert set(document) == {"error"}
    status = document["error"].pop("status")
    assert document["error"]["code"] == answer.status_code
    assert status.isupper()
    check(schemas, "GoogleRpcStatus", document["error"])
