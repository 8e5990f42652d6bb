"""Where a call goes; and that no name in a deployment can send it, and its token, elsewhere."""

import pytest

from gateway.errors import ConfigurationError
from gateway.families.lyria2 import LYRIA2
from gateway.families.musicgen import MUSICGEN
from gateway.model import Deployment
from gateway.upstream.target import Endpoint, call_url

ENDPOINT = "projects/12345/locations/europe-west4/endpoints/678"


def a_deployment(**changes: object) -> Deployment:
    fields = {
        "name": "d", "kind": LYRIA2, "project": "acme-music", "location": "us-central1",
        "endpoint": None, "price_micros": 60_000, "cost_micros": 60_000,
    }  # fmt: skip
    return Deployment(**(fields | changes))


def test_lyria_is_called_as_a_publisher_model_of_its_location():
    assert call_url(a_deployment()) == (
        "https://us-central1-aiplatform.googleapis.com/v1/projects/acme-music/locations/us-central1"
        "/publishers/google/models/lyria-002:predict"
    )


def test_the_global_location_has_a_host_without_a_region():
    assert call_url(a_deployment(location="global")).startswith(
        "https://aiplatform.googleapis.com/v1/projects/acme-music/locations/global/publishers/"
    )


def test_an_endpoint_is_called_where_it_is():
    url = call_url(a_deployment(kind=MUSICGEN, endpoint=ENDPOINT))
    assert url == (
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/12345/locations/europe-west4"
        "/endpoints/678:predict"
    )


@pytest.mark.parametrize("base", ["http://127.0.0.1:8080", "http://127.0.0.1:8080/"])
def test_a_base_url_replaces_the_host_and_keeps_the_path(base):
    assert call_url(a_deployment(), base) == (
        "http://127.0.0.1:8080/v1/projects/acme-music/locations/us-central1"
        "/publishers/google/models/lyria-002:predict"
    )


def test_an_old_project_id_with_a_domain_is_percent_encoded():
    assert "/projects/example.com%3Amusic/locations/" in call_url(a_deployment(project="example.com:music"))


@pytest.mark.parametrize(
    "location",
    ["", "evil.example/", "a@b", "us central1", "us-central1.evil.example", "-x", "x-", "US", "é", "a\n"],
)
def test_a_location_that_would_change_the_host_is_refused(location):
    with pytest.raises(ConfigurationError, match="not a location"):
        call_url(a_deployment(location=location))


@pytest.mark.parametrize("project", ["", "../x", "a/b", "a?b", "a#b", "..", "-a", "a b", "a%2fb"])
def test_a_project_that_would_change_the_path_is_refused(project):
    with pytest.raises(ConfigurationError, match="not a project"):
        call_url(a_deployment(project=project))


@pytest.mark.parametrize(
    "name",
    [
        "", "678", "endpoints/678", f"/{ENDPOINT}", f"{ENDPOINT}/", f"{ENDPOINT}:predict", f"{ENDPOINT}\n",
        "projects/p/locations/us-central1/endpoints/..", "projects/p/locations/us-central1/endpoints/a b",
        "projects/p/locations/x.evil/endpoints/1", "projects/p?/locations/l/endpoints/1",
        "projects/p/locations/l/publishers/google/models/lyria-002",
    ],
)  # fmt: skip
def test_what_is_no_endpoint_name_is_refused(name):
    with pytest.raises(ConfigurationError):
        Endpoint.parse(name)


def test_an_endpoint_name_is_taken_apart():
    assert Endpoint.parse(ENDPOINT) == Endpoint("12345", "europe-west4", "678")


def test_musicgen_without_an_endpoint_cannot_be_called():
    with pytest.raises(ConfigurationError, match="needs an endpoint"):
        call_url(a_deployment(kind=MUSICGEN))
