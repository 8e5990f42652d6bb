"""Interrupted uploads against somebody else's reading of the protocol: gcp-storage-emulator.

The front of `tests.gcs` keeps resumable uploads by our own understanding; this emulator shares none of it. It
ignores preconditions, cannot cancel, and says ``bytes=0-0`` where it has kept nothing (Google sends no Range
then), so only resuming after the first kept chunk is tested here.
"""

import http.client
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from gateway.storage.api import GoogleApi
from gateway.storage.gcs import GcsStorage
from gateway.storage.signers import EmulatorSigner
from tests.clock import SetClock
from tests.httpstub import Answer, Call, start_stub
from tests.stores import FixedToken

BUCKET = "resume-bucket"
NAME = "t 1/ü+0.wav"
DATA = random.Random(9).randbytes(1_700_000)


@pytest.fixture(scope="module")
def emulator_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1"]
    command += ["--port", str(port), "-M", "-q", "--default-bucket", BUCKET]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(1000):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, "gcp-storage-emulator ended at once"
                time.sleep(0.02)
            yield port
        finally:
            process.kill()


class FaultyWay:
    """Passes calls on to the emulator, except that it loses chunks or their answers where told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.chunks = 0
        self.lose_chunk: set[int] = set()
        self.lose_answer: set[int] = set()

    def __call__(self, call: Call) -> Answer:
        nth = 0
        if call.method == "PUT" and call.body:
            self.chunks += 1
            nth = self.chunks
        if nth in self.lose_chunk:
            return Answer(0, cut=True)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            kept = {k: v for k, v in call.headers.items() if k not in {"host", "connection"}}
            connection.request(call.method, call.target, call.body, kept)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        passed = {
            k: v for k, v in response.getheaders() if k.lower() in {"location", "range", "content-type"}
        }
        return Answer(0, cut=True) if nth in self.lose_answer else Answer(response.status, body, passed)


@pytest.fixture
def way(emulator_port: int) -> FaultyWay:
    return FaultyWay(emulator_port)


@pytest.fixture
async def storage(way: FaultyWay) -> AsyncIterator[GcsStorage]:
    clock = SetClock()
    with start_stub(way) as url:
        async with httpx.AsyncClient(verify=False) as http:
            api = GoogleApi(http, FixedToken(None), clock, random.Random(1))
            yield GcsStorage(api, BUCKET, "", EmulatorSigner(), clock, base_url=url)


async def stored(way: FaultyWay, name: str) -> bytes:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{way.port}", verify=False) as http:
        listed = json.loads((await http.get(f"/storage/v1/b/{BUCKET}/o")).content)["items"]
        assert name in [item["name"] for item in listed]
        return (await http.get(f"/storage/v1/b/{BUCKET}/o/{name}", params={"alt": "media"})).content


@pytest.mark.parametrize(
    ("lost", "nth"),
    [("answer", 1), ("answer", 2), ("answer", 4), ("chunk", 2), ("chunk", 3), ("chunk", 4)],
)
async def test_an_interrupted_upload_ends_with_the_right_bytes(
    way: FaultyWay, storage: GcsStorage, lost: str, nth: int
):
    (way.lose_chunk if lost == "chunk" else way.lose_answer).add(nth)
    name = f"{lost}-{nth}.wav"
    writer = await storage.create(name, content_type="audio/wav", metadata={"task": "t-1"})
    await writer.write(DATA)
    await writer.commit()
    assert way.chunks == 4 + (lost == "chunk")
    assert await stored(way, name) == DATA


async def test_a_name_with_everything_in_it_arrives_as_it_is(way: FaultyWay, storage: GcsStorage):
    writer = await storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(DATA)
    await writer.commit()
    assert await stored(way, NAME) == DATA
