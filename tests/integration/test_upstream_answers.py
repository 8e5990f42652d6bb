"""What becomes of a 2xx answer: whole, in part, without clips, in any chunks, cut at any byte."""

import base64
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from gateway.errors import AttemptFault, ErrorCode, StorageError, UpstreamError
from gateway.families.lyria2 import LYRIA2
from gateway.model import MusicSpec
from gateway.ports import ModelReply
from gateway.upstream import faults
from tests.clock import SetClock
from tests.vertexstub import (
    LYRIA,
    MUSICGEN,
    TWO,
    Notes,
    RecordingSink,
    Say,
    Sinks,
    Stub,
    a_client,
    a_transport,
    answer_body,
    audio,
    failure,
    generate,
    http,
    lyria2,
    musicgen,
    prediction,
    start_stub,
    two_clips,
)


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with start_stub() as stub:
        yield stub


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture(params=["pulling", "plain"])
def transport(request) -> httpx.AsyncHTTPTransport:
    return a_transport(request.param)


# A whole answer.


@pytest.mark.parametrize("write_bytes", [1, 7, 100_000])
async def test_a_whole_answer_is_delivered_in_any_chunks(stub, transport, notes, write_bytes):
    sinks, body = Sinks(), two_clips()
    stub.will_say(Say(http(body), write_bytes=write_bytes))
    reply = await generate(stub, sinks, transport=transport, notes=notes)
    assert (reply.delivered, reply.error) == (2, None)
    assert sinks.finished == {0: audio(0), 1: audio(1)}
    assert json.loads(reply.provider_metadata) == {
        "predictions": [
            {"bytesBase64Encoded": "@clip:0", "mimeType": "audio/wav"},
            {"audioContent": "@clip:1", "mimeType": "audio/wav"},
        ],
        "model": "m",
    }
    assert notes.seen == [(LYRIA2, "ok", 0.0, len(body))]


async def test_large_clips_arrive_whole_and_in_large_blocks(stub, transport):
    sinks, sounds = Sinks(), [audio(0, 3_000_000), audio(1, 2_999_999)]
    stub.will_say(http(answer_body(*map(prediction, sounds))))
    reply = await generate(stub, sinks, transport=transport)
    assert reply.delivered == 2
    assert sinks.finished == dict(enumerate(sounds))
    assert all(len(block) >= 256 << 10 for block in sinks.opened[0].blocks[:-1])


async def test_a_chunked_answer_is_understood(stub, transport):
    body = two_clips()
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(body[i : i + 33]), body[i : i + 33]) for i in range(0, len(body), 33)
    )
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    stub.will_say(head + pieces + b"0\r\n\r\n")
    assert (await generate(stub, transport=transport)).delivered == 2


async def test_an_answer_compressed_unasked_is_understood(stub):
    stub.will_say(http(gzip.compress(two_clips()), headers=["Content-Encoding: gzip"]))
    assert (await generate(stub)).delivered == 2


async def test_an_answer_that_only_claims_to_be_compressed_is_broken(stub):
    stub.will_say(http(two_clips(), headers=["Content-Encoding: gzip"]))
    assert (await failure(stub)).fault is AttemptFault.BROKEN


async def test_a_connection_serves_one_call_after_another(stub, transport):
    stub.will_say(http(two_clips()), http(two_clips()))
    async with a_client(stub.url, transport) as client:
        model = lyria2(client)
        (call,) = model.calls(TWO, [0, 1])
        for _ in range(2):
            assert (await model.generate(LYRIA, call, Sinks(), deadline_s=20)).delivered == 2
    assert stub.connections == 1


async def test_the_time_a_call_took_is_told(stub, notes):
    clock = SetClock()

    class Slow(RecordingSink):
        async def finish(self) -> None:
            clock.advance(1.5)
            await super().finish()

    stub.will_say(http(two_clips()))
    await generate(stub, Sinks(Slow(0)), notes=notes, clock=clock)
    assert notes.seen[0][2] == 1.5


# Part of an answer.


async def test_an_answer_cut_at_any_byte_delivers_the_clips_that_were_whole(stub, transport):
    body = answer_body(prediction(audio(0)), prediction(audio(1), "audioContent"))
    strings = [base64.b64encode(audio(n)) + b'"' for n in (0, 1)]
    ends = [body.index(string) + len(string) for string in strings]
    async with a_client(stub.url, transport) as client:
        model = lyria2(client)
        (call,) = model.calls(TWO, [0, 1])
        for cut in range(len(body)):
            stub.will_say(Say(http(body[:cut], length=len(body)), then_close=True))
            sinks, whole = Sinks(), sum(end <= cut for end in ends)
            try:
                reply = await model.generate(LYRIA, call, sinks, deadline_s=20)
            except UpstreamError as error:
                reply = ModelReply(0, error, "{}")
            assert reply.delivered == whole
            assert sinks.finished == {n: audio(n) for n in range(whole)}
            assert "open" not in sinks.states.values()
            if whole == 2:
                assert reply.error is None
            else:
                assert reply.error is not None
                assert reply.error.fault is AttemptFault.UNKNOWN


async def test_a_reset_after_the_first_clip_keeps_it(stub, transport, notes):
    sinks = Sinks()
    body = answer_body(prediction(audio(0)), prediction(audio(1, 900_000)))
    stub.will_say(Say(http(body[:600_000], length=len(body)), then_reset=True))
    reply = await generate(stub, sinks, transport=transport, notes=notes)
    assert reply.delivered == 1
    assert reply.error is not None
    assert (reply.error.fault, reply.error.code) == (AttemptFault.UNKNOWN, ErrorCode.MODEL_UNAVAILABLE)
    assert sinks.finished == {0: audio(0)}
    assert notes.outcomes == ["unknown"]


async def test_a_body_that_ends_early_without_a_length_is_lost_not_broken(stub):
    stub.will_say(Say(http(two_clips()[:-5], length=None), then_close=True))
    reply = await generate(stub, spec=replace(TWO, sample_count=3))
    assert reply.delivered == 2
    assert reply.error is not None
    assert reply.error.fault is AttemptFault.UNKNOWN


async def test_rubbish_after_the_last_clip_takes_nothing_away(stub, notes):
    stub.will_say(http(two_clips() + b"]]"))
    reply = await generate(stub, notes=notes)
    assert (reply.delivered, reply.error, reply.provider_metadata) == (2, None, "{}")
    assert notes.outcomes == ["broken"]


# Fewer clips, and none.


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", ErrorCode.MODEL_ANSWER_INVALID),
        (b"[]", ErrorCode.MODEL_ANSWER_INVALID),
        (b"null", ErrorCode.MODEL_ANSWER_INVALID),
        (b'"text"', ErrorCode.MODEL_ANSWER_INVALID),
        (b'{"predictions": null}', ErrorCode.MODEL_ANSWER_INVALID),
        (b'{"predictions": "x"}', ErrorCode.MODEL_ANSWER_INVALID),
        (answer_body(), ErrorCode.MODEL_ANSWER_INVALID),
        (answer_body({}, None, 5), ErrorCode.MODEL_ANSWER_INVALID),
        (answer_body({"mimeType": "audio/wav"}), ErrorCode.MODEL_ANSWER_INVALID),
        (answer_body({"audioContent": None}), ErrorCode.MODEL_ANSWER_INVALID),
        (answer_body({"audioContent": ""}), ErrorCode.MODEL_ANSWER_INVALID),
        (answer_body({"audioContent": "AAA"}), ErrorCode.MODEL_ANSWER_INVALID),
        (answer_body({"music": "AAAA"}), ErrorCode.MODEL_ANSWER_INVALID),
        (
            answer_body({"error": {"code": 3, "message": "blocked by recitation checks"}}),
            ErrorCode.RECITATION_BLOCKED,
        ),
        (answer_body({"error": "Unsupported language detected."}), ErrorCode.LANGUAGE_UNSUPPORTED),
        (b'{"error": {"code": 8, "message": "Resource exhausted."}}', ErrorCode.MODEL_BUSY),
        (b"<html>hello</html>", ErrorCode.MODEL_ANSWER_INVALID),
        (b'{"predictions": []}}', ErrorCode.MODEL_ANSWER_INVALID),
    ],
)
async def test_an_answer_without_a_clip_is_an_error_that_says_why(stub, body, code):
    stub.will_say(http(body))
    assert (await failure(stub)).code is code


@pytest.mark.parametrize("body", [b"", b" ", b'{"predictions": ['])
async def test_an_answer_that_stops_although_its_length_is_right_was_lost_on_the_way(stub, body):
    stub.will_say(http(body))
    assert (await failure(stub)).fault is AttemptFault.UNKNOWN


@pytest.mark.parametrize(
    ("missing", "fault"),
    [
        ([], AttemptFault.BROKEN),
        ([{}], AttemptFault.BROKEN),
        ([{"audioContent": "AA*A"}], AttemptFault.BROKEN),
        ([{"error": {"message": "blocked by recitation checks"}}], AttemptFault.RECITATION),
        ([{"error": {"message": "Prompt flagged"}}, {"audioContent": "A"}], AttemptFault.REFUSED),
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_with_fewer_clips_than_asked_the_rest_is_explained(stub, missing, fault, first):
    found = [prediction(audio(0))]
    stub.will_say(http(answer_body(*(found + missing if first else missing + found))))
    sinks = Sinks()
    reply = await generate(stub, sinks, spec=replace(TWO, sample_count=3))
    assert reply.delivered == 1
    assert list(sinks.finished.values()) == [audio(0)]
    assert reply.error is not None
    assert reply.error.fault is fault


async def test_clips_beyond_those_asked_for_are_not_delivered(stub):
    sinks = Sinks()
    stub.will_say(http(answer_body(*(prediction(audio(n)) for n in range(5)))))
    reply = await generate(stub, sinks)
    assert (reply.delivered, reply.error) == (2, None)
    assert sinks.finished == {0: audio(0), 1: audio(1)}


async def test_a_seeded_batch_with_a_hole_keeps_each_clip_at_its_seed(stub):
    sinks = Sinks()
    stub.will_say(
        http(answer_body(prediction(audio(0)), {"error": {"message": "No."}}, prediction(audio(2))))
    )
    async with a_client(stub.url) as client:
        model = musicgen(client)
        (call,) = model.calls(MusicSpec("p", sample_count=4, seed=5), [1, 2, 3])
        reply = await model.generate(MUSICGEN, call, sinks, deadline_s=20)
    assert sinks.finished == {1: audio(0), 3: audio(2)}
    assert reply.delivered == 2


async def test_a_sink_that_refuses_its_audio_loses_one_clip_of_two(stub):
    sinks = Sinks(RecordingSink(0, finish_error=faults.bad_answer("not a WAV")))
    stub.will_say(http(two_clips()))
    reply = await generate(stub, sinks)
    assert sinks.states == {0: "aborted", 1: "finished"}
    assert reply.delivered == 1
    assert reply.error is not None
    assert reply.error.internal == "not a WAV"


async def test_when_every_sink_refuses_the_call_failed(stub):
    sinks = Sinks(*(RecordingSink(n, write_error=faults.bad_answer(f"no WAV {n}")) for n in (0, 1)))
    stub.will_say(http(two_clips()))
    assert (await failure(stub, sinks=sinks)).internal == "no WAV 0"
    assert sinks.states == {0: "aborted", 1: "aborted"}


async def test_storage_trouble_passes_through_with_the_sink_aborted_and_the_connection_closed(stub, notes):
    sinks = Sinks(RecordingSink(0, write_error=StorageError("disk full")))
    stub.will_say(Say(http(answer_body(prediction(audio(0, 600_000))), length=10_000_000), then_hang=True))
    with pytest.raises(StorageError):
        await generate(stub, sinks, notes=notes)
    await stub.hung_up.wait()
    assert sinks.states == {0: "aborted"}
    assert notes.outcomes == ["abandoned"]
