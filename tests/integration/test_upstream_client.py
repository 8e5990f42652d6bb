"""One call over a real socket: what is sent, what each kind of trouble becomes, what is told of it."""

import asyncio
import gzip
import json
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.upstream import faults
from gateway.upstream.client import ERROR_BODY_LIMIT_BYTES, VertexClient
from tests.clock import SetClock
from tests.vertexstub import (
    LYRIA,
    MUSICGEN,
    ONE,
    TOKEN,
    TRACEPARENT,
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


# What goes out.


async def test_a_call_carries_the_token_the_trace_and_no_wish_for_compression(stub, transport):
    stub.will_say(http(two_clips()))
    await generate(stub, transport=transport)
    (request,) = stub.requests
    assert request.line.startswith(
        "POST /v1/projects/acme-music-prod/locations/us-central1/publishers/google/"
    )
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["traceparent"] == TRACEPARENT
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"


async def test_without_a_token_none_is_sent(stub):
    stub.will_say(http(two_clips()))
    await generate(stub, token=None)
    assert "authorization" not in stub.requests[0].headers


@pytest.mark.parametrize("trace", [None, "", "00-abc", TRACEPARENT.upper(), TRACEPARENT + "\r\nX-Evil: 1"])
async def test_what_is_no_traceparent_is_not_passed_on(stub, trace):
    stub.will_say(http(two_clips()))
    async with a_client(stub.url) as client:
        model = lyria2(client)
        (call,) = model.calls(TWO, [0, 1])
        await model.generate(LYRIA, call, Sinks(), deadline_s=20, traceparent=trace)
    assert "traceparent" not in stub.requests[0].headers
    assert "x-evil" not in stub.requests[0].headers


@pytest.mark.parametrize(
    ("spec", "bodies"),
    [
        (ONE, [{"instances": [{"prompt": "a calm piano"}], "parameters": {"sample_count": 1}}]),
        (
            replace(TWO, negative_prompt="drums"),
            [
                {
                    "instances": [{"prompt": "a calm piano", "negative_prompt": "drums"}],
                    "parameters": {"sample_count": 2},
                }
            ],
        ),
        (
            replace(TWO, seed=7),
            [
                {"instances": [{"prompt": "a calm piano", "seed": 7}], "parameters": {}},
                {"instances": [{"prompt": "a calm piano", "seed": 8}], "parameters": {}},
            ],
        ),
    ],
)
async def test_lyria_gets_either_a_seed_or_a_count(stub, spec, bodies):
    async with a_client(stub.url) as client:
        model = lyria2(client)
        for call in model.calls(spec, range(spec.sample_count)):
            stub.will_say(http(two_clips()))
            await model.generate(LYRIA, call, Sinks(), deadline_s=20)
    assert [request.json for request in stub.requests] == bodies


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [
        (TWO, {"duration_seconds": 30, "sample_count": 2}),
        (replace(TWO, duration_s=300), {"duration_seconds": 300, "sample_count": 2}),
        (replace(TWO, duration_s=5, seed=7), {"duration_seconds": 5, "sample_count": 2, "seed": 7}),
    ],
)
async def test_musicgen_gets_length_count_and_seed_at_its_endpoint(stub, spec, parameters):
    stub.will_say(http(two_clips()))
    async with a_client(stub.url) as client:
        model = musicgen(client)
        (call,) = model.calls(replace(spec, negative_prompt="drums"), [0, 1])
        reply = await model.generate(MUSICGEN, call, Sinks(), deadline_s=20)
    assert reply.delivered == 2
    assert (
        stub.requests[0].path == "/v1/projects/acme-music-prod/locations/us-central1/endpoints/4711:predict"
    )
    assert stub.requests[0].json == {
        "instances": [{"prompt": "a calm piano", "negative_prompt": "drums"}],
        "parameters": parameters,
    }


# Errors with a status.


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        ("301 Moved Permanently", AttemptFault.MISCONFIGURED),
        ("400 Bad Request", AttemptFault.REFUSED),
        ("403 Forbidden", AttemptFault.MISCONFIGURED),
        ("429 Too Many Requests", AttemptFault.BUSY),
        ("500 Internal Server Error", AttemptFault.BROKEN),
        ("503 Service Unavailable", AttemptFault.BUSY),
        ("504 Gateway Timeout", AttemptFault.UNKNOWN),
    ],
)
async def test_a_status_becomes_its_fault_and_no_second_attempt_is_made(
    stub, transport, notes, status, fault
):
    body = json.dumps({"error": {"message": f"on acme-music-prod with {TOKEN} at {stub.url}"}}).encode()
    stub.will_say(http(body, status, ["Retry-After: 9", f"Location: {stub.url}/elsewhere"]))
    error = await failure(stub, transport=transport, notes=notes)
    assert error.fault is fault
    assert error.retry_after_s == (9.0 if fault is AttemptFault.BUSY else None)
    assert len(stub.requests) == 1
    assert notes.outcomes == [fault.value]
    for secret in ("acme-music-prod", TOKEN, "127.0.0.1"):
        assert secret not in error.detail
    assert TOKEN not in (error.internal or "")


async def test_of_a_long_error_only_the_beginning_is_read(stub):
    stub.will_say(Say(http(b"x" * 400_000, "500 Oops", length=1 << 30), then_hang=True))
    error = await failure(stub)
    assert error.internal is not None
    assert len(error.internal) <= 2000
    await stub.hung_up.wait()


async def test_a_long_error_is_still_understood_within_its_bound(stub):
    message = "Prompt flag" + " " * (ERROR_BODY_LIMIT_BYTES // 2)
    stub.will_say(http(json.dumps({"error": {"message": message}}).encode(), "400 Bad Request"))
    assert (await failure(stub)).code is ErrorCode.SAFETY_BLOCKED


async def test_an_error_whose_body_is_cut_still_has_its_status(stub):
    stub.will_say(Say(http(b'{"error', "429 Slow Down", ["Retry-After: 3"], length=500), then_close=True))
    error = await failure(stub)
    assert (error.fault, error.retry_after_s) == (AttemptFault.BUSY, 3.0)


# No answer at all.


async def test_a_refused_connection_was_never_sent(transport, notes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    error = await failure(Stub(url), transport=transport, notes=notes)
    assert (error.fault, error.code) == (AttemptFault.NOT_SENT, ErrorCode.MODEL_UNAVAILABLE)
    assert notes.outcomes == ["not_sent"]


async def test_a_full_pool_was_never_sent(stub):
    stub.will_say(Say(b"", then_hang=True))
    async with a_client(stub.url, a_transport(max_connections=1), connect_timeout_s=0.05) as client:
        model = lyria2(client)
        (call,) = model.calls(ONE, [0])
        first = asyncio.create_task(model.generate(LYRIA, call, Sinks(), deadline_s=20))
        await stub.heard.wait()
        with pytest.raises(UpstreamError) as caught:
            await model.generate(LYRIA, call, Sinks(), deadline_s=20)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert caught.value.fault is AttemptFault.NOT_SENT


async def test_a_deadline_that_ends_before_there_is_a_connection_was_never_sent(stub):
    stub.will_say(Say(b"", then_hang=True))
    async with a_client(stub.url, a_transport(max_connections=1)) as client:
        model = lyria2(client)
        (call,) = model.calls(ONE, [0])
        first = asyncio.create_task(model.generate(LYRIA, call, Sinks(), deadline_s=20))
        await stub.heard.wait()
        with pytest.raises(UpstreamError) as caught:
            await model.generate(LYRIA, call, Sinks(), deadline_s=0.05)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert caught.value.fault is AttemptFault.NOT_SENT


@pytest.mark.parametrize("base", ["ftp://example.invalid", "http://", "no scheme at all"])
async def test_an_address_that_cannot_be_called_is_the_operators_mistake(base):
    assert (await failure(Stub(base))).fault is AttemptFault.MISCONFIGURED


async def test_an_address_that_may_change_is_asked_for_before_each_call(stub):
    async with start_stub() as moved_to:
        for place in (stub, moved_to):
            place.will_say(http(two_clips()))
        addresses = [stub.url, moved_to.url]

        async def locate() -> str:
            return addresses.pop(0)

        async with a_client("http://never.example", locate=locate) as client:
            model = lyria2(client)
            (call,) = model.calls(TWO, [0, 1])
            for _ in range(2):
                assert (await model.generate(LYRIA, call, Sinks(), deadline_s=20)).delivered == 2
        assert [len(place.requests) for place in (stub, moved_to)] == [1, 1]


async def test_an_address_that_cannot_be_had_is_no_call(stub, notes):
    async def locate() -> str:
        raise faults.not_sent("nobody is there")

    error = await failure(stub, locate=locate, notes=notes)
    assert error.fault is AttemptFault.NOT_SENT
    assert (notes.outcomes, stub.requests) == (["not_sent"], [])


async def test_waiting_for_an_address_ends_with_the_deadline(stub):
    async def locate() -> str:
        await asyncio.sleep(60)
        return stub.url

    error = await failure(stub, locate=locate, deadline_s=0.05)
    assert error.fault is AttemptFault.NOT_SENT


async def test_a_token_that_cannot_be_sent_is_the_operators_mistake_and_is_not_told(stub, transport):
    error = await failure(stub, transport=transport, token="se\ncret")
    assert error.fault is AttemptFault.MISCONFIGURED
    assert "cret" not in f"{error.detail}{error.internal}{error.__cause__}"


async def test_a_deployment_that_cannot_be_addressed_is_the_operators_mistake(stub):
    async with a_client(stub.url) as client:
        model = lyria2(client)
        (call,) = model.calls(ONE, [0])
        with pytest.raises(UpstreamError) as caught:
            await model.generate(replace(LYRIA, location="evil.example/"), call, Sinks(), deadline_s=20)
    assert caught.value.fault is AttemptFault.MISCONFIGURED
    assert "evil" not in caught.value.detail


async def test_trouble_with_tokens_passes_through(stub, notes):
    class NoTokens:
        async def token(self) -> str | None:
            raise faults.misconfigured("no credentials")

    async with httpx.AsyncClient() as client:
        model = lyria2(VertexClient(client, NoTokens(), stub.url, SetClock(), observer=notes))
        (call,) = model.calls(ONE, [0])
        with pytest.raises(UpstreamError, match="operator"):
            await model.generate(LYRIA, call, Sinks(), deadline_s=20)
    assert notes.outcomes == ["misconfigured"]
    assert stub.requests == []


@pytest.mark.parametrize(
    "say",
    [
        Say(b"", then_close=True),
        Say(b"", then_reset=True),
        Say(b"HTTP/1.1 200 OK\r\nContent-Le", then_close=True),
        Say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", then_close=True),
        Say(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", then_close=True),
    ],
)
async def test_a_connection_lost_after_sending_is_unknown(stub, transport, say, notes):
    stub.will_say(say)
    error = await failure(stub, transport=transport, notes=notes)
    assert (error.fault, error.code) == (AttemptFault.UNKNOWN, ErrorCode.MODEL_UNAVAILABLE)
    assert notes.outcomes == ["unknown"]


# Time.


@pytest.mark.parametrize("data", [b"", http(b"", length=100), http(b'{"predictions": [', length=100)])
async def test_a_deadline_after_sending_is_a_timeout_of_unknown_outcome(stub, transport, data):
    stub.will_say(Say(data, then_hang=True))
    error = await failure(stub, transport=transport, deadline_s=0.1)
    assert (error.fault, error.code) == (AttemptFault.UNKNOWN, ErrorCode.MODEL_TIMEOUT)
    await stub.hung_up.wait()


async def test_a_silence_longer_than_the_read_timeout_is_a_timeout(stub, transport):
    stub.will_say(Say(b"", then_hang=True))
    error = await failure(stub, transport=transport, read_timeout_s=0.05)
    assert (error.fault, error.code) == (AttemptFault.UNKNOWN, ErrorCode.MODEL_TIMEOUT)


async def test_a_deadline_keeps_the_clips_that_were_whole(stub):
    sinks, body = Sinks(), two_clips()
    stub.will_say(Say(http(body[:-60], length=len(body)), then_hang=True))
    reply = await generate(stub, sinks, deadline_s=0.2)
    assert sinks.finished == {0: audio(0)}
    assert reply.error is not None
    assert reply.error.code is ErrorCode.MODEL_TIMEOUT


async def test_a_sink_that_hangs_is_ended_by_the_deadline(stub):
    sinks = Sinks(RecordingSink(0, hold=asyncio.Event()))
    stub.will_say(http(two_clips()))
    error = await failure(stub, sinks=sinks, deadline_s=0.1)
    assert error.code is ErrorCode.MODEL_TIMEOUT
    assert sinks.states == {0: "aborted"}


async def test_a_timeout_of_the_sinks_own_is_not_taken_for_the_deadline(stub):
    sinks = Sinks(RecordingSink(0, write_error=TimeoutError("the sink's")))
    stub.will_say(http(two_clips()))
    with pytest.raises(TimeoutError, match="the sink's"):
        await generate(stub, sinks)
    assert sinks.states == {0: "aborted"}


async def test_an_http_error_of_the_sinks_own_is_not_taken_for_ours(stub):
    sinks = Sinks(RecordingSink(0, write_error=httpx.ReadError("the sink's")))
    stub.will_say(http(two_clips()))
    with pytest.raises(httpx.ReadError, match="the sink's"):
        await generate(stub, sinks)
    assert sinks.states == {0: "aborted"}


@pytest.mark.parametrize("held", [True, False])
async def test_a_cancelled_call_hangs_up_and_aborts_its_sink(stub, transport, notes, held):
    sink = RecordingSink(0, hold=asyncio.Event() if held else None)
    body = answer_body(prediction(audio(0, 600_000)))
    stub.will_say(Say(http(body[:500_000], length=len(body)), then_hang=True))
    call = asyncio.create_task(generate(stub, Sinks(sink), spec=ONE, transport=transport, notes=notes))
    await sink.entered.wait()
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await stub.hung_up.wait()
    assert sink.state == "aborted"
    assert notes.outcomes == ["abandoned"]


# Bounds.


async def test_an_answer_that_declares_itself_too_long_is_not_read(stub):
    stub.will_say(Say(http(b"", length=1 << 40), then_hang=True))
    error = await failure(stub)
    assert (error.fault, error.code) == (AttemptFault.BROKEN, ErrorCode.MODEL_ANSWER_INVALID)
    await stub.hung_up.wait()


async def test_an_answer_that_grows_too_long_is_refused_as_it_grows(stub, notes):
    sinks, body = Sinks(), answer_body(prediction(audio(0, 900_000)))
    stub.will_say(Say(http(body, length=None), then_close=True))
    error = await failure(stub, sinks=sinks, answer_limit_bytes=500_000, notes=notes)
    assert error.fault is AttemptFault.BROKEN
    assert set(sinks.states.values()) <= {"aborted"}
    assert notes.outcomes == ["broken"]


async def test_a_decompression_bomb_is_refused(stub):
    bomb = gzip.compress(answer_body(prediction(bytes(5_000_000))))
    assert len(bomb) < 50_000
    stub.will_say(http(bomb, headers=["Content-Encoding: gzip"]))
    assert (await failure(stub, answer_limit_bytes=1_000_000)).fault is AttemptFault.BROKEN


async def test_audio_prompt_and_token_stay_out_of_the_log(stub, caplog):
    caplog.set_level(logging.DEBUG, logger="gateway")
    stub.will_say(http(answer_body(prediction(audio(0)), {"audioContent": "AAA*"})))
    reply = await generate(stub)
    assert reply.error is not None
    for secret in (TOKEN, "a calm piano", prediction(audio(0))["bytesBase64Encoded"]):
        assert secret not in caplog.text + str(reply.error.internal)
