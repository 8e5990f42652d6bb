"""Decoded audio reaches the right sink in few blocks, and every sink is finished or aborted."""

import asyncio

import pytest

from gateway.errors import AttemptFault, ErrorCode, StorageError
from gateway.families.family import ModelCall
from gateway.model import MusicSpec
from gateway.upstream import faults
from gateway.upstream.audiojson import ClipEnded, ClipFailed, ClipStarted, Event
from gateway.upstream.clips import ClipRouter
from tests.vertexstub import RecordingSink, Sinks

SPEC = MusicSpec("p", sample_count=4)


def a_call(*indexes: int, seed: int | None = None) -> ModelCall:
    return ModelCall(SPEC, indexes, seed)


def a_clip(number: int, *blocks: bytes, position: int | None = 0) -> list[Event]:
    return [ClipStarted(number, position), *blocks, ClipEnded(number)]


async def test_clips_fill_the_indexes_asked_for_in_their_order():
    sinks = Sinks()
    router = ClipRouter(a_call(1, 3), sinks)
    await router.take(a_clip(0, b"one") + a_clip(1, b"two"))
    assert sinks.finished == {1: b"one", 3: b"two"}
    assert (router.delivered, router.problems) == (2, [])


async def test_small_pieces_are_written_as_one_block():
    sinks = Sinks()
    await ClipRouter(a_call(0), sinks, block_bytes=100).take(a_clip(0, *[b"xyz"] * 80))
    assert [len(block) for block in sinks.opened[0].blocks] == [102, 102, 36]


async def test_a_sink_is_asked_for_when_audio_comes_and_not_before():
    sinks = Sinks()
    router = ClipRouter(a_call(0), sinks, block_bytes=4)
    await router.take([ClipStarted(0, 0)])
    assert sinks.opened == {}
    await router.take([b"RIFF"])
    assert sinks.states == {0: "open"}


async def test_clips_beyond_those_asked_for_are_dropped():
    sinks = Sinks()
    router = ClipRouter(a_call(0), sinks)
    await router.take(a_clip(0, b"one") + a_clip(1, b"two") + [ClipStarted(2, 2), ClipFailed(2, "bad")])
    assert sinks.finished == {0: b"one"}
    assert (router.delivered, router.problems) == (1, [])


async def test_a_seeded_clip_goes_where_its_place_in_the_answer_says():
    sinks = Sinks()
    router = ClipRouter(a_call(1, 2, 3, seed=7), sinks)
    await router.take(a_clip(0, b"second", position=1) + a_clip(1, b"third", position=2))
    assert sinks.finished == {2: b"second", 3: b"third"}


@pytest.mark.parametrize("position", [0, 4])
async def test_a_seeded_clip_in_no_place_of_its_own_is_dropped(position):
    sinks = Sinks()
    router = ClipRouter(a_call(0, 1, seed=7), sinks)
    await router.take(a_clip(0, b"first", position=0) + a_clip(1, b"stray", position=position))
    assert sinks.finished == {0: b"first"}


async def test_a_seeded_clip_outside_any_list_is_the_first():
    sinks = Sinks()
    await ClipRouter(a_call(2, seed=7), sinks).take(a_clip(0, b"only", position=None))
    assert sinks.finished == {2: b"only"}


async def test_an_empty_clip_is_a_problem_without_a_sink():
    sinks = Sinks()
    router = ClipRouter(a_call(0, 1), sinks)
    await router.take(a_clip(0) + a_clip(1, b"two"))
    assert sinks.states == {1: "finished"}
    assert [problem.code for problem in router.problems] == [ErrorCode.MODEL_ANSWER_INVALID]


async def test_a_clip_that_is_no_base64_is_withdrawn_and_the_next_one_kept():
    sinks = Sinks()
    router = ClipRouter(a_call(0, 1), sinks, block_bytes=1)
    await router.take([ClipStarted(0, 0), b"half", ClipFailed(0, "a comma"), *a_clip(1, b"two")])
    assert sinks.states == {0: "aborted", 1: "finished"}
    assert router.problems[0].fault is AttemptFault.BROKEN
    assert "a comma" in (router.problems[0].internal or "")


@pytest.mark.parametrize("where", ["write_error", "finish_error"])
async def test_a_sink_that_refuses_its_audio_loses_its_clip_only(where):
    refusal = faults.bad_answer("not a WAV")
    sinks = Sinks(RecordingSink(0, **{where: refusal}))
    router = ClipRouter(a_call(0, 1), sinks, block_bytes=1)
    await router.take([ClipStarted(0, 0), b"a", b"b", b"c", ClipEnded(0), *a_clip(1, b"two")])
    assert sinks.states == {0: "aborted", 1: "finished"}
    assert sinks.opened[0].aborts == 1
    assert (router.delivered, router.problems) == (1, [refusal])


@pytest.mark.parametrize("where", ["write_error", "finish_error"])
async def test_storage_trouble_passes_through_and_the_sink_is_aborted(where):
    sinks = Sinks(RecordingSink(0, **{where: StorageError("disk full")}))
    router = ClipRouter(a_call(0, 1), sinks)
    with pytest.raises(StorageError, match="disk full"):
        await router.take(a_clip(0, b"one"))
    await router.close()
    assert sinks.states == {0: "aborted"}
    assert router.delivered == 0


async def test_closing_aborts_the_open_sink_once():
    sinks = Sinks()
    router = ClipRouter(a_call(0), sinks, block_bytes=1)
    await router.take([ClipStarted(0, 0), b"half"])
    await router.close()
    await router.close()
    assert sinks.opened[0].aborts == 1


async def test_closing_leaves_finished_clips_alone():
    sinks = Sinks()
    router = ClipRouter(a_call(0), sinks)
    await router.take(a_clip(0, b"one"))
    await router.close()
    assert sinks.opened[0].aborts == 0


async def test_nothing_more_is_taken_for_a_clip_that_was_closed():
    sinks = Sinks()
    router = ClipRouter(a_call(0), sinks, block_bytes=1)
    await router.take([ClipStarted(0, 0), b"half"])
    await router.close()
    await router.take([b"more", ClipEnded(0)])
    assert sinks.opened[0].sound == b"half"


async def test_an_abort_that_fails_is_logged_and_no_more(caplog):
    sinks = Sinks(RecordingSink(0, abort_error=StorageError("x", internal="bucket gone")))
    router = ClipRouter(a_call(0), sinks, block_bytes=1)
    await router.take([ClipStarted(0, 0), b"half"])
    await router.close()
    assert "bucket gone" in caplog.text


async def test_an_abort_that_has_a_bug_is_not_hidden():
    sinks = Sinks(RecordingSink(0, abort_error=ZeroDivisionError()))
    router = ClipRouter(a_call(0), sinks, block_bytes=1)
    await router.take([ClipStarted(0, 0), b"half"])
    with pytest.raises(ZeroDivisionError):
        await router.close()


async def test_an_abort_goes_on_to_its_end_however_often_it_is_cancelled():
    sink = RecordingSink(0, hold_abort=asyncio.Event())
    router = ClipRouter(a_call(0), Sinks(sink), block_bytes=1)
    await router.take([ClipStarted(0, 0), b"half"])
    sink.entered.clear()
    closing = asyncio.create_task(router.close())
    await sink.entered.wait()
    for _ in range(3):
        closing.cancel()
        await asyncio.sleep(0)
    assert not closing.done()
    sink.hold_abort.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert sink.state == "aborted"
