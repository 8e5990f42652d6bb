"""MusicGen's answers that are too long for an endpoint: they are read from Cloud Storage."""

import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import httpx
import pytest

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.families.musicgen import MusicGen
from gateway.model import Deployment, MusicSpec
from gateway.ports import ModelReply
from gateway.storage.api import GoogleApi
from gateway.storage.download import ForeignObjects
from gateway.upstream.client import VertexClient
from gateway.upstream.model import VertexModel
from gateway.upstream.objects import ObjectReader
from tests.clock import SetClock
from tests.emulator import RunningEmulator, start_emulator
from tests.gcs import BUCKET, Fault, Gcs, start_gcs
from tests.soundness import decoded
from tests.stores import FixedToken
from tests.vertexstub import MUSICGEN, Sinks, a_client

WITHIN = replace(MUSICGEN, output_uri=f"gs://{BUCKET}/made")
LONG = MusicSpec("a calm piano", duration_s=30, sample_count=2, seed=7)


@pytest.fixture(scope="module")
def _gcs() -> Iterator[Gcs]:
    with start_gcs() as started:
        yield started


@pytest.fixture
def gcs(_gcs: Gcs) -> Gcs:
    _gcs.reset()
    return _gcs


@pytest.fixture(scope="module")
def _endpoint(_gcs: Gcs) -> Iterator[RunningEmulator]:
    with start_emulator("--storage-url", f"http://127.0.0.1:{_gcs.backend_port}") as started:
        yield started


@pytest.fixture
def endpoint(_endpoint: RunningEmulator) -> RunningEmulator:
    _endpoint.reset()
    _endpoint.settings(endpoint_kind="shared")
    return _endpoint


@pytest.fixture
async def client(endpoint: RunningEmulator) -> AsyncIterator[VertexClient]:
    async with a_client(endpoint.url) as client:
        yield client


@pytest.fixture
async def objects(gcs: Gcs) -> AsyncIterator[ObjectReader]:
    async with httpx.AsyncClient() as http:
        api = GoogleApi(http, FixedToken(), SetClock(), random.Random(1))
        yield ObjectReader(ForeignObjects(api, gcs.url))


async def generate(
    client: VertexClient, objects: ObjectReader, sinks: Sinks, deployment: Deployment = WITHIN
) -> ModelReply:
    family = MusicGen()
    (call,) = family.calls(LONG, range(2))
    return await VertexModel(client, family, objects).generate(deployment, call, sinks, deadline_s=60)


async def test_what_is_too_long_for_the_answer_is_read_from_storage(
    endpoint: RunningEmulator, client: VertexClient, objects: ObjectReader, gcs: Gcs
) -> None:
    sinks = Sinks()
    reply = await generate(client, objects, sinks)
    assert (reply.delivered, reply.error) == (2, None)
    for sound in sinks.finished.values():
        samples, rate_hz = decoded(sound)
        assert len(samples) == 30 * rate_hz
    assert endpoint.calls()["paid"] == 1
    # Read whole, they are let go of.
    assert gcs.names() == []


async def test_an_answer_that_fits_is_read_from_the_answer(
    endpoint: RunningEmulator, client: VertexClient, objects: ObjectReader, gcs: Gcs
) -> None:
    endpoint.settings(endpoint_kind="none")
    reply = await generate(client, objects, Sinks())
    assert reply.delivered == 2
    assert gcs.calls == []


async def test_without_a_place_for_it_the_operator_is_told(
    client: VertexClient, objects: ObjectReader
) -> None:
    with pytest.raises(UpstreamError) as told:
        await generate(client, objects, Sinks(), MUSICGEN)
    assert "too large" in (told.value.internal or "").lower()


async def test_a_place_that_is_not_ours_is_not_read(
    client: VertexClient, objects: ObjectReader, gcs: Gcs
) -> None:
    """The deployment's address was changed while the container still has the old one."""

    family = MusicGen()
    (call,) = family.calls(LONG, range(2))
    asked = family.body(call, WITHIN)
    moved = replace(WITHIN, output_uri=f"gs://{BUCKET}/other")
    model = VertexModel(client, _Saying(asked), objects)
    with pytest.raises(UpstreamError) as told:
        await model.generate(moved, call, Sinks(), deadline_s=60)
    assert told.value.fault is AttemptFault.MISCONFIGURED
    assert gcs.count("get") == 0


class _Saying(MusicGen):
    """Says what it is told to, wherever it goes."""

    __slots__ = ("_said",)

    def __init__(self, said: dict[str, object]) -> None:
        super().__init__()
        object.__setattr__(self, "_said", said)

    def body(self, call: object, deployment: Deployment) -> dict[str, object]:  # type: ignore[override]
        return self._said


async def test_an_object_that_cannot_be_read_is_lost_and_its_sibling_kept(
    client: VertexClient, objects: ObjectReader, gcs: Gcs
) -> None:
    for nth in range(2, 20):
        gcs.script("get", nth, Fault.UNAVAILABLE)
    sinks = Sinks()
    reply = await generate(client, objects, sinks)
    assert reply.delivered == 1
    assert reply.error is not None
    assert (reply.error.code, reply.error.fault) == (ErrorCode.MODEL_UNAVAILABLE, AttemptFault.UNKNOWN)


async def test_a_broken_download_is_resumed(client: VertexClient, objects: ObjectReader, gcs: Gcs) -> None:
    gcs.script("get", 1, Fault.BREAK)
    reply = await generate(client, objects, Sinks())
    assert (reply.delivered, reply.error) == (2, None)
