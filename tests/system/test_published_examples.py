"""The published examples run as they stand: only the host and the key are put in.

They are in ``examples/``, to the letter, with one exception: the published line for the task's status had
lost its line breaks (``…/{task_id}"-H "accept: …"-H "X-Api-Key: …"``), and no shell takes it like that. It is
kept here as it must have been, like the other one.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.running import RunningGateway
from tests.system.audio import listen

EXAMPLES = Path(__file__).parent / "examples"
HOST = "https://taiapi.aiphotocraft.com"
SILENCE = 0.01


def example(name: str, gateway: RunningGateway, key: str) -> str:
    """The published text with our host and key."""
    text = (EXAMPLES / name).read_text()
    assert (text.count(HOST), text.count("YOUR_API_KEY")) == (1, 1)
    return text.replace(HOST, gateway.url).replace("YOUR_API_KEY", key)


def run(*command: str) -> str:
    """Run a program that has never heard of a proxy; what it prints."""
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}  # noqa: TID251 - handed on
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "label", "seconds", "rate_hz", "channels"),
    [
        ("music_generate.py", "Music URL:", 30.0, 32_000, 1),
        ("music_generate_lyria.py", "Lyria music URL:", 32.8, 48_000, 2),
    ],
)
def test_the_python_example_prints_a_link_to_music(
    gateway: RunningGateway,
    key: str,
    emulator: RunningEmulator,
    name: str,
    label: str,
    seconds: float,
    rate_hz: int,
    channels: int,
) -> None:
    emulator.settings(lyria_seconds=32.8)
    printed = run(sys.executable, "-c", example(name, gateway, key))
    found = re.fullmatch(rf"{label} (http://\S+)\n", printed)
    assert found is not None, printed
    heard = listen(found[1])
    assert heard.seconds == pytest.approx(seconds, abs=0.01)
    assert (heard.sample_rate_hz, heard.channels, heard.file_format) == (rate_hz, channels, "WAV PCM_16")
    assert heard.loudness > SILENCE
    assert emulator.calls()["paid"] == 1


@pytest.mark.usefixtures("emulator")
def test_the_curl_lines_make_music_and_find_it_again(gateway: RunningGateway, key: str) -> None:
    task = json.loads(run("sh", "-c", example("music_generate.sh", gateway, key)))
    assert (task["status"], task["request"]["durationSeconds"]) == ("succeeded", 30)
    heard = listen(task["audio_url"])
    assert heard.seconds == pytest.approx(30.0, abs=0.01)
    assert heard.loudness > SILENCE
    line = example("task_status.sh", gateway, key).replace("{task_id}", task["task_id"])
    status = json.loads(run("sh", "-c", line))
    assert status["image_url"] == status["audio_url"] == task["audio_url"]


@pytest.mark.usefixtures("emulator")
def test_the_same_prompt_and_seed_sound_the_same(api: httpx.Client) -> None:
    body = {"prompt": "slow piano", "durationSeconds": 2, "seed": 7}
    sums = {api.post("/api/music_generate", json=body).json()["outputs"][0]["sha256"] for _ in range(2)}
    assert len(sums) == 1


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(
    "options",
    [
        ["-d", "prompt=warm pads", "-d", "durationSeconds=2"],
        ["--data-urlencode", "prompt=café & piano", "-d", "durationSeconds=2"],
        ["-F", "prompt=warm pads", "-F", "durationSeconds=2"],
        ["-F", 'body={"prompt": "warm pads", "durationSeconds": 2}'],
        ["-F", 'body={"prompt": "warm pads", "durationSeconds": 2};type=application/json'],
        ["-F", "prompt=warm pads", "-F", 'body={"durationSeconds": 2}'],
        ["--json", '{"prompt": "warm pads", "durationSeconds": 2}'],
    ],
)
def test_every_way_that_curl_sends_is_read(gateway: RunningGateway, key: str, options: list[str]) -> None:
    url = f"{gateway.url}/api/music_generate"
    task = json.loads(run("curl", "-sS", url, "-H", f"X-Api-Key: {key}", *options))
    assert (task["status"], task["outputs"][0]["seconds"]) == ("succeeded", 2.0)


@pytest.mark.usefixtures("emulator")
def test_curl_resumes_a_download(gateway: RunningGateway, api: httpx.Client, tmp_path: Path) -> None:
    task = api.post("/api/music_generate", json={"prompt": "x", "durationSeconds": 2}).json()
    whole, resumed = tmp_path / "whole.wav", tmp_path / "resumed.wav"
    run("curl", "-sS", "-o", str(whole), task["audio_url"])
    resumed.write_bytes(whole.read_bytes()[:10_000])
    run("curl", "-sS", "-C", "-", "-o", str(resumed), task["audio_url"])
    assert resumed.read_bytes() == whole.read_bytes()
    head = run("curl", "-sSI", task["audio_url"])
    assert f"content-length: {len(whole.read_bytes())}" in head
    assert "accept-ranges: bytes" in head
