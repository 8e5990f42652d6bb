"""Lyria 3 over the Interactions API: both shapes of an answer, its words, and what it refuses."""

from collections.abc import AsyncIterator

import pytest

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.families.family import ModelCall
from gateway.families.lyria3 import LYRIA3_CLIP, LYRIA3_PRO, lyria3_clip, lyria3_pro
from gateway.model import Deployment, MusicSpec
from gateway.ports import ModelReply
from gateway.upstream.client import VertexClient
from gateway.upstream.model import VertexModel
from gateway.upstream.objects import ObjectReader
from tests.emulator import RunningEmulator
from tests.soundness import decoded
from tests.vertexstub import Sinks, a_client

CLIP = Deployment("clip", LYRIA3_CLIP, "acme-music-prod", "global", None, 40_000, 40_000)
PRO = Deployment("pro", LYRIA3_PRO, "acme-music-prod", "global", None, 80_000, 80_000)
ONE = MusicSpec("a calm piano")


@pytest.fixture
async def client(emulator: RunningEmulator) -> AsyncIterator[VertexClient]:
    async with a_client(emulator.url) as client:
        yield client


async def song(
    client: VertexClient, sinks: Sinks, spec: MusicSpec = ONE, kind: Deployment = CLIP
) -> ModelReply:
    family = lyria3_clip() if kind is CLIP else lyria3_pro()
    model = VertexModel(client, family, ObjectReader(None))
    return await model.generate(kind, ModelCall(spec, (0,), None), sinks, deadline_s=30)


@pytest.mark.parametrize("shape", ["steps", "outputs"])
@pytest.mark.parametrize(
    "fault", [{}, {"data_first": True}, {"chunk_bytes": 997}, {"escaped": True}, {"whitespace": True}]
)
async def test_a_song_is_found_in_either_shape(
    emulator: RunningEmulator, client: VertexClient, shape: str, fault: dict[str, object]
) -> None:
    emulator.settings(interactions_shape=shape)
    emulator.script(fault)
    sinks = Sinks()
    reply = await song(client, sinks)
    assert (reply.delivered, reply.error) == (1, None)
    samples, rate_hz = decoded(sinks.finished[0])
    assert (rate_hz, samples.shape[1]) == (44_100, 2)
    assert reply.text is not None
    assert reply.text.startswith("[00:00.00] La la la")
    assert "A piece after these words: a calm piano" in reply.text


async def test_both_shapes_give_the_same_song(emulator: RunningEmulator, client: VertexClient) -> None:
    emulator.settings(default_seed=5)
    sounds = []
    for shape in ("steps", "outputs"):
        emulator.settings(interactions_shape=shape)
        sinks = Sinks()
        await song(client, sinks)
        sounds.append(sinks.finished[0])
    assert sounds[0] == sounds[1]
    assert sounds[0].startswith(b"ID3")
    assert b"c2pa" in sounds[0][:4000]


async def test_nothing_is_left_with_google(emulator: RunningEmulator, client: VertexClient) -> None:
    await song(client, Sinks())
    (call,) = emulator.calls()["calls"]
    assert call["store"] is False
    assert call["api_revision"] == "2026-05-20"


async def test_pro_is_told_how_long_to_be(emulator: RunningEmulator, client: VertexClient) -> None:
    emulator.settings(lyria3_pro_seconds=184)
    sinks = Sinks()
    await song(client, sinks, MusicSpec("a calm piano", duration_s=9), PRO)
    samples, rate_hz = decoded(sinks.finished[0])
    assert 9 <= len(samples) / rate_hz <= 12


async def test_words_without_a_song_are_a_refusal(emulator: RunningEmulator, client: VertexClient) -> None:
    emulator.script(
        {"interaction_status": "failed", "message": "All responses were blocked by recitation checks."}
    )
    with pytest.raises(UpstreamError) as told:
        await song(client, Sinks())
    assert (told.value.code, told.value.fault) == (ErrorCode.RECITATION_BLOCKED, AttemptFault.RECITATION)


@pytest.mark.parametrize("status", ["failed", "incomplete", "cancelled"])
async def test_an_interaction_that_did_not_complete_is_a_bad_answer(
    emulator: RunningEmulator, client: VertexClient, status: str
) -> None:
    emulator.script({"interaction_status": status})
    with pytest.raises(UpstreamError) as told:
        await song(client, Sinks())
    assert told.value.code is ErrorCode.MODEL_ANSWER_INVALID
    assert status in (told.value.internal or "")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"preset": "recitation"}, ErrorCode.RECITATION_BLOCKED),
        ({"preset": "safety"}, ErrorCode.SAFETY_BLOCKED),
        ({"preset": "language"}, ErrorCode.LANGUAGE_UNSUPPORTED),
        ({"preset": "quota"}, ErrorCode.MODEL_BUSY),
        ({"no_predictions": True}, ErrorCode.MODEL_ANSWER_INVALID),
        ({"unknown_field": True}, ErrorCode.MODEL_ANSWER_INVALID),
        ({"bad_base64": True}, ErrorCode.MODEL_ANSWER_INVALID),
        ({"cut_at_byte": 9_000}, ErrorCode.MODEL_UNAVAILABLE),
    ],
)
async def test_trouble_is_told_as_what_it_is(
    emulator: RunningEmulator, client: VertexClient, fault: dict[str, object], code: ErrorCode
) -> None:
    emulator.script(fault)
    with pytest.raises(UpstreamError) as told:
        await song(client, Sinks())
    assert told.value.code is code


async def test_credentials_beside_the_song_are_no_song(
    emulator: RunningEmulator, client: VertexClient
) -> None:
    """The older shape has them under the same name as the audio, and before it."""
    emulator.settings(interactions_shape="outputs")
    sinks = Sinks()
    await song(client, sinks)
    assert sinks.states == {0: "finished"}
