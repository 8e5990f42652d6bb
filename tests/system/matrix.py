"""Every model, length, format, number of clips and seed: what is owed for each, reckoned beside the gateway.

``python -m tests.system.matrix [EVERY [FROM]]`` makes all of them, which takes hours, or one in so many.
"""

import hashlib
import math
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import miniaudio

from tests.emulator import RunningEmulator, start_emulator
from tests.running import start_gateway

LENGTHS_S = (1, 10, 30, 32, 33, 60, 184, 185, 300)
FORMATS = ("wav", "flac", "mp3", "ogg", "opus")
SEED = 4_000_000_000
#: Decoders may give so much silence more.
SPARE_S = 0.05
OPUS_RATE_HZ = 48_000
DEPLOYMENTS = """
deployments:
  - {name: lyria, model: lyria-002, project: p}
  - {name: clip, model: lyria-3-clip-preview, project: p}
  - {name: pro, model: lyria-3-pro-preview, project: p}
  - {name: own, model: musicgen, endpoint: projects/p/locations/l/endpoints/7, price_usd: "0.02"}
"""


@dataclass(frozen=True)
class Model:
    """What its documents say: dollars in millionths and seconds of a take, and how many come at once."""

    name: str
    take_micros: int
    take_s: float
    per_call: int
    per_seeded_call: int
    rate_hz: int
    channels: int
    native: str


MODELS = (
    Model("lyria-002", 60_000, 32.8, 4, 1, 48_000, 2, "wav"),
    Model("lyria-3-clip-preview", 40_000, 30, 1, 0, 44_100, 2, "mp3"),
    Model("lyria-3-pro-preview", 80_000, 184, 1, 0, 44_100, 2, "mp3"),
    Model("musicgen", 20_000, 300, 4, 4, 32_000, 1, "wav"),
)


@dataclass(frozen=True)
class Case:
    model: Model
    length_s: int
    audio_format: str
    clips: int
    seeded: bool

    @property
    def request(self) -> dict[str, Any]:
        body = {
            "prompt": "slow piano with soft strings",
            "model": self.model.name,
            "durationSeconds": self.length_s,
            "sampleCount": self.clips,
            "outputFormat": self.audio_format,
        }
        return body | ({"seed": SEED} if self.seeded else {})

    @property
    def refused(self) -> bool:
        return self.seeded and self.model.per_seeded_call == 0

    @property
    def takes(self) -> int:
        """For each clip: they overlap by half a second at least."""
        if self.length_s <= self.model.take_s:
            return 1
        return math.ceil((self.length_s - 0.5) / (self.model.take_s - 0.5))

    @property
    def calls(self) -> int:
        per_call = self.model.per_seeded_call if self.seeded else self.model.per_call
        return math.ceil(self.takes * self.clips / per_call)

    @property
    def price_micros(self) -> int:
        return self.takes * self.clips * self.model.take_micros

    def seeds(self, clip: int) -> list[int | None]:
        rounds = range(self.takes)
        return [(SEED + clip + each * self.clips) % 2**32 if self.seeded else None for each in rounds]

    def __str__(self) -> str:
        seeded = "seeded" if self.seeded else "unseeded"
        return f"{self.model.name}-{self.length_s}s-{self.audio_format}-{self.clips}-{seeded}"


ALL = tuple(Case(*each) for each in product(MODELS, LENGTHS_S, FORMATS, (1, 4), (False, True)))


@dataclass
class Bench:
    api: httpx.Client
    emulator: RunningEmulator

    def quote(self, request: dict[str, Any]) -> httpx.Response:
        return self.api.post("/api/music_generate?dry_run=true", json=request)

    def make(self, case: Case) -> None:
        """Have it made, and hold all that came against what is owed."""
        before = self.emulator.calls()["paid"]
        answer = self.api.post("/api/music_generate", json=case.request)
        assert answer.status_code == 200, answer.text
        task = answer.json()
        assert (task["status"], task["error"]) == ("succeeded", None)
        assert self.emulator.calls()["paid"] - before == case.calls
        assert task["price"]["charged_micros"] == case.price_micros
        assert [output["index"] for output in task["outputs"]] == list(range(case.clips))
        for output in task["outputs"]:
            self.check(case, output)
        assert self.api.delete(f"/api/tasks/{task['task_id']}").status_code in {200, 204}

    def check(self, case: Case, output: dict[str, Any]) -> None:
        content = self.api.get(output["url"]).content
        assert (output["bytes"], output["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        heard = decode(content, case.audio_format)
        rate_hz = OPUS_RATE_HZ if case.audio_format == "opus" else case.model.rate_hz
        assert (heard.rate_hz, heard.channels) == (rate_hz, case.model.channels)
        assert (output["sample_rate"], output["channels"]) == (rate_hz, case.model.channels)
        wanted = case.length_s * rate_hz
        exact = case.audio_format in {"wav", "flac"}
        assert wanted <= heard.frames <= wanted + (0 if exact else SPARE_S * rate_hz)
        assert output["seconds"] == case.length_s
        assert heard.loud
        assert output["plan"][0]["seeds"] == case.seeds(output["index"])
        assert output["seed"] == case.seeds(output["index"])[0]


@dataclass(frozen=True)
class Heard:
    frames: int
    rate_hz: int
    channels: int
    loud: bool


def decode(content: bytes, audio_format: str) -> Heard:
    """By code that the gateway does not use. Raises for what it cannot play."""
    if audio_format == "opus":
        return _opus(content)
    readers = {
        "wav": miniaudio.wav_read_s16,
        "flac": miniaudio.flac_read_s16,
        "mp3": miniaudio.mp3_read_s16,
        "ogg": miniaudio.vorbis_read,
    }
    sound = readers[audio_format](content)
    loud = max(sound.samples[::97]) > 300  # about -40 dBFS
    return Heard(sound.num_frames, sound.sample_rate, sound.nchannels, loud)


def _opus(content: bytes) -> Heard:
    """Its length as RFC 7845 tells it: the last page's position, less what is to be skipped at first."""
    at, granule, pages = 0, 0, 0
    while at < len(content):
        magic, _, _, position, _, _, _, segments = struct.unpack_from("<4sBBqIIIB", content, at)
        assert magic == b"OggS"
        granule = position if position >= 0 else granule
        at += 27 + segments + sum(content[at + 27 : at + 27 + segments])
        pages += 1
    head = content.index(b"OpusHead")
    channels, skipped = struct.unpack_from("<BH", content, head + 9)
    # What is silent is packed into a few bytes.
    loud = len(content) / pages > 200
    return Heard(granule - skipped, OPUS_RATE_HZ, channels, loud)


@contextmanager
def open_bench(directory: Path) -> Iterator[Bench]:
    """A gateway with all four models, each as long as it really is."""
    (directory / "deployments.yaml").write_text(DEPLOYMENTS)
    settings = {
        "GATEWAY_DEPLOYMENTS": str(directory / "deployments.yaml"),
        "GATEWAY_WAIT_S": "600",
        "GATEWAY_TASK_TIMEOUT_S": "1800",
        "GATEWAY_CALL_TIMEOUT_S": "600",
    }
    with start_emulator(lyria_seconds=32.768) as emulator:
        # Whoever names no seed gets that one: what was composed before is not composed again.
        emulator.settings(lyria3_clip_seconds=30, lyria3_pro_seconds=184, default_seed=7)
        with start_gateway(directory, emulator.url, **settings) as gateway:
            headers = {"X-Api-Key": gateway.create_key()}
            with httpx.Client(base_url=gateway.url, headers=headers, timeout=900, trust_env=False) as api:
                yield Bench(api, emulator)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(every: int = 1, start: int = 0) -> int:
    cases = [case for case in ALL if not case.refused][start::every]
    failed = 0
    with tempfile.TemporaryDirectory() as directory, open_bench(Path(directory)) as bench:
        for number, case in enumerate(cases, 1):
            try:
                bench.make(case)
            except AssertionError as error:
                failed += 1
                say(f"FAILED {case}: {error}")
            say(f"{number}/{len(cases)} {case}")
    say(f"{len(cases) - failed} of {len(cases)} are as they should be")
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(*map(int, sys.argv[1:]))))
