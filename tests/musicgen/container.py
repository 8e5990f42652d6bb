"""The server as Vertex AI runs it: a process of its own, in the environment that has torch.

with start_container(log, MUSICGEN_MODEL=...) as container:
    container.predict("calm piano", duration_seconds=2)
"""

import asyncio
import base64
import io
import os
import signal
import subprocess
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.running import free_port

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-musicgen" / "bin" / "python"
START_TIMEOUT_S = 300
CALL_TIMEOUT_S = 300


@dataclass
class Container:
    """`seen` is what health answered until it was well, without repetitions."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    health_route: str
    predict_route: str
    seen: list[int] = field(default_factory=list)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.said()
            if (status := self.health()) and status != (self.seen or [0])[-1]:
                self.seen.append(status)
            if status == 200:
                return
            time.sleep(0.02)
        raise AssertionError(self.said())

    def health(self) -> int | None:
        """None when nobody listens."""
        try:
            return httpx.get(self.url + self.health_route, timeout=10).status_code
        except httpx.TransportError:
            return None

    def post(self, content: bytes) -> httpx.Response:
        return httpx.post(self.url + self.predict_route, content=content, timeout=CALL_TIMEOUT_S)

    def send(self, document: Any) -> httpx.Response:
        return httpx.post(self.url + self.predict_route, json=document, timeout=CALL_TIMEOUT_S)

    def predict(
        self, prompt: str, negative_prompt: str | None = None, **parameters: Any
    ) -> list[dict[str, Any]]:
        answer = self.send(body(prompt, negative_prompt, **parameters))
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    def predicting(self, prompt: str, **parameters: Any) -> "asyncio.Task[httpx.Response]":
        """On its way; canceling it hangs up."""
        return asyncio.create_task(self._predicting(body(prompt, **parameters)))

    async def _predicting(self, document: Any) -> httpx.Response:
        async with httpx.AsyncClient(timeout=CALL_TIMEOUT_S) as client:
            return await client.post(self.url + self.predict_route, json=document)

    async def until_said(self, text: str, times: int = 1) -> None:
        """Wait until it stands in the log so many times."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            while self.said().count(text) < times:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)

    def said(self) -> str:
        return self.log.read_text()


def body(prompt: str, negative_prompt: str | None = None, **parameters: Any) -> dict[str, Any]:
    instance = {"prompt": prompt} | ({} if negative_prompt is None else {"negative_prompt": negative_prompt})
    return {"instances": [instance], "parameters": parameters}


@contextmanager
def start_container(log: Path, **variables: str) -> Iterator[Container]:
    """Not ready yet. It is killed at the end unless it has ended."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "musicgen_server"],
            env=environment(AIP_HTTP_PORT=str(port), **variables),
            stdout=output,
            stderr=output,
        )
    try:
        yield Container(
            process,
            f"http://127.0.0.1:{port}",
            log,
            variables.get("AIP_HEALTH_ROUTE", "/health"),
            variables.get("AIP_PREDICT_ROUTE", "/predict"),
        )
    finally:
        process.kill()
        process.wait()


def environment(**variables: str) -> dict[str, str]:
    """Of the server. One thread computes: on a busy machine torch's threads would wait by turning."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # noqa: TID251
    return {
        **inherited,
        "PYTHONPATH": str(ROOT / "deploy" / "musicgen"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        **variables,
    }


def stop(container: Container) -> int:
    """As Vertex AI does it. Returns the exit code."""
    container.process.send_signal(signal.SIGTERM)
    return container.process.wait(CALL_TIMEOUT_S)


def read_wav(audio: bytes) -> tuple[int, int, int, int]:
    """Frames, rate, channels, bytes a sample."""
    with wave.open(io.BytesIO(audio)) as file:
        assert len(file.readframes(file.getnframes())) == file.getnframes() * file.getnchannels() * 2
        return file.getnframes(), file.getframerate(), file.getnchannels(), file.getsampwidth()


def audio_of(prediction: dict[str, Any]) -> bytes:
    audio = base64.b64decode(prediction["bytesBase64Encoded"], validate=True)
    assert len(audio) == prediction["sizeBytes"]
    return audio
