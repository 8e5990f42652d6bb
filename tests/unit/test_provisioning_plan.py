"""What can be deployed, and what is refused before Google is asked."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.provisioning.plan import Place, check_name
from tests.plans import IMAGE, a_plan


def refused(**changes: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        a_plan(**changes)
    return caught.value.detail


def test_a_usual_plan_is_one() -> None:
    assert a_plan().machine == "g2-standard-8 with 1 x NVIDIA_L4"


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        "us-central1-docker.pkg.dev/acme.com/old/repo/deep/er/musicgen:v1.2_3-rc",
        f"us-central1-docker.pkg.dev/acme/repo/musicgen@sha256:{'0af1' * 16}",
    ],
)
def test_an_image_of_the_region_with_a_version_is_taken(image: str) -> None:
    assert a_plan(image=image).image == image


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        ("gcr.io/acme/musicgen:1", "push it to us-central1-docker.pkg.dev/PROJECT/REPOSITORY/musicgen:TAG"),
        ("musicgen", "is not in Artifact Registry"),
        (f"https://{IMAGE}", "is not in Artifact Registry"),
        (f"{IMAGE} ", "is not in Artifact Registry"),
        ("us-docker.pkg.dev/acme/repo/musicgen:1", "multi-regional"),
        ("europe-docker.pkg.dev/acme/repo/musicgen:1", "a repository on us-central1-docker.pkg.dev"),
        ("asia-docker.pkg.dev/acme/repo/musicgen:1", "multi-regional"),
        ("europe-west4-docker.pkg.dev/acme/repo/musicgen:1", "deploy with --location europe-west4"),
        ("us-central1-docker.pkg.dev/acme/repo/musicgen", "add :TAG"),
        ("us-central1-docker.pkg.dev/acme/repo/musicgen@sha256:12", "is not in Artifact Registry"),
    ],
)
def test_an_image_that_vertex_could_not_pull_is_refused_with_advice(image: str, advice: str) -> None:
    said = refused(image=image)
    assert said.startswith("--image: ")
    assert advice in said


def test_without_its_licence_the_model_is_not_deployed() -> None:
    said = refused(licence="")
    for words in ("CC-BY-NC 4.0", "non-commercial", "=cc-by-nc-4.0", "=own-weights"):
        assert words in said


@pytest.mark.parametrize("licence", ["cc-by-nc-4.0", "own-weights"])
def test_with_a_licence_it_is(licence: str) -> None:
    assert a_plan(licence=licence).licence == licence


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"weights_uri": "/models/musicgen"}, "--weights: "),
        ({"weights_uri": "gs://"}, "--weights: "),
        ({"output_uri": "https://storage.googleapis.com/bucket"}, "--output: "),
        ({"output_uri": "gs://music out"}, "--output: "),
        ({"min_replicas": 2, "max_replicas": 1}, "--max-replicas: "),
        ({"service_account": "somebody"}, "--service-account: "),
        ({"service_account": "somebody@example.com"}, "--service-account: "),
        ({"inference_timeout_s": 0}, "1 to 3600"),
        ({"inference_timeout_s": 3601}, "1 to 3600"),
        ({"dedicated": False, "inference_timeout_s": 61}, "--dedicated"),
        ({"name": "Musicgen"}, "--name: "),
        ({"name": 'x" OR display_name="y'}, "--name: "),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_option(changes: dict[str, object], advice: str) -> None:
    assert advice in refused(**changes)


def test_answers_may_be_as_long_as_the_kind_of_endpoint_lets_through() -> None:
    assert a_plan().answer_limit_bytes == 10_000_000
    assert a_plan(dedicated=False, inference_timeout_s=60).answer_limit_bytes == 1_500_000


@pytest.mark.parametrize("timeout_s", [1, 600, 3600])
def test_a_dedicated_endpoint_may_be_given_an_hour(timeout_s: int) -> None:
    assert a_plan(inference_timeout_s=timeout_s).inference_timeout_s == timeout_s


@pytest.mark.parametrize(
    ("project", "location", "advice"),
    [
        ("", "us-central1", "GATEWAY_PROJECT"),
        ("a/b", "us-central1", "not a project id"),
        ("acme", "global", "an endpoint is in one"),
        ("acme", "us-central1.evil.example", "not a region"),
        ("acme", "", "not a region"),
    ],
)
def test_a_place_is_a_project_and_a_region(project: str, location: str, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        Place(project, location)


def test_an_endpoint_says_where_it_is() -> None:
    place = Place.of("projects/4711/locations/europe-west4/endpoints/7")
    assert place == Place("4711", "europe-west4")
    assert place.parent == "projects/4711/locations/europe-west4"


@pytest.mark.parametrize("text", ["7", "projects/p/locations/us-central1/models/7", "projects/p/endpoints/7"])
def test_what_names_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="leave it out"):
        Place.of(text)


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_a_name_can_stand_in_a_filter_and_a_label(name: str) -> None:
    try:
        check_name(name)
    except ConfigurationError:
        return
    assert name.isascii()
    assert name == name.lower()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 1 <= len(name) <= 49
