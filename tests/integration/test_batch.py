"""What one call brought: stored in the end wherever storage failed, once, and nothing else is left."""

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import AttemptFault, ErrorCode, StorageError, UpstreamError
from gateway.families.family import ModelCall
from gateway.metrics import Metrics
from gateway.model import AudioFormat, MusicSpec
from gateway.storage.local import LocalStorage
from gateway.tasks.batch import Batch, Tools
from gateway.tasks.scratch import Scratch
from gateway.tasks.studio import Studio
from tests.clock import SetClock
from tests.eventually import eventually
from tests.factories import a_key, a_task, a_tenant
from tests.fakes import FailingStorage
from tests.soundness import encoded, music, tone

BLOCK_BYTES = 256 << 10
WAV = music(3, 3.0)
FOR_EVER = 999


class Bench:
    """A batch before a storage that is told when to fail, on a clock that stands still."""

    def __init__(self, directory: Path, studio: Studio) -> None:
        self.directory = directory / "audio"
        self.clock = SetClock()
        self.real = LocalStorage(self.directory, b"s" * 32, "http://localhost", self.clock)
        self.scratch = Scratch(directory / "spool", 256 << 20)
        self.studio = studio
        self.metrics = Metrics("test")
        self.deadline_at_ms = self.clock.now_ms() + 900_000
        self.batches: list[Batch] = []
        self.breaks()

    def breaks(self, failures: int = 0, **how: Any) -> FailingStorage:
        self.use(failing := FailingStorage(self.real, failures, **how))
        return failing

    def use(self, storage: Any, spec: MusicSpec | None = None, seed: int | None = None) -> None:
        spec = spec or MusicSpec("x", sample_count=4)
        task = a_task(a_key(a_tenant(id="ten_1")), id="task_1", spec=spec)
        tools = Tools(storage, self.scratch, self.studio, self.metrics.uploads, self.clock, lambda: 0.5)
        call = ModelCall(spec, tuple(range(spec.sample_count * spec.takes)), seed)
        self.batch = Batch(tools, task, "a1", call, self.deadline_at_ms)
        self.batches.append(self.batch)

    async def receive(self, number: int = 0, content: bytes = WAV) -> None:
        """As the reader of an answer does."""
        sink = self.batch.new_sink(number)
        for at in range(0, len(content), BLOCK_BYTES):
            await sink.write(content[at : at + BLOCK_BYTES])
        await sink.finish()

    async def finish(self, text: str | None = None) -> UpstreamError | None:
        return await self.batch.finish(text)

    def objects(self) -> list[str]:
        found = [str(path.relative_to(self.directory)) for path in self.directory.rglob("*.object")]
        return sorted(name.removesuffix(".object") for name in found)

    async def assert_stored(self, *names: str) -> None:
        """Exactly these objects are there, as they came; of everything else there is nothing."""
        await self.batch.close()
        assert self.objects() == sorted(f"ten_1/task_1/{name}" for name in names)
        assert set(self.batch.object_names) == set(self.objects())
        for clip in self.batch.clips:
            content = (self.directory / f"{clip.object_name}.object" / "content").read_bytes()
            assert (clip.size_bytes, clip.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert list((self.directory / ".incoming").iterdir()) == []
        assert self.scratch.used_bytes == 0

    def retried(self) -> dict[str, float]:
        samples = self.metrics.registry.collect()
        return {
            sample.labels["outcome"]: sample.value
            for metric in samples
            for sample in metric.samples
            if sample.name == "gateway_uploads_retried_total"
        }


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    studio = Studio(2)
    opened = Bench(tmp_path, studio)
    await opened.real.open()
    yield opened
    for batch in opened.batches:
        await batch.close()
    await opened.real.close()
    studio.close()


# Storage in trouble


@pytest.mark.parametrize(
    ("at", "after"), [("create", 0), ("write", 0), ("write", 1), ("commit", 0), ("answer", 0)]
)
async def test_a_clip_is_stored_in_the_end_wherever_it_failed(bench: Bench, at: str, after: int) -> None:
    bench.breaks(3, at=at, after=after)
    await bench.receive()
    assert await bench.finish() is None
    await bench.assert_stored("0-a1-4.wav")
    assert bench.clock.slept_s == [0.375, 0.75, 1.5]
    assert bench.retried() == {"failed": 2, "stored": 1}


async def test_without_trouble_nothing_is_tried_twice(bench: Bench) -> None:
    storage = bench.breaks()
    await bench.receive()
    assert await bench.finish() is None
    await bench.assert_stored("0-a1.wav")
    assert (storage.created, bench.clock.slept_s) == (["ten_1/task_1/0-a1.wav"], [])


async def test_one_clip_in_trouble_holds_up_no_other(bench: Bench) -> None:
    bench.breaks(2, only="/1-")
    for index in range(3):
        await bench.receive(index)
    assert await bench.finish() is None
    assert sorted(clip.index for clip in bench.batch.clips) == [0, 1, 2]
    await bench.assert_stored("0-a1.wav", "1-a1-3.wav", "2-a1.wav")


async def test_pauses_grow_and_end_with_the_deadline(bench: Bench) -> None:
    bench.breaks(FOR_EVER)
    await bench.receive()
    error = await bench.finish()
    assert error is not None
    assert (error.code, error.fault) == (ErrorCode.STORAGE_FAILED, AttemptFault.UNKNOWN)
    assert error.internal == "The disk for audio is full."
    pauses = bench.clock.slept_s
    assert pauses[:8] == [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5]
    assert sum(pauses) == 900
    await bench.assert_stored()


async def test_a_deadline_that_has_passed_leaves_one_try(bench: Bench) -> None:
    bench.deadline_at_ms = bench.clock.now_ms() - 1
    bench.use(bench.real)
    await bench.receive()
    assert await bench.finish() is None
    await bench.assert_stored("0-a1.wav")


async def test_nothing_is_left_of_what_is_given_up(bench: Bench) -> None:
    bench.breaks(FOR_EVER, at="answer")
    await bench.receive()
    assert await bench.finish() is not None
    await bench.batch.close()
    await bench.assert_stored()


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
    assert await bench.finish() is None
    await bench.assert_stored("0-a1-3.wav")


async def test_what_cannot_be_deleted_is_named_in_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.use(StubbornStorage(bench.real, 1, deletes=False))
    await bench.receive()
    assert await bench.finish() is None
    assert len(bench.batch.clips) == 1
    assert "ten_1/task_1/0-a1.wav may be stored unused: not now" in caplog.text


async def test_who_is_cancelled_while_storing_leaves_nothing(bench: Bench) -> None:
    bench.breaks(FOR_EVER)
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    bench.clock.sleep = sleep  # type: ignore[method-assign]
    await bench.receive()
    storing = asyncio.create_task(bench.finish())
    await eventually(waiting.is_set)
    storing.cancel()
    await asyncio.wait([storing])
    assert storing.cancelled()
    await bench.assert_stored()


# What came


@pytest.mark.parametrize(
    "content",
    [b"<html>no</html>" * 90, b"\x00" * 5000, b"{", b"RIFF"],
    ids=["html", "zeros", "brace", "riff"],
)
async def test_what_does_not_begin_like_audio_breaks_the_answer_off(bench: Bench, content: bytes) -> None:
    with pytest.raises(UpstreamError) as told:
        await bench.receive(content=content)
    assert (told.value.code, told.value.fault) == (ErrorCode.MODEL_ANSWER_INVALID, AttemptFault.BROKEN)
    await bench.assert_stored()


async def test_what_breaks_off_later_is_not_stored_and_its_siblings_are(bench: Bench) -> None:
    mp3 = encoded(tone(3.0, 44_100), 44_100, "MP3")
    await bench.receive(0)
    await bench.receive(1, mp3[:300] + bytes(len(mp3)))
    error = await bench.finish()
    assert error is not None
    assert (error.code, error.fault) == (ErrorCode.MODEL_ANSWER_INVALID, AttemptFault.BROKEN)
    await bench.assert_stored("0-a1.wav")


async def test_a_take_that_did_not_come_whole_is_nothing(bench: Bench) -> None:
    await bench.receive(0)
    sink = bench.batch.new_sink(1)
    await sink.write(WAV[:100_000])
    await sink.abort()
    assert await bench.finish() is None
    assert bench.batch.begun_count == 2
    await bench.assert_stored("0-a1.wav")


async def test_a_call_that_is_broken_off_does_not_take_along_what_came_whole(bench: Bench) -> None:
    sink = bench.batch.new_sink(0)
    await sink.write(WAV)
    await sink.finish()
    await sink.abort()
    assert await bench.finish() is None
    await bench.assert_stored("0-a1.wav")


async def test_an_answer_is_read_to_its_end_when_the_disk_is_full(bench: Bench) -> None:
    """What it holds besides may fit."""
    bench.scratch._limit_bytes = len(WAV) + 1000
    await bench.receive(0)
    await bench.receive(1)
    error = await bench.finish()
    assert error is not None
    assert (error.code, error.fault) == (ErrorCode.STORAGE_FAILED, AttemptFault.UNKNOWN)
    await bench.assert_stored("0-a1.wav")


async def test_what_was_asked_for_is_made_of_it(bench: Bench) -> None:
    bench.use(bench.real, MusicSpec("x", duration_s=2, audio_format=AudioFormat.OPUS, seed=7), seed=7)
    await bench.receive()
    assert await bench.finish("la la") is None
    (clip,) = bench.batch.clips
    assert (clip.mime_type, clip.duration_s, clip.seed, clip.text) == (
        "audio/ogg; codecs=opus",
        2.0,
        7,
        "la la",
    )
    assert clip.steps is not None
    assert '"step":"generate"' in clip.steps
    await bench.assert_stored("0-a1.opus")


# Takes


async def test_takes_of_several_are_stored_as_they_came_and_joined(bench: Bench) -> None:
    spec = MusicSpec("x", duration_s=5, takes=2, seed=7)
    bench.use(bench.real, spec, seed=7)
    await bench.receive(0, music(1, 3.0))
    await bench.receive(1, music(2, 3.0))
    assert await bench.finish("words") is None
    takes = sorted(bench.batch.takes, key=lambda take: take.number)
    assert [(take.number, take.seed, take.duration_s, take.text) for take in takes] == [
        (0, 7, 3.0, "words"),
        (1, 8, 3.0, "words"),
    ]
    await bench.assert_stored("t0-a1.take", "t1-a1.take")
    bench.use(bench.real, spec)
    assert await bench.batch.join(takes) is None
    (clip,) = bench.batch.clips
    assert (clip.index, clip.seed, clip.duration_s, clip.text) == (0, 7, 5.0, "words\n\nwords")
    await bench.batch.close()
    assert bench.scratch.used_bytes == 0


async def test_a_clip_that_is_too_short_is_kept_as_a_take(bench: Bench) -> None:
    bench.use(bench.real, MusicSpec("x", duration_s=10))
    await bench.receive()
    assert await bench.finish() is None
    assert [(take.number, take.duration_s) for take in bench.batch.takes] == [(0, 3.0)]
    await bench.assert_stored("t0-a1.take")


async def test_takes_that_cannot_be_read_now_cost_no_call(bench: Bench) -> None:
    spec = MusicSpec("x", duration_s=5, takes=2)
    bench.use(bench.real, spec)
    await bench.receive(0)
    await bench.receive(1)
    await bench.finish()
    takes = bench.batch.takes
    bench.use(FailingStorage(bench.real, 1, at="read"), spec)
    error = await bench.batch.join(takes)
    assert error is not None
    assert (error.code, error.fault) == (ErrorCode.STORAGE_FAILED, AttemptFault.NOT_SENT)
    assert await bench.batch.join(takes) is None


async def test_takes_that_do_not_fit_together_are_told(bench: Bench) -> None:
    spec = MusicSpec("x", duration_s=5, takes=2)
    bench.use(bench.real, spec)
    await bench.receive(0)
    await bench.receive(1, encoded(tone(3.0, 44_100), 44_100))
    assert await bench.finish() is None
    error = await bench.batch.join(bench.batch.takes)
    assert error is not None
    assert error.code is ErrorCode.MODEL_ANSWER_INVALID


async def test_no_clip_is_ever_in_memory(bench: Bench) -> None:
    long = encoded(tone(120.0))  # 23 MB
    await bench.receive(0, WAV)  # so that the libraries are loaded
    await bench.finish()
    tracemalloc.start()
    sink = bench.batch.new_sink(1)
    for at in range(0, len(long), BLOCK_BYTES):
        await sink.write(long[at : at + BLOCK_BYTES])
    await sink.finish()
    assert await bench.finish() is None
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 << 20
