"""One tiny model, mono and stereo, and a server of each, for all tests of the container."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gcs import BUCKET, Gcs, start_gcs
from tests.musicgen.container import PYTHON, Container, environment, start_container

HERE = Path(__file__).parent
HEALTH_ROUTE = "/v1/endpoints/5/deployedModels/7"
# Where the gateway of `tests.running` calls MusicGen.
PREDICT_ROUTE = "/v1/projects/test-project/locations/us-central1/endpoints/7:predict"


@dataclass(frozen=True)
class Models:
    """Directories, and what ``checks.py`` found out."""

    mono: Path
    stereo: Path
    findings: dict[str, Any]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON.parents[1].name} is not there: make setup-dev")
    mono, stereo = tmp_path_factory.mktemp("mono"), tmp_path_factory.mktemp("stereo")
    return Models(mono, stereo, json.loads(inside("checks.py", mono, stereo)))


@pytest.fixture(scope="session")
def checks(models: Models) -> dict[str, Any]:
    """Whatever holds of the models, seen from inside."""
    return models.findings


@pytest.fixture(scope="session")
def gcs() -> Iterator[Gcs]:
    with start_gcs() as running:
        yield running


@pytest.fixture(scope="session")
def container(models: Models, gcs: Gcs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """Mono, with Vertex AI's defaults, and no place for what no answer holds."""
    with start_container(
        tmp_path_factory.mktemp("container") / "log",
        MUSICGEN_MODEL=str(models.mono),
        MUSICGEN_ACKNOWLEDGE_LICENCE="own-weights",
        STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{gcs.backend_port}",
    ) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def deployed(models: Models, gcs: Gcs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """Stereo, as Vertex AI deploys it: weights from a bucket, routes of its own. One prediction may wait."""
    for path in models.stereo.iterdir():
        gcs.put(f"weights/stereo/{path.name}", path.read_bytes())
    with start_container(
        tmp_path_factory.mktemp("deployed") / "log",
        AIP_HEALTH_ROUTE=HEALTH_ROUTE,
        AIP_PREDICT_ROUTE=PREDICT_ROUTE,
        AIP_STORAGE_URI=f"gs://{BUCKET}/weights/stereo",
        MUSICGEN_MODEL="facebook/musicgen-small",
        MUSICGEN_ACKNOWLEDGE_LICENCE="own-weights",
        MUSICGEN_OUTPUT_URI=f"gs://{BUCKET}/usual",
        MUSICGEN_WAITING="1",
        STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{gcs.backend_port}",
    ) as running:
        running.wait_until_ready()
        yield running


def inside(script: str, *arguments: Path) -> str:
    """Run one of the scripts here where torch is; what it prints."""
    command = [str(PYTHON), str(HERE / script), *map(str, arguments)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
