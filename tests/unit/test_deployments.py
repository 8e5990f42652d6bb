"""The file of deployments: what it gives, and what is said of one that cannot be used."""

from pathlib import Path

import pytest

from gateway.deployments import Usual, read_deployments
from gateway.errors import ConfigurationError
from gateway.families.lyria2 import LYRIA2
from gateway.families.musicgen import MUSICGEN
from gateway.model import Deployment
from gateway.settings import Settings

USUAL = Usual("usual-project", "us-central1", {LYRIA2: 60_000, MUSICGEN: 0}, {})
ENDPOINT = "projects/p/locations/europe-west4/endpoints/7"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deployments.yaml"


def read(path: Path, *entries: str) -> tuple[Deployment, ...]:
    path.write_text("deployments:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries))
    return read_deployments(path, USUAL)


def test_what_an_entry_does_not_say_is_as_usual(path: Path) -> None:
    assert read(path, "name: one, model: lyria-002") == (
        Deployment("one", LYRIA2, "usual-project", "us-central1", None, 60_000, 60_000),
    )


def test_an_entry_may_say_everything(path: Path) -> None:
    (found,) = read(
        path,
        "name: own.7, model: lyria-002, project: mine, location: global, weight: 3, rpm: 10, "
        'concurrency: 4, price_usd: "0.10", cost_usd: 0.06',
    )
    assert found == Deployment(
        "own.7", LYRIA2, "mine", "global", None, 100_000, 60_000, weight=3, rpm=10, concurrency=4
    )


def test_an_endpoint_is_where_it_says(path: Path) -> None:
    (found,) = read(path, f"name: own, model: musicgen, endpoint: {ENDPOINT}")
    assert (found.project, found.location, found.endpoint) == ("p", "europe-west4", ENDPOINT)


def test_several_pool_in_the_order_of_the_file(path: Path) -> None:
    found = read(path, "name: b, model: lyria-002", "name: a, model: lyria-002")
    assert [each.name for each in found] == ["b", "a"]


def test_the_file_takes_the_place_of_the_simple_settings(path: Path) -> None:
    path.write_text("deployments: [{name: one, model: lyria-002}]")
    settings = Settings(
        GATEWAY_DEPLOYMENTS=path, project="p", musicgen_endpoint=ENDPOINT, lyria2_price_usd=0.07
    )
    assert settings.deployments() == (Deployment("one", LYRIA2, "p", "us-central1", None, 70_000, 70_000),)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("name: one", "deployments.0.model: Field required"),
        (
            "name: one, model: lyria-9",
            "model must be one of: musicgen, lyria-3-clip-preview, lyria-3-pro-preview, lyria-002",
        ),
        ("name: One, model: lyria-002", "deployments.0.name: String should match pattern"),
        ("name: emulator, model: lyria-002", "the name 'emulator' is taken"),
        ("name: one, model: lyria-002, rmp: 3", "deployments.0.rmp: Extra inputs are not permitted"),
        (
            "name: one, model: lyria-002, rpm: 0",
            "deployments.0.rpm: Input should be greater than or equal to 1",
        ),
        ("name: one, model: lyria-002, rpm: many", "deployments.0.rpm: Input should be a valid integer"),
        ('name: one, model: lyria-002, price_usd: "6 cents"', "deployments.0.price_usd: String should match"),
        ("name: one, model: lyria-002, price_usd: 0.0000001", "deployments.0.price_usd: String should match"),
        ("name: one, model: musicgen", "endpoint belongs to musicgen, which needs one"),
        (f"name: one, model: lyria-002, endpoint: {ENDPOINT}", "and to no other model"),
        ("name: one, model: musicgen, endpoint: 7", "deployments.0.endpoint: String should match pattern"),
    ],
)
def test_a_wrong_entry_is_told_by_its_place(path: Path, entry: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(path, entry)
    assert str(caught.value).startswith(f"GATEWAY_DEPLOYMENTS, {path}: ")
    assert said in str(caught.value)


def test_two_of_one_name_are_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="two deployments are called 'one'"):
        read(path, "name: one, model: lyria-002", "name: one, model: lyria-002, location: global")


def test_one_model_has_one_price(path: Path) -> None:
    """What a request costs is known before it is known where it goes."""
    with pytest.raises(ConfigurationError, match="the deployments of lyria-002 must have one price_usd"):
        read(path, "name: a, model: lyria-002", 'name: b, model: lyria-002, price_usd: "0.05"')


def test_a_project_is_needed_from_somewhere(path: Path) -> None:
    path.write_text("deployments: [{name: one, model: lyria-002}]")
    with pytest.raises(ConfigurationError, match="'one' names no project, and GATEWAY_PROJECT is not set"):
        read_deployments(path, Usual("", "us-central1", USUAL.price_micros, {}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deployments: [", "it is not YAML"),
        ("", "Input should be a valid dictionary"),
        ("deployments: []", "deployments: List should have at least 1 item"),
        ("models: []", "models: Extra inputs are not permitted"),
    ],
)
def test_a_file_that_is_none_is_told(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_deployments(path, USUAL)
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="it cannot be read"):
        read_deployments(path, USUAL)


def test_a_file_that_is_not_text_is_told(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="it cannot be read"):
        read_deployments(path, USUAL)
