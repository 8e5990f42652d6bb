"""Audio put aside: read back as it came, never more than may be, and nothing is left of it."""

import asyncio
import errno
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import StorageError
from gateway.tasks import spool
from gateway.tasks.spool import BLOCK_BYTES, Spool, Spools

MIB = 1 << 20


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool"


@pytest.fixture
def spools(directory: Path) -> Spools:
    return Spools(directory, 8 * MIB)


@pytest.fixture
def small_files() -> Iterator[int]:
    """A disk that takes only so many bytes of a file, and then says that it is too large."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield 100_000
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def content(spool: Spool) -> bytes:
    read = b""
    while len(read) < spool.size_bytes:
        read += await spool.read(len(read))
    return read


def names_in(directory: Path) -> list[str] | None:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else None


def open_files(directory: Path) -> list[str]:
    """Files of the directory that this process has open, with a name or without."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # the one that lists them
    return [link for link in links if link.startswith(str(directory))]


async def test_what_is_put_aside_is_read_back_in_blocks(spools: Spools) -> None:
    blocks = [os.urandom(size) for size in (1, BLOCK_BYTES, 7, 3 * BLOCK_BYTES)]
    kept = spools.new()
    for block in blocks:
        await kept.append(block)
    assert kept.whole
    assert await content(kept) == b"".join(blocks)
    assert len(await kept.read(0)) == BLOCK_BYTES
    assert await content(kept) == b"".join(blocks)
    await kept.close()


async def test_nothing_is_made_before_there_is_audio(spools: Spools, directory: Path) -> None:
    await spools.new().close()
    assert names_in(directory) is None


async def test_the_file_has_no_name(spools: Spools, directory: Path) -> None:
    kept = spools.new()
    await kept.append(b"audio")
    assert names_in(directory) == []
    assert len(open_files(directory)) == 1
    await kept.close()


async def test_nothing_is_left_of_what_is_forgotten(spools: Spools, directory: Path) -> None:
    kept = spools.new()
    await kept.append(b"audio")
    assert spools.used_bytes == 5
    await kept.close()
    await kept.close()
    assert (spools.used_bytes, open_files(directory), kept.whole) == (0, [], False)


async def test_what_comes_after_the_end_is_not_kept(spools: Spools, directory: Path) -> None:
    kept = spools.new()
    await kept.close()
    await kept.append(b"audio")
    assert (spools.used_bytes, open_files(directory)) == (0, [])


async def test_all_together_hold_no_more_than_they_may(spools: Spools) -> None:
    first, second = spools.new(), spools.new()
    await first.append(bytes(5 * MIB))
    await second.append(bytes(2 * MIB))
    await second.append(bytes(2 * MIB))
    assert (first.whole, second.whole) == (True, False)
    assert spools.used_bytes == 5 * MIB
    await first.close()
    third = spools.new()
    await third.append(bytes(8 * MIB))
    assert third.whole
    await third.close()


async def test_a_full_disk_is_no_error(
    spools: Spools, directory: Path, small_files: int, caplog: pytest.LogCaptureFixture
) -> None:
    kept = spools.new()
    await kept.append(bytes(small_files - 10))
    assert kept.whole
    await kept.append(bytes(20))
    await kept.append(bytes(20))
    assert not kept.whole
    assert (spools.used_bytes, open_files(directory)) == (0, [])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "File too large" in caplog.text


async def test_a_directory_that_cannot_be_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    kept = Spools(tmp_path / "data" / "spool", MIB).new()
    await kept.append(b"audio")
    assert not kept.whole


async def test_trouble_is_told_once_until_it_is_over(
    spools: Spools, caplog: pytest.LogCaptureFixture
) -> None:
    async def put_aside(size_bytes: int) -> None:
        kept = spools.new()
        await kept.append(bytes(size_bytes))
        await kept.close()

    for _ in range(3):
        await put_aside(9 * MIB)
    assert len(caplog.records) == 1
    await put_aside(1)
    await put_aside(9 * MIB)
    assert len(caplog.records) == 2


async def test_where_nothing_is_to_be_kept_nothing_is_told(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Spools(directory, 0).new()
    await kept.append(b"audio")
    assert not kept.whole
    assert not caplog.records
    assert names_in(directory) is None


async def test_a_disk_that_takes_a_part_gets_the_rest(
    spools: Spools, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(spool.os, "pwrite", lambda file, view, at: pwrite(file, view[:3], at))
    kept = spools.new()
    await kept.append(b"0123456789")
    await kept.append(b"abc")
    assert await content(kept) == b"0123456789abc"
    await kept.close()


@pytest.mark.parametrize("outcome", ["error", "short"])
async def test_what_cannot_be_read_is_given_up(
    spools: Spools, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    def pread(*_: int) -> bytes:
        if outcome == "error":
            raise OSError(errno.EIO, "Input/output error")
        return b""

    monkeypatch.setattr(spool.os, "pread", pread)
    kept = spools.new()
    await kept.append(b"audio")
    with pytest.raises(StorageError):
        await kept.read(0)
    assert (kept.whole, spools.used_bytes) == (False, 0)


async def test_a_caller_that_goes_in_the_middle_leaves_nothing(
    spools: Spools, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread still writes when the clean-up begins, and must not write into somebody else's file."""
    writing, go_on = threading.Event(), threading.Event()
    pwrite = os.pwrite

    def slow(file: int, view: memoryview, at: int) -> int:
        writing.set()
        assert go_on.wait(10)
        return pwrite(file, view, at)

    monkeypatch.setattr(spool.os, "pwrite", slow)
    kept = spools.new()
    appending = asyncio.create_task(kept.append(b"audio"))
    await asyncio.to_thread(writing.wait)
    appending.cancel()
    closing = asyncio.create_task(kept.close())
    await asyncio.wait([appending, closing], timeout=0.05)
    assert not closing.done()
    go_on.set()
    await closing
    assert appending.cancelled()
    assert (spools.used_bytes, open_files(directory)) == (0, [])


async def test_a_thread_that_comes_late_writes_nothing(spools: Spools, directory: Path) -> None:
    kept = spools.new()
    await kept.append(b"audio")
    await kept.close()
    kept._file.write(5, b"audio")
    assert open_files(directory) == []
