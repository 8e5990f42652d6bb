"""What any storage promises, held against a directory and against Cloud Storage."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.errors import StorageError
from tests.gcs import Gcs, start_gcs
from tests.stores import LIFE_S, Store, open_gcs_store, open_local_store

NAME = "tenant-1/task 2/ü+0.wav"
KIB = 1024


@pytest.fixture(scope="module")
def gcs() -> Iterator[Gcs]:
    with start_gcs() as started:
        yield started


@pytest.fixture(params=["local", "gcs"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "gcs":
        opened = open_gcs_store(request.getfixturevalue("gcs"))
    else:
        opened = open_local_store(tmp_path / "audio")
    async with opened as each:
        yield each


def odd_blocks(data: bytes, *, seed: int = 1) -> list[bytes]:
    rng, blocks, start = random.Random(seed), [], 0
    while start < len(data):
        size = rng.choice([1, 7, 4095, 65_536, 300_001])
        blocks.append(data[start : start + size])
        start += size
    return blocks


@pytest.mark.parametrize(
    "size", [0, 1, 256 * KIB, 1024 * KIB - 1, 1024 * KIB, 1024 * KIB + 1, 2048 * KIB, 3_333_333]
)
async def test_what_was_written_in_odd_blocks_is_what_http_gives_back(store: Store, size: int):
    data = random.Random(size).randbytes(size)
    await store.put(NAME, *odd_blocks(data))
    answer = await store.get(NAME)
    assert (answer.status_code, answer.content) == (200, data)


async def test_one_block_of_many_chunks_is_taken_whole(store: Store):
    data = random.Random(3).randbytes(5_000_001)
    await store.put(NAME, data)
    assert (await store.get(NAME)).content == data


async def test_nothing_is_visible_before_commit(store: Store):
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(bytes(3_000_000))
    assert store.names() == []
    assert (await store.get(NAME)).status_code == 404
    await writer.commit()
    assert (await store.get(NAME)).status_code == 200


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
async def test_an_aborted_object_leaves_nothing_and_its_name_free(store: Store, size: int):
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(bytes(size))
    await writer.abort()
    await writer.abort()
    assert store.names() == []
    await store.put(NAME, b"second")
    assert (await store.get(NAME)).content == b"second"


@pytest.mark.parametrize("size", [6, 3_000_000])
async def test_an_object_is_never_replaced(store: Store, size: int):
    await store.put(NAME, b"first!")
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(b"x" * size)
    with pytest.raises(StorageError, match="exists already"):
        await writer.commit()
    await writer.abort()
    assert (await store.get(NAME)).content == b"first!"


@pytest.mark.parametrize("size", [6, 3_000_000])
async def test_of_two_writers_of_one_name_exactly_one_wins(store: Store, size: int):
    writers = [
        await store.storage.create(NAME, content_type="audio/wav", metadata={"who": str(n)}) for n in (0, 1)
    ]
    for n, writer in enumerate(writers):
        await writer.write(bytes([n]) * size)
    outcomes = await asyncio.gather(*(writer.commit() for writer in writers), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(None), StorageError}
    for writer in writers:
        await writer.abort()
    winner = outcomes.index(None)
    _, metadata = await store.about(NAME)
    assert (await store.get(NAME)).content == bytes([winner]) * size
    assert metadata["who"] == str(winner)


async def test_abort_after_commit_changes_nothing(store: Store):
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(b"kept")
    await writer.commit()
    await writer.abort()
    assert (await store.get(NAME)).content == b"kept"


@pytest.mark.parametrize("size", [5, 3_000_000])
async def test_content_type_and_metadata_are_kept(store: Store, size: int):
    await store.put(NAME, bytes(size), content_type="audio/flac", task="t-1", clip="0")
    content_type, metadata = await store.about(NAME)
    assert content_type == "audio/flac"
    assert metadata.items() >= {"task": "t-1", "clip": "0"}.items()
    assert (await store.get(NAME)).headers["content-type"] == "audio/flac"


async def test_deleting_removes_and_deleting_again_is_no_error(store: Store):
    await store.put(NAME, b"x")
    url = (await store.storage.signed_url(NAME)).url
    await store.storage.delete(NAME)
    await store.storage.delete(NAME)
    assert store.names() == []
    assert (await store.http.get(url)).status_code == 404


async def test_a_link_stays_the_same_until_half_of_its_life_is_gone(store: Store):
    first = await store.storage.signed_url(NAME)
    store.clock.advance(LIFE_S / 2 - 2)
    assert await store.storage.signed_url(NAME) == first
    store.clock.advance(3)
    second = await store.storage.signed_url(NAME)
    assert second.url != first.url
    assert second.expires_at_ms > first.expires_at_ms


async def test_a_link_works_until_it_expires_and_not_after(store: Store):
    await store.put(NAME, b"x")
    link = await store.storage.signed_url(NAME)
    left_s = (link.expires_at_ms - store.clock.now_ms()) / 1000
    store.clock.advance(left_s - 1)
    assert (await store.http.get(link.url)).status_code == 200
    store.clock.advance(1)
    assert (await store.http.get(link.url)).status_code in {400, 403}


@pytest.mark.parametrize("change", ["name", "expiry", "signature", "no signature"])
async def test_an_altered_link_is_refused(store: Store, change: str):
    await store.put(NAME, b"x")
    await store.put(NAME + "2", b"y")
    url = (await store.storage.signed_url(NAME)).url
    key, _, signature = url.rpartition("ignature=")
    flipped = ("0" if signature[0] != "0" else "1") + signature[1:]
    changed = {
        "name": url.replace("0.wav?", "0.wav2?"),
        "expiry": url.replace("xpires=", "xpires=9"),
        "signature": f"{key}ignature={flipped}",
        "no signature": f"{key}ignature=",
    }[change]
    assert changed != url
    assert (await store.http.get(changed)).status_code == 403


async def test_a_range_gives_that_part(store: Store):
    await store.put(NAME, bytes(range(100)))
    middle = await store.get(NAME, Range="bytes=10-19")
    assert (middle.status_code, middle.content) == (206, bytes(range(10, 20)))
    assert middle.headers["content-range"] == "bytes 10-19/100"
    assert (await store.get(NAME, Range="bytes=-5")).content == bytes(range(95, 100))
    assert (await store.get(NAME, Range="bytes=100-")).status_code == 416


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", ".incoming/x", "a.object/b"),
        *("a\\b", "a\nb", "a\0b", "\ud800", "x" * 201, "/".join(["abcd"] * 300)),
    ],
)
async def test_a_name_that_could_leave_its_place_is_refused(store: Store, name: str):
    with pytest.raises(StorageError, match="name is not allowed"):
        await store.storage.create(name, content_type="audio/wav", metadata={})
    with pytest.raises(StorageError, match="name is not allowed"):
        await store.storage.signed_url(name)
    with pytest.raises(StorageError, match="name is not allowed"):
        await store.storage.delete(name)


async def listed(store: Store, limit: int) -> list[list[str]]:
    """The names on each page; a storage may have fewer on it than asked for, but not more."""
    pages, cursor = [], ""
    while True:
        page = await store.storage.list(cursor, limit=limit)
        assert len(page.objects) <= limit
        pages.append([each.name for each in page.objects])
        if page.next_cursor is None:
            return pages
        cursor = page.next_cursor


NAMES = [
    f"{tenant}/{task}/{clip}.wav" for tenant in ("t", "t-1", "tü") for task in ("a", "a+b") for clip in "01"
]


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 13, 500])
async def test_a_list_has_everything_once_whatever_the_size_of_its_pages(store: Store, limit: int):
    for name in NAMES:
        await store.put(name, b"x")
    pages = await listed(store, limit)
    assert sorted(name for page in pages for name in page) == sorted(NAMES)


async def test_a_list_of_nothing_is_one_empty_page(store: Store):
    assert await listed(store, 10) == [[]]


async def test_what_is_not_visible_yet_or_any_more_is_not_listed(store: Store):
    await store.put(NAME, b"x")
    writer = await store.storage.create(f"{NAME}2", content_type="audio/wav", metadata={})
    await writer.write(bytes(3_000_000))
    assert await listed(store, 10) == [[NAME]]
    await writer.abort()
    await store.storage.delete(NAME)
    assert await listed(store, 10) == [[]]


async def test_a_list_goes_on_where_it_was_when_things_come_and_go(store: Store):
    for name in NAMES:
        await store.put(name, b"x")
    first = await store.storage.list("", limit=4)
    seen = [each.name for each in first.objects]
    for name in seen:
        await store.storage.delete(name)
    await store.put("a/new/0.wav", b"x")
    page = await store.storage.list(first.next_cursor, limit=500)
    assert sorted([*seen, *(each.name for each in page.objects)]) == sorted(NAMES)


async def test_a_list_says_when_each_object_was_made(store: Store):
    before_ms = time.time_ns() // 1_000_000
    await store.put(NAME, bytes(2_000_000))
    (found,) = (await store.storage.list("", limit=1)).objects
    assert before_ms - 1000 <= found.made_at_ms <= time.time_ns() // 1_000_000 + 1000


async def test_tidying_leaves_what_is_finished_and_what_is_being_written(store: Store):
    await store.put(NAME, b"x")
    writer = await store.storage.create(f"{NAME}2", content_type="audio/wav", metadata={})
    await writer.write(bytes(3_000_000))
    store.clock.advance(-store.clock.now_ms() / 1000 + time.time())
    await store.storage.tidy()
    await writer.commit()
    assert len((await listed(store, 10))[0]) == 2


async def test_check_passes_when_all_is_well(store: Store):
    await store.storage.check()


async def test_many_callers_of_one_link_get_the_same(store: Store):
    links = await asyncio.gather(*(store.storage.signed_url(NAME) for _ in range(20)))
    assert len(set(links)) == 1


@pytest.mark.parametrize("size", [1, 256 * KIB, 3_333_333])
async def test_what_was_stored_is_read_back_in_blocks(store: Store, size: int):
    data = random.Random(size).randbytes(size)
    await store.put(NAME, data)
    blocks = [block async for block in store.storage.read(NAME)]
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) <= 256 * KIB


async def test_reading_what_is_not_there_is_told(store: Store):
    with pytest.raises(StorageError):
        async for _ in store.storage.read(NAME):
            pass
