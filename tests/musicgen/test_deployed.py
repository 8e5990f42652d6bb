"""The server as Vertex AI deploys it: its variables, weights from a bucket, a short line, and the end.

In the order of a container's life.
"""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.gcs import BUCKET, Gcs
from tests.musicgen.conftest import HEALTH_ROUTE
from tests.musicgen.container import (
    START_TIMEOUT_S,
    Container,
    audio_of,
    body,
    read_wav,
    start_container,
    stop,
)
from tests.running import start_gateway

pytestmark = pytest.mark.xdist_group("musicgen")

PROMPT = "two horns"


def test_health_is_false_until_the_model_can_answer(deployed: Container) -> None:
    assert deployed.seen == [503, 200]


def test_the_routes_are_the_ones_that_vertex_names(deployed: Container) -> None:
    assert deployed.health_route == HEALTH_ROUTE
    deployed.predict(PROMPT, duration_seconds=1)
    bare = Container(deployed.process, deployed.url, deployed.log, "/health", "/predict")
    assert bare.health() == 404
    assert bare.send(body(PROMPT)).status_code == 404


def test_a_stereo_model_makes_stereo(deployed: Container) -> None:
    clips = deployed.predict(PROMPT, duration_seconds=5, sample_count=2, seed=3)
    assert read_wav(audio_of(clips[0])) == (5 * 8_000, 8_000, 2, 2)
    samples = memoryview(audio_of(clips[0])[44:]).cast("h")
    assert samples[::2].tolist() != samples[1::2].tolist()
    assert audio_of(deployed.predict(PROMPT, duration_seconds=5, seed=4)[0]) == audio_of(clips[1])


def test_what_no_answer_holds_is_put_where_the_container_was_told(deployed: Container, gcs: Gcs) -> None:
    (clip,) = deployed.predict(PROMPT, duration_seconds=65, seed=3)
    name = clip["gcsUri"].removeprefix(f"gs://{BUCKET}/")
    assert name.startswith("usual/")
    assert int(gcs.stored(name)["size"]) == clip["sizeBytes"] == 44 + 65 * 8_000 * 2 * 2


def test_a_tenant_of_a_gateway_gets_its_music(deployed: Container, tmp_path: Path) -> None:
    """The gateway takes the container for Vertex AI: the contract, from both ends."""
    asked = {"model": "musicgen", "prompt": PROMPT, "durationSeconds": 2, "sampleCount": 2, "seed": 3}
    with (
        start_gateway(tmp_path, deployed.url) as gateway,
        httpx.Client(base_url=gateway.url, headers={"X-Api-Key": gateway.create_key()}, timeout=60) as client,
    ):
        task = client.post("/api/music_generate", json=asked).raise_for_status().json()
        clips = [client.get(url).content for url in task["audio_urls"]]
    made = deployed.predict(PROMPT, duration_seconds=2, sample_count=2, seed=3)
    assert clips == [audio_of(clip) for clip in made]


async def test_a_full_line_is_429_and_who_hangs_up_is_not_served(deployed: Container) -> None:
    first = deployed.predicting(PROMPT, duration_seconds=300)
    await deployed.until_said("making 1 x 300 s")
    second = deployed.predicting(PROMPT, duration_seconds=299)
    await deployed.until_said("waiting: 1 x 299 s")
    third = await deployed.predicting(PROMPT, duration_seconds=1)
    assert (third.status_code, third.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert second.cancel()
    await deployed.until_said("hung up")
    assert first.cancel()
    await deployed.until_said("hung up", 2)
    assert (await deployed.predicting(PROMPT, duration_seconds=1)).status_code == 200
    assert "making 1 x 299 s" not in deployed.said()


async def test_sigterm_finishes_what_is_made_and_refuses_who_waits(deployed: Container) -> None:
    made = deployed.predicting(PROMPT, duration_seconds=45)
    await deployed.until_said("making 1 x 45 s")
    waiting = deployed.predicting(PROMPT, duration_seconds=44)
    await deployed.until_said("waiting: 1 x 44 s")
    assert await asyncio.to_thread(stop, deployed) == 0
    answer = await made
    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["seconds"] == 45
    refused = await waiting
    assert (refused.status_code, refused.json()["error"]["status"]) == (503, "UNAVAILABLE")
    assert deployed.health() is None


@dataclass(frozen=True)
class Ended:
    code: int
    said: str


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Containers that do not start, at the same time."""
    logs = tmp_path_factory.mktemp("ended")
    wanted = {
        "broken": {
            "MUSICGEN_MODEL": str(logs / "none"),
            "MUSICGEN_ACKNOWLEDGE_LICENCE": "own-weights",
        },
        "unlicensed": {"MUSICGEN_MODEL": "facebook/musicgen-small"},
    }
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(start_container(logs / name, **variables))
            for name, variables in wanted.items()
        }
        return {name: Ended(one.process.wait(START_TIMEOUT_S), one.said()) for name, one in started.items()}


def test_weights_that_cannot_be_loaded_end_the_container(ended: dict[str, Ended]) -> None:
    assert ended["broken"].code == 1
    assert "the model's thread ended" in ended["broken"].said


def test_without_the_licence_acknowledged_it_does_not_start(ended: dict[str, Ended]) -> None:
    assert ended["unlicensed"].code == 2
    assert "CC-BY-NC 4.0" in ended["unlicensed"].said
    assert "MUSICGEN_ACKNOWLEDGE_LICENCE=CC-BY-NC-4.0" in ended["unlicensed"].said
