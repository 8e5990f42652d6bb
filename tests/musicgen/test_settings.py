"""What the environment may say, and that the README and the container's files agree with it."""

import re
from pathlib import Path

import pytest
from musicgen_server.settings import ConfigurationError, Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "musicgen"
OWN = {"MUSICGEN_ACKNOWLEDGE_LICENCE": "own-weights", "MUSICGEN_MODEL": "weights"}
PUBLISHED = "facebook/musicgen-stereo-large"


def read(**variables: str) -> Settings:
    return Settings.read(OWN | variables)


def test_what_vertex_says_is_followed() -> None:
    settings = read(
        AIP_HTTP_PORT="7080", AIP_HEALTH_ROUTE="/h", AIP_PREDICT_ROUTE="/p:x", AIP_STORAGE_URI="gs://bucket/w"
    )
    found = settings.port, settings.health_route, settings.predict_route, settings.weights_uri
    assert found == (7080, "/h", "/p:x", "gs://bucket/w")


def test_where_vertex_says_nothing_its_defaults_hold() -> None:
    settings = read(AIP_STORAGE_URI="")
    assert (settings.port, settings.health_route, settings.predict_route) == (8080, "/health", "/predict")
    assert (settings.weights_uri, settings.answer_limit_bytes) == (None, 1_500_000)
    assert (settings.window_s, settings.stride_s) == (30, 18)


@pytest.mark.parametrize("word", ["CC-BY-NC-4.0", "cc-by-nc-4.0", " CC-BY-NC-4.0 "])
def test_published_weights_with_their_licence_acknowledged(word: str) -> None:
    assert read(MUSICGEN_MODEL=PUBLISHED, MUSICGEN_ACKNOWLEDGE_LICENCE=word).model == PUBLISHED


@pytest.mark.parametrize("word", ["", "yes", "MIT", "own-weights"])
def test_published_weights_without(word: str) -> None:
    with pytest.raises(ConfigurationError, match=r"4\.0.*set MUSICGEN_ACKNOWLEDGE_LICENCE=CC-BY-NC"):
        read(MUSICGEN_MODEL=PUBLISHED, MUSICGEN_ACKNOWLEDGE_LICENCE=word)


def test_weights_of_ones_own_have_to_be_said_to_be_that() -> None:
    with pytest.raises(ConfigurationError, match="MUSICGEN_ACKNOWLEDGE_LICENCE=own-weights"):
        Settings.read({"MUSICGEN_MODEL": "weights"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AIP_HTTP_PORT", "0"),
        ("AIP_HTTP_PORT", "http"),
        ("AIP_HEALTH_ROUTE", "health"),
        ("AIP_PREDICT_ROUTE", "/{x}"),
        ("AIP_STORAGE_URI", "/weights"),
        ("MUSICGEN_OUTPUT_URI", "s3://bucket"),
        ("MUSICGEN_ANSWER_LIMIT_BYTES", "1.5e6"),
        ("MUSICGEN_WINDOW_S", "31"),
        ("MUSICGEN_STRIDE_S", "30"),
        ("MUSICGEN_ROWS", "5"),
        ("MUSICGEN_WAITING", "-1"),
        ("MUSICGEN_GUIDANCE", "nan"),
        ("MUSICGEN_GUIDANCE", "much"),
        ("MUSICGEN_TEMPERATURE", "0"),
        ("MUSICGEN_TOP_K", "0"),
        ("MUSICGEN_DTYPE", "int8"),
    ],
)
def test_what_cannot_be_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}: "):
        read(**{name: value})


def test_a_short_window_has_a_stride_within_it() -> None:
    assert read(MUSICGEN_WINDOW_S="10").stride_s == 9


def test_every_variable_is_in_the_readme_and_no_other() -> None:
    name = r"\b(?:AIP|MUSICGEN)_[A-Z_]+\b"
    known = set(re.findall(rf'"({name})"', (DEPLOY / "musicgen_server" / "settings.py").read_text()))
    table = set(re.findall(rf"^\| `({name})`", (DEPLOY / "README.md").read_text(), re.MULTILINE))
    assert table == known


def test_the_container_and_its_tests_have_the_same_torch() -> None:
    def pinned(path: Path) -> str:
        found = re.search(r"^torch==([0-9.]+)", path.read_text(), re.MULTILINE)
        assert found is not None
        return found[1]

    assert pinned(DEPLOY / "requirements.txt") == pinned(Path(__file__).parent / "torch-cpu.txt")


def test_the_lock_has_hashes_and_no_address() -> None:
    text = (DEPLOY / "requirements.txt").read_text()
    assert "://" not in text
    entries = [line for line in text.replace("\\\n", " ").splitlines() if re.match(r"[a-z]", line)]
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
