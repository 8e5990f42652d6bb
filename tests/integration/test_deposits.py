"""Clips that storage did not take at first: read all the same, and stored from what was put aside."""

import asyncio
import hashlib
import logging
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import AttemptFault, ErrorCode, StorageError, UpstreamError
from gateway.metrics import UploadOutcome
from gateway.model import MusicSpec
from gateway.ports import ObjectWriter
from gateway.storage.local import LocalStorage
from gateway.tasks import clips
from gateway.tasks.clips import ClipShelf
from gateway.tasks.spool import Spools
from tests.clock import SetClock
from tests.eventually import eventually
from tests.factories import a_key, a_task, a_tenant
from tests.fakes import FailingStorage

BLOCK_BYTES = 256 << 10


def a_wav(blocks: int) -> Iterator[bytes]:
    """A header, and then blocks of sound; never there as a whole."""
    size = blocks * BLOCK_BYTES
    sound = hashlib.shake_128(b"noise").digest(BLOCK_BYTES)
    facts = b"\x01\x00\x02\x00" + (48_000).to_bytes(4, "little") + (192_000).to_bytes(4, "little")
    yield (
        b"RIFF"
        + (size + 36).to_bytes(4, "little")
        + b"WAVEfmt \x10\x00\x00\x00"
        + facts
        + b"\x04\x00\x10\x00"
    )
    yield b"data" + size.to_bytes(4, "little")
    for _ in range(blocks):
        yield sound


WAV = b"".join(a_wav(9))


class Bench:
    """A shelf before a storage that is told when to fail, on a clock that stands still."""

    def __init__(self, directory: Path, spool_bytes: int = 64 << 20) -> None:
        self.directory = directory / "audio"
        self.clock = SetClock()
        self.real = LocalStorage(self.directory, b"s" * 32, "http://localhost", self.clock)
        self.spools = Spools(directory / "spool", spool_bytes)
        self.outcomes: list[UploadOutcome] = []
        self.deadline_at_ms = self.clock.now_ms() + 900_000
        self.breaks()

    def breaks(self, failures: int = 0, **how: Any) -> FailingStorage:
        self.use(failing := FailingStorage(self.real, failures, **how))
        return failing

    def use(self, storage: Any) -> None:
        task = a_task(a_key(a_tenant(id="ten_1")), id="task_1", spec=MusicSpec("x"))
        self.shelf = ClipShelf(storage, self.spools, task, "a1", lambda _: None)

    async def receive(self, index: int = 0, wav: bytes = WAV) -> None:
        """As the reader of an answer does."""
        sink = self.shelf.new_sink(index)
        for at in range(0, len(wav), BLOCK_BYTES):
            await sink.write(wav[at : at + BLOCK_BYTES])
        await sink.finish()

    async def store_rest(self) -> UpstreamError | None:
        return await self.shelf.store_rest(self.clock, lambda: 0.5, self.deadline_at_ms, self.outcomes.append)

    def objects(self) -> list[str]:
        found = [str(path.relative_to(self.directory)) for path in self.directory.rglob("*.object")]
        return sorted(name.removesuffix(".object") for name in found)

    def assert_stored(self, *names: str) -> None:
        """Exactly these objects are there, as they came; of everything else there is nothing."""
        assert self.objects() == sorted(f"ten_1/task_1/{name}" for name in names)
        assert {clip.object_name for clip in self.shelf.stored()} == set(self.objects())
        for clip in self.shelf.stored():
            content = (self.directory / f"{clip.object_name}.object" / "content").read_bytes()
            assert content == WAV
            assert (clip.size_bytes, clip.sha256) == (len(WAV), hashlib.sha256(WAV).hexdigest())
        assert list((self.directory / ".incoming").iterdir()) == []
        assert self.spools.used_bytes == 0


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    opened = Bench(tmp_path)
    await opened.real.open()
    yield opened
    await opened.shelf.close()
    await opened.real.close()


@pytest.mark.parametrize(
    ("at", "after"), [("create", 0), ("write", 0), ("write", 5), ("commit", 0), ("answer", 0)]
)
async def test_a_clip_is_stored_in_the_end_wherever_it_failed(bench: Bench, at: str, after: int) -> None:
    bench.breaks(3, at=at, after=after)
    await bench.receive()
    assert bench.shelf.stored() == ()
    assert await bench.store_rest() is None
    bench.assert_stored("0-a1-4.wav")
    assert bench.outcomes == [UploadOutcome.FAILED, UploadOutcome.FAILED, UploadOutcome.STORED]


async def test_what_was_stored_at_once_is_not_stored_again(bench: Bench) -> None:
    storage = bench.breaks(0)
    await bench.receive()
    assert await bench.store_rest() is None
    bench.assert_stored("0-a1.wav")
    assert (storage.created, bench.clock.slept_s) == (["ten_1/task_1/0-a1.wav"], [])


async def test_one_clip_in_trouble_holds_up_no_other(bench: Bench) -> None:
    bench.breaks(2, only="/1-")
    for index in range(3):
        await bench.receive(index)
    assert [clip.index for clip in bench.shelf.stored()] == [0, 2]
    assert await bench.store_rest() is None
    assert [clip.index for clip in bench.shelf.stored()] == [0, 1, 2]
    bench.assert_stored("0-a1.wav", "1-a1-3.wav", "2-a1.wav")


async def test_each_try_has_a_name_of_its_own(bench: Bench) -> None:
    storage = bench.breaks(2, at="create")
    await bench.receive()
    await bench.store_rest()
    assert storage.created == [f"ten_1/task_1/0-a1{n}.wav" for n in ("", "-2", "-3")]


async def test_pauses_grow_and_end_with_the_deadline(bench: Bench) -> None:
    bench.breaks(999)
    await bench.receive()
    error = await bench.store_rest()
    assert error is not None
    assert (error.code, error.fault) == (ErrorCode.STORAGE_FAILED, AttemptFault.UNKNOWN)
    assert error.internal == "The disk for audio is full."
    pauses = bench.clock.slept_s
    assert pauses[:8] == [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5]
    assert max(pauses) == 22.5
    assert sum(pauses) == 900
    assert set(bench.outcomes) == {UploadOutcome.FAILED}


async def test_a_deadline_that_has_passed_leaves_one_more_try(bench: Bench) -> None:
    bench.breaks(2)
    await bench.receive()
    bench.deadline_at_ms = bench.clock.now_ms() - 1
    assert await bench.store_rest() is not None
    assert bench.clock.slept_s == [0.0]
    assert await bench.store_rest() is None


async def test_nothing_is_left_of_what_is_given_up(bench: Bench) -> None:
    bench.breaks(999, at="answer")
    await bench.receive()
    await bench.store_rest()
    await bench.shelf.close()
    await bench.shelf.close()
    bench.assert_stored()


@pytest.mark.parametrize("room_bytes", [0, len(WAV) // 2])
async def test_without_room_storage_has_one_chance_and_the_answer_is_read_on(
    bench: Bench, tmp_path: Path, room_bytes: int
) -> None:
    bench.spools = Spools(tmp_path / "spool", room_bytes)
    storage = bench.breaks(1, at="write", after=3)
    await bench.receive(0)
    await bench.receive(1)
    error = await bench.store_rest()
    assert error is not None
    assert error.code is ErrorCode.STORAGE_FAILED
    assert bench.clock.slept_s == []
    assert len(storage.created) == 2
    await bench.shelf.close()
    bench.assert_stored("1-a1.wav")


async def test_what_can_no_longer_be_read_is_given_up_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.breaks(1)
    await bench.receive()
    monkeypatch.setattr("gateway.tasks.spool.os.pread", lambda *_: b"")
    error = await bench.store_rest()
    assert error is not None
    assert error.internal == "The audio put aside cannot be read."
    assert len(bench.clock.slept_s) == 1
    await bench.shelf.close()
    bench.assert_stored()


class StubbornStorage(FailingStorage):
    """Nothing can be withdrawn while it is in trouble, and the answers to commits are lost."""

    def __init__(self, storage: LocalStorage, failures: int, *, deletes: bool) -> None:
        super().__init__(storage, failures, at="answer")
        self.deletes = deletes

    async def create(self, name: str, *, content_type: str, metadata: Mapping[str, str]) -> Any:
        writer = await super().create(name, content_type=content_type, metadata=metadata)

        async def abort() -> None:
            raise StorageError("not now")

        writer.abort = abort
        return writer

    async def delete(self, name: str) -> None:
        if not self.deletes:
            raise StorageError("not now")
        await super().delete(name)


async def test_a_try_that_had_succeeded_unseen_is_deleted(bench: Bench) -> None:
    bench.use(StubbornStorage(bench.real, 2, deletes=True))
    await bench.receive()
    assert bench.objects() == ["ten_1/task_1/0-a1.wav"]
    assert await bench.store_rest() is None
    bench.assert_stored("0-a1-3.wav")


async def test_what_cannot_be_deleted_is_named_in_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.use(StubbornStorage(bench.real, 1, deletes=False))
    await bench.receive()
    assert await bench.store_rest() is None
    assert len(bench.shelf.stored()) == 1
    assert "ten_1/task_1/0-a1.wav may be stored unused: not now" in caplog.text


class SlowStorage:
    """Says nothing to a write until it is released."""

    def __init__(self, storage: LocalStorage) -> None:
        self._storage = storage
        self.waiting = 0
        self.released = asyncio.Event()

    async def create(self, name: str, *, content_type: str, metadata: Mapping[str, str]) -> ObjectWriter:
        writer = await self._storage.create(name, content_type=content_type, metadata=metadata)
        write = writer.write

        async def slow(block: bytes) -> None:
            self.waiting += 1
            await self.released.wait()
            await write(block)

        writer.write = slow  # type: ignore[method-assign]
        return writer


async def test_storage_that_is_slow_holds_up_an_answer_only_so_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all clips together: the call has one deadline."""
    monkeypatch.setattr(clips, "_PATIENCE_S", 0.05)
    bench.use(slow := SlowStorage(bench.real))
    await bench.receive(0)
    await bench.receive(1)
    assert slow.waiting == 1
    assert bench.shelf.stored() == ()
    slow.released.set()
    assert await bench.store_rest() is None
    bench.assert_stored("0-a1-2.wav", "1-a1-2.wav")


async def test_storage_that_is_slow_is_waited_for_where_nothing_was_put_aside(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "_PATIENCE_S", 0.0)
    bench.spools = Spools(tmp_path / "spool", 0)
    bench.use(slow := SlowStorage(bench.real))
    receiving = asyncio.create_task(bench.receive())
    await asyncio.wait([receiving], timeout=0.05)
    assert not receiving.done()
    slow.released.set()
    await receiving
    bench.assert_stored("0-a1.wav")


async def test_a_deadline_of_the_call_while_storage_is_slow_loses_no_clip(bench: Bench) -> None:
    """The clip had come whole; only its commit was interrupted, and its sink aborted."""
    hanging = asyncio.Event()
    bench.use(storage := FailingStorage(bench.real))

    async def hang(point: str, name: str) -> None:
        await hanging.wait()

    create = storage.create

    async def create_slow(name: str, **about: Any) -> Any:
        writer = await create(name, **about)
        if not name.endswith("-2.wav"):
            writer.commit = lambda: hang("commit", name)
        return writer

    storage.create = create_slow  # type: ignore[method-assign]
    sink = bench.shelf.new_sink(0)
    await sink.write(WAV)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sink.finish()
    await sink.abort()
    assert await bench.store_rest() is None
    bench.assert_stored("0-a1-2.wav")


async def test_somebody_elses_timeout_is_not_taken_for_slowness(bench: Bench) -> None:
    class TimingOut:
        async def create(self, name: str, **_: Any) -> ObjectWriter:
            raise TimeoutError

    bench.use(TimingOut())
    with pytest.raises(TimeoutError):
        await bench.shelf.new_sink(0).write(WAV)


async def test_who_is_cancelled_while_trying_leaves_nothing(bench: Bench) -> None:
    slow = SlowStorage(bench.real)
    bench.use(FailingStorage(slow, 1, at="create"))  # type: ignore[arg-type]
    await bench.receive()
    storing = asyncio.create_task(bench.store_rest())
    await eventually(lambda: slow.waiting == 1)
    storing.cancel()
    await asyncio.wait([storing])
    assert storing.cancelled()
    await bench.shelf.close()
    bench.assert_stored()


async def test_no_clip_is_ever_in_memory(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    blocks = 160  # 40 MiB
    bench.breaks(3, at="commit")
    sink = bench.shelf.new_sink(0)
    tracemalloc.start()
    for block in a_wav(blocks):
        await sink.write(block)
    await sink.finish()
    assert await bench.store_rest() is None
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (clip,) = bench.shelf.stored()
    assert clip.size_bytes > blocks * BLOCK_BYTES
    assert peak_bytes < 4 << 20
