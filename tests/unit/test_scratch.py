"""Files for audio on its way: read back as written, never more than may be, and nothing is left of them."""

import asyncio
import errno
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import StorageError
from gateway.tasks import scratch as module
from gateway.tasks.scratch import BLOCK_BYTES, LEAST_FREE_BYTES, Scratch, ScratchFile

MIB = 1 << 20


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool"


@pytest.fixture
def scratch(directory: Path) -> Scratch:
    return Scratch(directory, 8 * MIB)


@pytest.fixture
def small_files() -> Iterator[int]:
    """A disk that takes only so many bytes of a file, and then says that it is too large."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield 100_000
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def content(file: ScratchFile) -> bytes:
    read = b""
    while len(read) < file.size_bytes:
        read += await file.read(len(read))
    return read


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()] if directory.exists() else []


def open_files(directory: Path) -> list[str]:
    """Files of the directory that this process has open, with a name or without."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # the one that lists them
    return [link for link in links if link.startswith(str(directory))]


async def test_what_is_written_is_read_back_in_blocks(scratch: Scratch) -> None:
    blocks = [os.urandom(size) for size in (1, BLOCK_BYTES, 7, 3 * BLOCK_BYTES)]
    file = scratch.new()
    for block in blocks:
        await file.append(block)
    assert file.size_bytes == sum(map(len, blocks))
    assert await content(file) == b"".join(blocks)
    assert len(await file.read(0)) == BLOCK_BYTES
    await file.close()


async def test_nothing_is_made_before_there_is_audio(scratch: Scratch, directory: Path) -> None:
    file = scratch.new()
    assert await file.read(0) == b""
    await file.measure()
    assert file.size_bytes == 0
    await file.close()
    assert names_in(directory) == []


async def test_the_file_has_no_name(scratch: Scratch, directory: Path) -> None:
    file = scratch.new()
    await file.append(b"audio")
    assert names_in(directory) == []
    assert len(open_files(directory)) == 1
    await file.close()


async def test_nothing_is_left_of_what_is_forgotten(scratch: Scratch, directory: Path) -> None:
    file = scratch.new()
    await file.append(b"audio")
    assert scratch.used_bytes == 5
    await file.close()
    await file.close()
    assert (scratch.used_bytes, open_files(directory)) == (0, [])


async def test_who_works_on_a_file_has_it_also_after_it_was_forgotten(
    scratch: Scratch, directory: Path
) -> None:
    file = scratch.new()
    await file.append(b"audio")
    descriptor = await file.duplicate()
    await file.close()
    assert os.pread(descriptor, 10, 0) == b"audio"
    os.close(descriptor)
    assert open_files(directory) == []
    with pytest.raises(StorageError):
        await file.duplicate()


async def test_what_somebody_else_wrote_is_measured(scratch: Scratch) -> None:
    file = scratch.new()
    descriptor = await file.duplicate()
    os.pwrite(descriptor, b"sound", 0)
    os.close(descriptor)
    await file.measure()
    assert await content(file) == b"sound"
    await file.close()


async def test_all_together_hold_no_more_than_they_may(scratch: Scratch) -> None:
    first, second = scratch.new(), scratch.new()
    await first.append(bytes(5 * MIB))
    await second.append(bytes(2 * MIB))
    with pytest.raises(StorageError, match="As much audio"):
        await second.append(bytes(2 * MIB))
    assert scratch.used_bytes == 7 * MIB
    await first.close()
    await second.append(bytes(2 * MIB))
    await second.close()
    assert scratch.used_bytes == 0


async def test_there_is_no_room_for_a_call_whose_audio_may_not_fit(directory: Path) -> None:
    scratch = Scratch(directory, LEAST_FREE_BYTES + 10)
    assert scratch.trouble() is None
    file = scratch.new()
    await file.append(bytes(11))
    trouble = scratch.trouble()
    assert trouble is not None
    assert "As much audio" in trouble.detail
    await file.close()
    assert scratch.trouble() is None


def test_there_is_no_room_on_a_disk_that_is_nearly_full(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disk:
        f_frsize = 4096
        f_bavail = LEAST_FREE_BYTES // 4096 - 1

    monkeypatch.setattr(module.os, "statvfs", lambda _: Disk)
    trouble = scratch.trouble()
    assert trouble is not None
    assert "nearly full" in trouble.detail


async def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    scratch = Scratch(tmp_path / "data" / "spool", 2 * LEAST_FREE_BYTES)
    trouble = scratch.trouble()
    assert trouble is not None
    assert "cannot be used" in trouble.detail
    file = scratch.new()
    with pytest.raises(StorageError, match="cannot be used"):
        await file.append(b"audio")
    await file.close()
    assert scratch.used_bytes == 0


async def test_a_full_disk_is_told(scratch: Scratch, directory: Path, small_files: int) -> None:
    file = scratch.new()
    await file.append(bytes(small_files - 10))
    with pytest.raises(StorageError):
        await file.append(bytes(20))
    await file.close()
    assert (scratch.used_bytes, open_files(directory)) == (0, [])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
async def test_a_disk_without_space_is_called_full(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def pwrite(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(module.os, "pwrite", pwrite)
    file = scratch.new()
    with pytest.raises(StorageError, match="full"):
        await file.append(b"audio")
    await file.close()


async def test_a_disk_that_takes_a_part_gets_the_rest(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(module.os, "pwrite", lambda file, view, at: pwrite(file, view[:3], at))
    file = scratch.new()
    await file.append(b"0123456789")
    await file.append(b"abc")
    assert await content(file) == b"0123456789abc"
    await file.close()


async def test_what_cannot_be_read_is_told(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    def pread(*_: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    file = scratch.new()
    await file.append(b"audio")
    monkeypatch.setattr(module.os, "pread", pread)
    with pytest.raises(StorageError, match="cannot be used"):
        await file.read(0)
    await file.close()


async def test_a_caller_that_goes_in_the_middle_leaves_nothing(
    scratch: Scratch, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread still writes when the clean-up begins, and must not write into somebody else's file."""
    writing, go_on = threading.Event(), threading.Event()
    pwrite = os.pwrite

    def slow(file: int, view: memoryview, at: int) -> int:
        writing.set()
        assert go_on.wait(10)
        return pwrite(file, view, at)

    monkeypatch.setattr(module.os, "pwrite", slow)
    file = scratch.new()
    appending = asyncio.create_task(file.append(b"audio"))
    await asyncio.to_thread(writing.wait)
    appending.cancel()
    closing = asyncio.create_task(file.close())
    await asyncio.wait([appending, closing], timeout=0.05)
    assert not closing.done()
    go_on.set()
    await closing
    assert appending.cancelled()
    assert (scratch.used_bytes, open_files(directory)) == (0, [])


async def test_a_thread_that_comes_late_writes_nothing(scratch: Scratch, directory: Path) -> None:
    file = scratch.new()
    await file.append(b"audio")
    await file.close()
    file._file.write(5, b"audio")
    assert open_files(directory) == []
