"""A new model is one file, one line that registers it, and one page of the emulator."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile

from tests.emulator import RunningEmulator, start_emulator
from tests.running import start_gateway

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "another"
DEPLOYMENTS = """
deployments:
  - {name: chime, model: chime-1, project: test-project}
  - {name: lyria, model: lyria-002, project: test-project}
"""


@dataclass
class Workbench:
    """A gateway with the made-up model, its emulator, and a client with a key."""

    api: httpx.Client
    emulator: RunningEmulator

    def make(self, **request: Any) -> dict[str, Any]:
        answer = self.api.post(
            "/api/music_generate", json={"prompt": "bells at noon", "model": "chime-1", **request}
        )
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = answer.json()
        assert task["status"] == "succeeded", task["error"]
        return task


def add_model(package: Path) -> None:
    """All that there is to it."""
    shutil.copy(HERE / "chime.py", package / "families" / "chime.py")
    register(
        package / "families" / "registry.py",
        "from gateway.families.chime import Chime\n",
        "        MusicGen(),\n",
        "        Chime(),\n",
    )
    pages = package / "emulator" / "pages"
    shutil.copy(HERE / "chime_page.py", pages / "chime.py")
    register(
        pages / "registry.py",
        "from gateway.emulator.pages.chime import ChimePage\n",
        "(Lyria2Page(),",
        "ChimePage(),",
    )


def register(path: Path, line: str, after: str, entry: str) -> None:
    text = path.read_text()
    assert text.count(after) == 1
    head, _, rest = text.partition("from gateway")
    path.write_text(f"{head}{line}from gateway{rest}".replace(after, f"{after}{entry}"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    root = tmp_path_factory.mktemp("another")
    shutil.copytree(ROOT / "gateway", root / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "openapi.yaml", root)
    add_model(root / "gateway")
    (root / "deployments.yaml").write_text(DEPLOYMENTS)
    settings = {"GATEWAY_DEPLOYMENTS": str(root / "deployments.yaml"), "GATEWAY_WAIT_S": "60"}
    with (
        start_emulator(directory=root) as emulator,
        start_gateway(root, emulator.url, code=root, **settings) as gateway,
    ):
        headers = {"X-Api-Key": gateway.create_key()}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=60, trust_env=False) as api:
            yield Workbench(api, emulator)


def decoded(api: httpx.Client, url: str) -> tuple[int, int, int]:
    """Frames, rate and channels."""
    facts = soundfile.info(io.BytesIO(api.get(url).content))
    return facts.frames, facts.samplerate, facts.channels


def test_it_is_offered_with_its_price_and_its_lengths(bench: Workbench) -> None:
    offered = {model["name"]: model for model in bench.api.get("/api/models").json()["models"]}
    chime = offered["chime-1"]
    assert (chime["native_format"], chime["take_max_seconds"], chime["seed"]) == (
        "wav",
        10.0,
        {"min": 0, "max": 2**32 - 1},
    )
    assert chime["routes"][0]["seconds"] == {"min": 1, "max": 300, "default": 30}


def test_it_makes_what_it_makes_untouched(bench: Workbench) -> None:
    task = bench.make(durationSeconds=10)
    (output,) = task["outputs"]
    assert [step["step"] for step in output["plan"]] == ["generate"]
    assert decoded(bench.api, output["url"]) == (441_000, 44_100, 1)
    assert (task["price"]["charged_micros"], output["text"]) == (7_000, "bells, ringing")


def test_it_makes_any_length_in_any_format(bench: Workbench) -> None:
    bench.emulator.reset()
    task = bench.make(durationSeconds=25, outputFormat="mp3", sampleCount=2, seed=100)
    for index, output in enumerate(task["outputs"]):
        generate, join, *_ = output["plan"]
        assert generate == {
            "step": "generate",
            "model": "chime-1",
            "takes": 3,
            "seeds": [100 + index, 102 + index, 104 + index],
        }
        assert (join["step"], join["takes"]) == ("join", 3)
        assert decoded(bench.api, output["url"])[0] == 25 * 44_100
    assert task["price"]["charged_micros"] == 6 * 7_000
    assert bench.emulator.calls()["paid"] == 3


def test_what_it_cannot_do_is_refused(bench: Workbench) -> None:
    answer = bench.api.post(
        "/api/music_generate", json={"prompt": "bells", "model": "chime-1", "negative_prompt": "drums"}
    )
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "negative_prompt")


def test_the_cheapest_is_taken_and_it_is_that(bench: Workbench) -> None:
    quote = bench.api.post(
        "/api/music_generate?dry_run=true", json={"prompt": "bells", "durationSeconds": 30}
    ).json()
    assert (quote["model"], quote["price"]["micros"]) == ("chime-1", 4 * 7_000)


def test_reports_know_it(bench: Workbench) -> None:
    bench.make(durationSeconds=10)
    rows = bench.api.get("/api/usage?group_by=model").json()["rows"]
    assert {row["model"] for row in rows} == {"chime-1"}
