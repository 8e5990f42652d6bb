"""The audio directory when processes die, disks fill up and links are played with."""

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.errors import ErrorCode, GatewayError, NotFound, StorageError
from gateway.storage import disk, walk
from gateway.storage.local import LocalStorage
from tests.clock import SetClock
from tests.stores import Store, open_local_store

NAME = "t/task/0.wav"
MIB = 1024 * 1024


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "audio"


@pytest.fixture
async def store(directory: Path) -> AsyncIterator[Store]:
    async with open_local_store(directory) as opened:
        yield opened


def files_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def link_of(storage_url: str) -> tuple[str, str]:
    query = parse_qs(urlsplit(storage_url).query)
    return query["expires"][0], query["signature"][0]


WRITER = """
    import asyncio, sys
    from pathlib import Path
    from gateway.storage.local import LocalStorage
    from tests.clock import SetClock

    async def main():
        storage = LocalStorage(Path(sys.argv[1]), b"s" * 32, "http://localhost", SetClock())
        writer = await storage.create(sys.argv[2], content_type="audio/wav", metadata={})
        while True:
            await writer.write(bytes(1024 * 1024))
            print("wrote", flush=True)

    asyncio.run(main())
"""


def kill_a_writer(directory: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(directory), NAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as writer:
        assert writer.stdout.readline() == b"wrote\n"
        assert writer.stdout.readline() == b"wrote\n"
        writer.send_signal(signal.SIGKILL)


async def test_a_writer_killed_half_way_leaves_nothing_visible(store: Store, directory: Path):
    await asyncio.to_thread(kill_a_writer, directory)
    assert files_in(directory) != []
    assert store.names() == []
    assert (await store.get(NAME)).status_code == 404
    await store.put(NAME, b"again")
    assert (await store.get(NAME)).content == b"again"


async def test_leftovers_go_at_the_next_start_once_they_are_old(store: Store, directory: Path):
    left = directory / ".incoming" / "dead"
    busy = directory / ".incoming" / "busy"
    now_s = store.clock.now_ms() / 1000
    for folder in (left, busy):
        folder.mkdir()
        (folder / "content").write_bytes(b"half")
        for path in (folder / "content", folder):
            os.utime(path, (now_s - 7 * 3600,) * 2)
    os.utime(busy / "content", (now_s - 60,) * 2)
    await store.storage.open()
    assert files_in(directory) == [".incoming/busy/content"]


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """As if the disk were full: the system refuses to let any file grow beyond the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_a_storage_error_and_leaves_nothing(store: Store, directory: Path):
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    with file_size_limit(MIB), pytest.raises(StorageError, match="disk for audio is full") as raised:
        await writer.write(bytes(4 * MIB))
    assert "File too large" in raised.value.internal
    await writer.abort()
    assert files_in(directory) == []


async def test_a_disk_that_fills_at_the_last_moment_leaves_nothing(store: Store, directory: Path):
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(bytes(1000))
    with file_size_limit(500), pytest.raises(StorageError, match="full"):
        await writer.commit()
    await writer.abort()
    assert store.names() == []
    assert files_in(directory) == []


async def test_a_directory_that_cannot_be_used_is_a_storage_error(tmp_path: Path):
    (tmp_path / "audio").write_text("a file where the directory should be")
    storage = LocalStorage(tmp_path / "audio", b"s" * 32, "http://localhost", SetClock())
    with pytest.raises(StorageError, match="cannot be used"):
        await storage.open()
    with pytest.raises(StorageError, match="cannot be used"):
        await storage.check()
    with pytest.raises(StorageError, match="cannot be used"):
        await storage.delete(NAME)
    writer = await storage.create(NAME, content_type="audio/wav", metadata={})
    with pytest.raises(StorageError, match="cannot be used"):
        await writer.commit()
    await writer.abort()


def test_a_disk_with_little_room_is_not_ready(tmp_path: Path):
    with pytest.raises(StorageError, match="full") as raised:
        disk.probe(tmp_path / "incoming", least_free_bytes=2**62)
    assert "bytes are free" in raised.value.internal
    assert files_in(tmp_path) == []


async def test_check_leaves_no_trace(store: Store, directory: Path):
    await store.storage.check()
    assert files_in(directory) == []


async def test_a_commit_that_was_cancelled_half_way_is_undone_by_abort(store: Store, directory: Path):
    """The thread goes on when its awaiter is gone: whatever it finished nobody was told about."""
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(bytes(MIB))
    commit = asyncio.create_task(writer.commit())
    await asyncio.sleep(0)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    await writer.abort()
    assert store.names() == []
    assert files_in(directory) == []


def test_an_object_published_unseen_is_removed_and_a_later_one_left_alone(tmp_path: Path):
    target = tmp_path / "t" / "0.wav.object"
    first = disk.IncomingObject(tmp_path / "in" / "1", target, b"{}")
    first.publish([b"first"])
    first.discard()
    assert not target.exists()
    disk.IncomingObject(tmp_path / "in" / "2", target, b"{}").publish([b"second"])
    first.discard()
    assert (target / "content").read_bytes() == b"second"


def test_a_write_that_comes_after_the_clean_up_makes_no_new_file(tmp_path: Path):
    incoming = disk.IncomingObject(tmp_path / "in" / "1", tmp_path / "0.wav.object", b"{}")
    incoming.discard()
    with pytest.raises(StorageError, match="given up"):
        incoming.write([b"late"])
    assert files_in(tmp_path) == []


async def test_folders_go_with_their_last_object(store: Store, directory: Path):
    await store.put("t/task/0.wav", b"x")
    await store.put("t/task/1.wav", b"x")
    await store.storage.delete("t/task/0.wav")
    assert (directory / "t" / "task").is_dir()
    await store.storage.delete("t/task/1.wav")
    assert not (directory / "t").exists()


async def names(store: Store) -> list[str]:
    return [each.name for each in (await store.storage.list("", limit=100)).objects]


async def test_a_list_passes_over_what_is_no_object(store: Store, directory: Path):
    await store.put(NAME, b"x")
    (directory / "notes.txt").write_text("not ours")
    (directory / "t" / "task" / "1.wav.object").write_text("a file, not a folder")
    (directory / ".hidden" / "0.wav.object").mkdir(parents=True)
    (directory / "empty" / "deep").mkdir(parents=True)
    (directory / "elsewhere").symlink_to(directory / "t")
    assert await names(store) == [NAME]


async def test_a_folder_that_may_not_be_read_is_passed_over(
    store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    """Such as lost+found, at the top of a disk."""
    await store.put(NAME, b"x")
    (directory / "lost+found").mkdir()
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if folder.name == "lost+found":
            raise PermissionError(folder)
        return scandir(folder)

    monkeypatch.setattr("gateway.storage.walk.os.scandir", refuse)
    assert await names(store) == [NAME]


async def test_what_goes_while_it_is_listed_is_not_listed(directory: Path, store: Store):
    for number in range(3):
        await store.put(f"t/task{number}/0.wav", b"x")
    objects = walk._walk(directory, "", [""], 10)
    next(objects)
    shutil.rmtree(directory / "t" / "task1")
    assert [each.name for each in objects] == ["t/task2/0.wav"]
    await store.put("t/task3/0.wav", b"x")
    await store.put("t/task3/1.wav", b"x")
    objects = walk._walk(directory / "t" / "task3", "", [""], 10)
    next(objects)
    shutil.rmtree(directory / "t" / "task3" / "1.wav.object")
    assert list(objects) == []


async def test_a_directory_that_cannot_be_listed_is_a_storage_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("gateway.storage.walk.os.scandir", fail)
    with pytest.raises(StorageError, match="cannot be used"):
        await store.storage.list("", limit=10)


async def test_leftovers_go_when_it_is_tidied_too(store: Store, directory: Path):
    kill_a_writer(directory)
    await store.storage.tidy()
    assert files_in(directory) == []


def test_writers_and_deleters_side_by_side_never_trip_over_each_other(tmp_path: Path):
    failures: list[BaseException] = []

    def churn(worker: int) -> None:
        try:
            for n in range(60):
                target = tmp_path / "t" / "task" / f"{worker}.object"
                disk.IncomingObject(tmp_path / "in" / f"{worker}-{n}", target, b"{}").publish([b"x"])
                disk.remove(target, tmp_path / "in" / f"trash-{worker}-{n}")
        except BaseException as error:  # noqa: BLE001 - carried to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


async def test_the_facts_of_a_file_are_what_a_web_server_needs(store: Store):
    await store.put(NAME, b"abc", content_type="audio/flac")
    file = await store.storage.resolve(NAME, *link_of((await store.storage.signed_url(NAME)).url))
    assert file.path.read_bytes() == b"abc"
    assert (file.size_bytes, file.content_type) == (3, "audio/flac")
    assert file.etag.startswith('"')
    assert file.etag.endswith('"')
    assert file.modified_ms == file.path.stat().st_mtime_ns // 1_000_000


async def test_each_object_has_an_etag_of_its_own(store: Store):
    await store.put("a/0.wav", b"same")
    await store.put("a/1.wav", b"same")
    assert (await store.get("a/0.wav")).headers["etag"] != (await store.get("a/1.wav")).headers["etag"]


async def test_a_link_to_what_is_gone_says_not_found(store: Store):
    expires, signature = link_of((await store.storage.signed_url(NAME)).url)
    with pytest.raises(NotFound) as raised:
        await store.storage.resolve(NAME, expires, signature)
    assert raised.value.code is ErrorCode.FILE_NOT_FOUND


@pytest.mark.parametrize(
    ("expires", "signature"),
    [("", ""), ("x", "y"), ("-1", "0"), ("9" * 5000, "ü"), ("\u0661", "\ud800"), ("1e9", "=" * 43)],
)
async def test_an_invented_link_is_invalid_whatever_it_looks_like(store: Store, expires: str, signature: str):
    await store.put(NAME, b"x")
    with pytest.raises(GatewayError, match="not valid") as raised:
        await store.storage.resolve(NAME, expires, signature)
    assert raised.value.code is ErrorCode.LINK_INVALID


async def test_an_expired_link_says_how_to_get_another(store: Store):
    await store.put(NAME, b"x")
    expires, signature = link_of((await store.storage.signed_url(NAME)).url)
    store.clock.advance(3600)
    with pytest.raises(GatewayError, match=r"expired. Ask for the task's status") as raised:
        await store.storage.resolve(NAME, expires, signature)
    assert raised.value.code is ErrorCode.LINK_INVALID


async def test_another_secret_makes_other_links(directory: Path, store: Store):
    other = LocalStorage(directory, b"t" * 32, "http://localhost/", store.clock)
    url = (await other.signed_url(NAME)).url
    assert url.startswith("http://localhost/files/t/task/0.wav?expires=")
    with pytest.raises(GatewayError, match="not valid"):
        await store.storage.resolve(NAME, *link_of(url))


async def test_a_damaged_description_is_a_storage_error(store: Store, directory: Path):
    await store.put(NAME, b"x")
    (directory / f"{NAME}.object" / "about.json").write_bytes(b"{")
    with pytest.raises(StorageError, match="damaged"):
        await store.storage.resolve(NAME, *link_of((await store.storage.signed_url(NAME)).url))


async def test_head_tells_the_size_without_the_bytes(store: Store):
    await store.put(NAME, b"abc")
    answer = await store.http.head((await store.storage.signed_url(NAME)).url)
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "3", b"")
