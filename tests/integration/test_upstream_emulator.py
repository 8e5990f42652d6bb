"""Our reading of Vertex AI against the emulator's, which shares no code with it: every kind of trouble."""

import tempfile
from collections.abc import AsyncIterator

import pytest

from gateway.audio.sound import Undecodable, open_sound
from gateway.audio.survey import look_at
from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.model import MusicSpec
from gateway.ports import ModelReply
from gateway.upstream import faults
from gateway.upstream.client import VertexClient
from tests.emulator import RunningEmulator
from tests.vertexstub import LYRIA, MUSICGEN, RecordingSink, Sinks, a_client, lyria2, musicgen

PROMPT = "A calm piano melody with soft strings in a large hall"
TWO = MusicSpec(PROMPT, sample_count=2)


class ProbingSink(RecordingSink):
    """Refuses what is no audio, as what becomes of takes does."""

    async def finish(self) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(self.sound)
            file.flush()
            try:
                with open_sound(file.fileno()) as reader:
                    self.facts = look_at(reader).facts
            except Undecodable as error:
                raise faults.bad_answer(str(error)) from error
        await super().finish()


def probing_sinks() -> Sinks:
    return Sinks(*(ProbingSink(index) for index in range(4)))


@pytest.fixture
async def client(emulator: RunningEmulator) -> AsyncIterator[VertexClient]:
    async with a_client(emulator.url) as client:
        yield client


async def lyria(
    client: VertexClient, sinks: Sinks, spec: MusicSpec = TWO, deadline_s: float = 30
) -> ModelReply:
    model = lyria2(client)
    (call,) = model.calls(spec, range(spec.sample_count))
    return await model.generate(LYRIA, call, sinks, deadline_s=deadline_s)


async def own(client: VertexClient, sinks: Sinks, spec: MusicSpec) -> ModelReply:
    model = musicgen(client)
    (call,) = model.calls(spec, range(spec.sample_count))
    return await model.generate(MUSICGEN, call, sinks, deadline_s=30)


async def test_lyria_delivers_what_was_asked_for(emulator, client):
    sinks = probing_sinks()
    reply = await lyria(client, sinks)
    assert (reply.delivered, reply.error) == (2, None)
    for sink in sinks:
        assert (sink.facts.sample_rate_hz, sink.facts.channels, sink.facts.duration_s) == (48_000, 2, 1.0)
    assert emulator.calls()["paid"] == 1


async def test_a_seeded_clip_is_the_same_whenever_it_is_asked_for(emulator, client):
    model, sounds = lyria2(client), []
    for seed, index in ((7, 1), (8, 0)):
        (call,) = model.calls(MusicSpec(PROMPT, sample_count=2, seed=seed), [index])
        sinks = probing_sinks()
        await model.generate(LYRIA, call, sinks, deadline_s=30)
        sounds += sinks.finished.values()
    assert sounds[0] == sounds[1]


async def test_musicgen_makes_a_seeded_batch_of_a_chosen_length_in_one_call(emulator, client):
    sinks = probing_sinks()
    reply = await own(client, sinks, MusicSpec(PROMPT, sample_count=2, seed=7, duration_s=2))
    assert reply.delivered == 2
    assert [sink.facts.duration_s for sink in sinks] == [2.0, 2.0]
    assert sinks.opened[0].sound != sinks.opened[1].sound
    assert emulator.calls()["paid"] == 1


async def test_the_second_clip_of_a_batch_can_be_had_alone(emulator, client):
    spec = MusicSpec(PROMPT, sample_count=2, seed=7, duration_s=1)
    batch, alone = probing_sinks(), probing_sinks()
    await own(client, batch, spec)
    model = musicgen(client)
    (call,) = model.calls(spec, [1])
    await model.generate(MUSICGEN, call, alone, deadline_s=30)
    assert alone.finished == {1: batch.finished[1]}


@pytest.mark.parametrize(
    "fault",
    [
        {"wrong_field": True},
        {"escaped": True},
        {"whitespace": True},
        {"chunk_bytes": 1000},
        {"escaped": True, "whitespace": True, "wrong_field": True, "chunk_bytes": 777},
        {"delay_s": 0.05},
    ],
)
async def test_an_odd_spelling_changes_nothing(emulator, client, fault):
    spec = MusicSpec(PROMPT, seed=3)
    plain, odd = probing_sinks(), probing_sinks()
    await lyria(client, plain, spec)
    emulator.script(fault)
    reply = await lyria(client, odd, spec)
    assert reply.error is None
    assert odd.finished == plain.finished
    assert emulator.queued_faults() == 0


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ({"preset": "recitation"}, AttemptFault.RECITATION, ErrorCode.RECITATION_BLOCKED),
        ({"preset": "safety"}, AttemptFault.REFUSED, ErrorCode.SAFETY_BLOCKED),
        ({"preset": "language"}, AttemptFault.REFUSED, ErrorCode.LANGUAGE_UNSUPPORTED),
        ({"preset": "quota"}, AttemptFault.BUSY, ErrorCode.MODEL_BUSY),
        ({"preset": "capacity"}, AttemptFault.BUSY, ErrorCode.MODEL_BUSY),
        ({"preset": "not_found"}, AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED),
        ({"preset": "internal"}, AttemptFault.BROKEN, ErrorCode.MODEL_UNAVAILABLE),
        ({"status": 400, "message": "No such luck."}, AttemptFault.REFUSED, ErrorCode.MODEL_REFUSED),
        ({"status": 401}, AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED),
        ({"status": 403}, AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED),
        ({"status": 408}, AttemptFault.UNKNOWN, ErrorCode.MODEL_TIMEOUT),
        (
            {"status": 502, "body": "<html>Bad Gateway</html>"},
            AttemptFault.UNKNOWN,
            ErrorCode.MODEL_UNAVAILABLE,
        ),
        ({"status": 503}, AttemptFault.BUSY, ErrorCode.MODEL_BUSY),
        ({"status": 504}, AttemptFault.UNKNOWN, ErrorCode.MODEL_TIMEOUT),
        ({"drop": True}, AttemptFault.UNKNOWN, ErrorCode.MODEL_UNAVAILABLE),
        ({"cut_at_byte": 5000}, AttemptFault.UNKNOWN, ErrorCode.MODEL_UNAVAILABLE),
        ({"cut_at_byte": 5000, "reset": True}, AttemptFault.UNKNOWN, ErrorCode.MODEL_UNAVAILABLE),
        ({"empty_predictions": True}, AttemptFault.BROKEN, ErrorCode.MODEL_ANSWER_INVALID),
        ({"no_predictions": True}, AttemptFault.BROKEN, ErrorCode.MODEL_ANSWER_INVALID),
        ({"unknown_field": True}, AttemptFault.BROKEN, ErrorCode.MODEL_ANSWER_INVALID),
        ({"not_audio": True, "fewer_clips": 1}, AttemptFault.BROKEN, ErrorCode.MODEL_ANSWER_INVALID),
        ({"bad_base64": True, "fewer_clips": 1}, AttemptFault.BROKEN, ErrorCode.MODEL_ANSWER_INVALID),
        ({"short_wav": True, "fewer_clips": 1}, AttemptFault.BROKEN, ErrorCode.MODEL_ANSWER_INVALID),
    ],
    ids=str,
)
async def test_trouble_without_a_clip_is_raised_as_what_it_is(emulator, client, fault, kind, code):
    emulator.script(fault)
    sinks = probing_sinks()
    with pytest.raises(UpstreamError) as caught:
        await lyria(client, sinks)
    assert (caught.value.fault, caught.value.code) == (kind, code)
    assert "open" not in sinks.states.values()
    assert sinks.finished == {}
    assert emulator.calls()["received"] == 1
    assert "acme-music-prod" not in caught.value.detail


@pytest.mark.parametrize(
    ("fault", "finished", "kind"),
    [
        ({"fewer_clips": 1}, [0], AttemptFault.BROKEN),
        ({"bad_base64": True}, [1], AttemptFault.BROKEN),
        ({"error_entries": [1]}, [0], None),
        ({"cut_at_byte": 400_000}, [0], AttemptFault.UNKNOWN),
        ({"truncate_json": True}, [0], AttemptFault.UNKNOWN),
    ],
    ids=str,
)
async def test_trouble_with_one_clip_leaves_the_other(emulator, client, fault, finished, kind):
    emulator.script(fault)
    sinks = probing_sinks()
    reply = await lyria(client, sinks)
    assert (reply.delivered, list(sinks.finished)) == (1, finished)
    assert reply.error is not None
    assert kind in (None, reply.error.fault)
    assert "open" not in sinks.states.values()


async def test_a_wait_asked_for_is_passed_on(emulator, client):
    emulator.script({"preset": "capacity", "retry_after": 17})
    with pytest.raises(UpstreamError) as caught:
        await lyria(client, probing_sinks())
    assert caught.value.retry_after_s == 17.0


async def test_a_model_that_hangs_is_left_at_the_deadline(emulator, client):
    emulator.script({"hang": True})
    with pytest.raises(UpstreamError) as caught:
        await lyria(client, probing_sinks(), deadline_s=0.3)
    assert (caught.value.fault, caught.value.code) == (AttemptFault.UNKNOWN, ErrorCode.MODEL_TIMEOUT)


async def test_a_long_answer_in_tiny_chunks_is_read(emulator, client):
    emulator.script({"chunk_bytes": 1})
    emulator.settings(lyria_seconds=0.05)
    assert (await lyria(client, probing_sinks(), MusicSpec(PROMPT))).delivered == 1
