"""Reading from Cloud Storage: on from where the connection broke, and not for ever."""

import random
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from gateway.errors import AttemptFault, StorageError, UpstreamError
from gateway.storage.api import GoogleApi
from gateway.storage.download import ForeignObjects
from gateway.upstream.objects import ObjectReader
from tests.clock import SetClock
from tests.gcs import BUCKET, Fault, Gcs, start_gcs
from tests.stores import FixedToken

NAME = "out/ü +#?0.wav"
URI = f"gs://{BUCKET}/{NAME}"
DATA = random.Random(4).randbytes(1_500_000)


@pytest.fixture(scope="module")
def _gcs() -> Iterator[Gcs]:
    with start_gcs() as started:
        yield started


@pytest.fixture
def gcs(_gcs: Gcs) -> Gcs:
    _gcs.reset()
    _gcs.put(NAME, DATA)
    return _gcs


@pytest.fixture
async def objects(gcs: Gcs) -> AsyncIterator[ForeignObjects]:
    async with httpx.AsyncClient() as http:
        yield ForeignObjects(GoogleApi(http, FixedToken(), SetClock(), random.Random(1)), gcs.url)


async def content(objects: ForeignObjects, uri: str = URI) -> bytes:
    return b"".join([block async for block in objects.read(uri)])


async def test_an_object_is_read_whatever_it_is_called(objects: ForeignObjects) -> None:
    assert await content(objects) == DATA


async def test_a_broken_connection_is_resumed_where_it_was(objects: ForeignObjects, gcs: Gcs) -> None:
    gcs.script("get", 1, Fault.BREAK)
    gcs.script("get", 2, Fault.BREAK)
    assert await content(objects) == DATA
    ranges = [call.headers.get("range") for operation, call in gcs.calls if operation == "get"]
    assert ranges[0] is None
    assert all(each is not None and each.startswith("bytes=") for each in ranges[1:])
    assert len(ranges) == 3


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.BUSY, Fault.CUT])
async def test_a_fault_that_passes_is_waited_for(objects: ForeignObjects, gcs: Gcs, fault: Fault) -> None:
    gcs.script("get", 1, fault)
    assert await content(objects) == DATA


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.CUT])
async def test_a_fault_that_stays_is_told(objects: ForeignObjects, gcs: Gcs, fault: Fault) -> None:
    for nth in range(1, 20):
        gcs.script("get", nth, fault)
    with pytest.raises(StorageError):
        await content(objects)


@pytest.mark.parametrize("uri", [f"gs://{BUCKET}/nothing.wav", "gs://elsewhere/out/0.wav"])
async def test_what_is_not_there_is_told_at_once(objects: ForeignObjects, gcs: Gcs, uri: str) -> None:
    with pytest.raises(StorageError):
        await content(objects, uri)
    assert gcs.count("get") == 1


async def test_what_was_read_is_deleted_and_deleting_again_is_no_error(
    objects: ForeignObjects, gcs: Gcs
) -> None:
    reader = ObjectReader(objects)
    await reader.delete(URI)
    assert gcs.names() == []
    await reader.delete(URI)


async def test_what_cannot_be_deleted_is_left_to_the_bucket(
    objects: ForeignObjects, gcs: Gcs, caplog: pytest.LogCaptureFixture
) -> None:
    gcs.script("delete", 1, Fault.DENIED)
    await ObjectReader(objects).delete(URI)
    assert gcs.names() == [NAME]
    assert "is left behind" in caplog.text


@pytest.mark.parametrize(
    ("within", "uri"),
    [
        (None, URI),
        (f"gs://{BUCKET}/in", URI),
        (f"gs://{BUCKET}/ou", URI),
        ("gs://other/out", URI),
        (f"gs://{BUCKET}/out", "https://example.com/0.wav"),
        (f"gs://{BUCKET}/out", f"gs://{BUCKET}/out"),
    ],
)
async def test_an_answer_does_not_choose_what_is_read(
    objects: ForeignObjects, gcs: Gcs, within: str | None, uri: str
) -> None:
    with pytest.raises(UpstreamError) as told:
        async for _ in ObjectReader(objects).read(uri, within=within):
            pass
    assert told.value.fault is AttemptFault.MISCONFIGURED
    assert gcs.count("get") == 0


async def test_an_object_that_is_larger_than_any_music_is_refused_as_it_comes(
    objects: ForeignObjects,
) -> None:
    blocks = ObjectReader(objects, limit_bytes=600_000).read(URI, within=f"gs://{BUCKET}/out")
    with pytest.raises(UpstreamError) as told:
        await anext(block async for block in blocks if not block)
    assert told.value.fault is AttemptFault.BROKEN


async def test_what_cannot_be_read_counts_as_lost(objects: ForeignObjects) -> None:
    with pytest.raises(UpstreamError) as told:
        async for _ in ObjectReader(objects).read(f"{URI}x", within=f"gs://{BUCKET}/out/"):
            pass
    assert told.value.fault is AttemptFault.UNKNOWN


async def test_without_a_source_nothing_is_read_or_deleted() -> None:
    reader = ObjectReader(None)
    with pytest.raises(UpstreamError):
        async for _ in reader.read(URI, within=f"gs://{BUCKET}/out"):
            pass
    await reader.delete(URI)
