"""One clip on its way into storage: not opened before it is audio, not visible before it is whole."""

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.model import Clip, MusicSpec, Task
from gateway.ports import Storage
from gateway.storage.local import LocalStorage
from gateway.tasks.clips import ClipShelf
from gateway.tasks.spool import Spools
from tests.clock import SetClock
from tests.factories import a_key, a_task, a_tenant


def a_wav(seconds: float = 2.0, rate_hz: int = 8000) -> bytes:
    file = io.BytesIO()
    samples = np.random.default_rng(1).uniform(-1, 1, (round(seconds * rate_hz), 2))
    soundfile.write(file, samples, rate_hz, format="WAV")
    return file.getvalue()


def task_for(**spec) -> Task:
    return a_task(a_key(a_tenant(id="ten_1")), id="task_1", spec=MusicSpec("x", **spec))


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[LocalStorage]:
    opened = LocalStorage(tmp_path, b"s" * 32, "http://localhost", SetClock())
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def spools(tmp_path_factory: pytest.TempPathFactory) -> Spools:
    return Spools(tmp_path_factory.mktemp("data") / "spool", 64 << 20)


@pytest.fixture
def shelf(storage: LocalStorage, spools: Spools) -> ClipShelf:
    return ClipShelf(storage, spools, task_for(), "a1", lambda index: 40 + index)


def a_shelf(storage: Storage, spools: Spools, attempt_id: str = "a1", **spec) -> ClipShelf:
    return ClipShelf(storage, spools, task_for(**spec), attempt_id, lambda _: None)


def objects(directory: Path) -> list[str]:
    found = sorted(path.relative_to(directory) for path in directory.rglob("*.object"))
    return [str(path).removesuffix(".object") for path in found]


def incoming(directory: Path) -> list[Path]:
    return list((directory / ".incoming").iterdir())


async def test_a_clip_is_stored_as_it_came(shelf: ClipShelf, tmp_path: Path) -> None:
    wav = a_wav()
    sink = shelf.new_sink(2)
    for at in range(0, len(wav), 1000):
        await sink.write(wav[at : at + 1000])
    assert shelf.stored() == ()
    await sink.finish()
    name = "ten_1/task_1/2-a1.wav"
    digest = hashlib.sha256(wav).hexdigest()
    assert shelf.stored() == (Clip(2, name, "audio/wav", len(wav), digest, 2.0, 8000, 2, 42),)
    assert (tmp_path / f"{name}.object" / "content").read_bytes() == wav


async def test_a_clip_is_measured_after_it_was_cut(
    storage: LocalStorage, spools: Spools, tmp_path: Path
) -> None:
    shelf = a_shelf(storage, spools, duration_s=1)
    sink = shelf.new_sink(0)
    await sink.write(a_wav())
    await sink.finish()
    (clip,) = shelf.stored()
    content = (tmp_path / f"{clip.object_name}.object" / "content").read_bytes()
    assert (clip.duration_s, clip.size_bytes, clip.seed) == (1.0, len(content), None)
    assert clip.sha256 == hashlib.sha256(content).hexdigest()


async def test_clips_are_told_in_the_order_they_began(shelf: ClipShelf) -> None:
    for index in (3, 0, 1):
        sink = shelf.new_sink(index)
        await sink.write(a_wav(0.1))
        await sink.finish()
    assert [clip.index for clip in shelf.stored()] == [3, 0, 1]


async def test_a_later_attempt_never_writes_over_an_earlier_one(
    storage: LocalStorage, spools: Spools, tmp_path: Path
) -> None:
    for attempt_id in ("a1", "a2"):
        sink = a_shelf(storage, spools, attempt_id).new_sink(0)
        await sink.write(a_wav(0.1))
        await sink.finish()
    assert objects(tmp_path) == ["ten_1/task_1/0-a1.wav", "ten_1/task_1/0-a2.wav"]


async def test_what_is_no_audio_never_reaches_storage(shelf: ClipShelf, tmp_path: Path) -> None:
    sink = shelf.new_sink(0)
    with pytest.raises(UpstreamError) as caught:
        await sink.write(b"<html>Bad gateway</html>")
    assert (caught.value.code, caught.value.fault) == (ErrorCode.MODEL_ANSWER_INVALID, AttemptFault.BROKEN)
    await sink.abort()
    assert objects(tmp_path) == incoming(tmp_path) == []


@pytest.mark.parametrize("wav", [b"", a_wav()[:20], a_wav()[:44], a_wav()[:-1]])
async def test_a_clip_that_is_not_whole_is_never_visible(
    shelf: ClipShelf, tmp_path: Path, wav: bytes
) -> None:
    sink = shelf.new_sink(0)
    await sink.write(wav)
    with pytest.raises(UpstreamError):
        await sink.finish()
    await sink.abort()
    assert shelf.stored() == ()
    assert objects(tmp_path) == incoming(tmp_path) == []


async def test_a_clip_that_is_given_up_leaves_nothing(shelf: ClipShelf, tmp_path: Path) -> None:
    sink = shelf.new_sink(0)
    await sink.write(a_wav(10))  # enough to have been written on
    await sink.abort()
    await sink.abort()
    assert shelf.stored() == ()
    assert objects(tmp_path) == incoming(tmp_path) == []
