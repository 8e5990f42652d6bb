"""Work on audio beside the event loop: what comes of it, how much at once, and nothing left open."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.errors import StorageError
from gateway.model import AudioFormat, MusicSpec
from gateway.tasks import studio as module
from gateway.tasks.scratch import Scratch, ScratchFile
from gateway.tasks.studio import BadAudio, Studio, TooShort
from tests.soundness import encoded, music, tone

WAV = music(1, 3.0)


@pytest.fixture
def studio() -> Iterator[Studio]:
    made = Studio(2)
    yield made
    made.close()


@pytest.fixture
async def scratch(tmp_path: Path) -> AsyncIterator[Scratch]:
    made = Scratch(tmp_path, 256 << 20)
    yield made
    assert made.used_bytes == 0


async def a_file(scratch: Scratch, content: bytes = b"") -> ScratchFile:
    file = scratch.new()
    if content:
        await file.append(content)
    return file


async def close(*files: ScratchFile) -> None:
    for file in files:
        await file.close()


async def test_what_need_not_change_is_described_and_left(studio: Studio, scratch: Scratch) -> None:
    take, out = await a_file(scratch, WAV), await a_file(scratch)
    piece = await studio.produce([take], MusicSpec("x"), out)
    assert (piece.untouched, piece.mime_type, piece.extension) == (True, "audio/wav", "wav")
    assert (piece.size_bytes, piece.sha256) == (len(WAV), hashlib.sha256(WAV).hexdigest())
    assert (piece.duration_s, piece.sample_rate_hz, piece.channels) == (3.0, 48_000, 2)
    assert len(piece.waveform) == 256
    assert out.size_bytes == 0
    await close(take, out)


async def test_what_is_asked_for_is_made_in_a_file_of_its_own(studio: Studio, scratch: Scratch) -> None:
    take, out = await a_file(scratch, WAV), await a_file(scratch)
    piece = await studio.produce([take], MusicSpec("x", duration_s=2, audio_format=AudioFormat.FLAC), out)
    assert (piece.untouched, piece.extension, piece.duration_s) == (False, "flac", 2.0)
    assert piece.size_bytes == out.size_bytes
    assert [step["step"] for step in piece.steps] == ["trim", "encode"]
    await close(take, out)


async def test_what_is_no_audio_is_told(studio: Studio, scratch: Scratch) -> None:
    take, out = await a_file(scratch, b"RIFF....WAVEnonsense"), await a_file(scratch)
    with pytest.raises(BadAudio):
        await studio.produce([take], MusicSpec("x"), out)
    with pytest.raises(BadAudio):
        await studio.inspect(take)
    await close(take, out)


async def test_what_is_too_short_is_told_with_its_length(studio: Studio, scratch: Scratch) -> None:
    take, out = await a_file(scratch, encoded(tone(2.0))), await a_file(scratch)
    with pytest.raises(TooShort) as told:
        await studio.produce([take], MusicSpec("x", duration_s=5), out)
    assert told.value.duration_s == pytest.approx(2.0)
    assert await studio.inspect(take) == pytest.approx(2.0)
    await close(take, out)


async def test_a_file_that_is_gone_is_told(studio: Studio, scratch: Scratch) -> None:
    take, out = await a_file(scratch, WAV), await a_file(scratch)
    await take.close()
    with pytest.raises(StorageError):
        await studio.produce([out, take], MusicSpec("x"), out)
    await close(out)


async def test_no_more_is_worked_on_at_once_than_may(
    studio: Studio, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, go_on = 0, 0, threading.Event()
    lock = threading.Lock()

    def slow(_: int) -> float:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        assert go_on.wait(10)
        with lock:
            running -= 1
        return 1.0

    monkeypatch.setattr(module, "_inspect", slow)
    takes = [await a_file(scratch, WAV) for _ in range(5)]
    asked = [asyncio.create_task(studio.inspect(take)) for take in takes]
    await asyncio.sleep(0.05)
    go_on.set()
    assert await asyncio.gather(*asked) == [1.0] * 5
    assert most == 2
    await close(*takes)


async def test_who_is_cancelled_leaves_no_file_open(
    studio: Studio, scratch: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, go_on = threading.Event(), threading.Event()

    def slow(_: int) -> float:
        working.set()
        assert go_on.wait(10)
        return 1.0

    monkeypatch.setattr(module, "_inspect", slow)
    takes = [await a_file(scratch, WAV) for _ in range(4)]
    asked = [asyncio.create_task(studio.inspect(take)) for take in takes]
    await asyncio.to_thread(working.wait)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await close(*takes)
    go_on.set()
    await asyncio.to_thread(studio._threads.shutdown)
    assert open_in(tmp_path) == 0


async def test_a_studio_that_is_closed_leaves_no_file_open(
    studio: Studio, scratch: Scratch, tmp_path: Path
) -> None:
    take = await a_file(scratch, WAV)
    studio.close()
    with pytest.raises(RuntimeError):
        await studio.inspect(take)
    await close(take)
    assert open_in(tmp_path) == 0


def open_in(directory: Path) -> int:
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += str(descriptor.readlink()).startswith(str(directory))
        except FileNotFoundError:
            continue  # the one that lists them
    return found
