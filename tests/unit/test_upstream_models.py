"""Which paid calls would yield the missing clips, and what is kept of an answer. Pure."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import ModelKind, MusicSpec
from gateway.ports import ModelCall
from gateway.upstream.client import VertexClient
from gateway.upstream.lyria2 import Lyria2
from gateway.upstream.musicgen import MusicGen
from gateway.upstream.prediction import METADATA_LIMIT_BYTES, metadata_of
from gateway.upstream.seeds import SEED_COUNT, seed_of
from tests.clock import SetClock
from tests.stores import FixedToken

UNSEEDED = MusicSpec("p", sample_count=4)
SEEDED = MusicSpec("p", sample_count=4, seed=100)


@pytest.fixture(params=[Lyria2, MusicGen])
def model(request):
    return request.param(the_client())


def the_client() -> VertexClient:
    return VertexClient(None, FixedToken(), None, SetClock())  # planning makes no call


def test_models_know_their_kind():
    assert (Lyria2(the_client()).kind, MusicGen(the_client()).kind) == (ModelKind.LYRIA2, ModelKind.MUSICGEN)


@pytest.mark.parametrize("spec", [UNSEEDED, SEEDED])
def test_nothing_missing_needs_no_call(model, spec):
    assert model.calls(spec, []) == ()


def test_without_a_seed_one_call_makes_all_the_missing_clips(model):
    assert model.calls(UNSEEDED, [0, 2, 3]) == (ModelCall(UNSEEDED, (0, 2, 3), None),)


def test_lyria_needs_a_call_for_each_seeded_clip():
    assert Lyria2(the_client()).calls(SEEDED, [0, 2]) == (
        ModelCall(SEEDED, (0,), 100),
        ModelCall(SEEDED, (2,), 102),
    )


def test_musicgen_makes_seeded_neighbours_in_one_call():
    assert MusicGen(the_client()).calls(SEEDED, [1, 2, 3]) == (ModelCall(SEEDED, (1, 2, 3), 101),)


def test_musicgen_needs_a_call_for_each_seeded_clip_that_stands_alone():
    assert MusicGen(the_client()).calls(SEEDED, [0, 2]) == (
        ModelCall(SEEDED, (0,), 100),
        ModelCall(SEEDED, (2,), 102),
    )


def test_a_batch_never_runs_past_the_last_seed():
    spec = MusicSpec("p", sample_count=2, seed=SEED_COUNT - 1)
    for model in (Lyria2(the_client()), MusicGen(the_client())):
        assert [call.seed for call in model.calls(spec, [0, 1])] == [SEED_COUNT - 1, 0]


def test_the_last_seeds_still_make_a_batch():
    spec = MusicSpec("p", sample_count=2, seed=SEED_COUNT - 2)
    assert len(MusicGen(the_client()).calls(spec, [0, 1])) == 1


@given(
    seed=st.one_of(st.none(), st.integers(0, SEED_COUNT - 1)),
    missing=st.sets(st.integers(0, 3)).map(sorted),
)
def test_each_missing_clip_is_in_one_call_with_the_seed_that_is_its_own(seed, missing):
    spec = MusicSpec("p", sample_count=4, seed=seed)
    for model in (Lyria2(the_client()), MusicGen(the_client())):
        calls = model.calls(spec, missing)
        assert [index for call in calls for index in call.clip_indexes] == missing
        for call in calls:
            for place, index in enumerate(call.clip_indexes):
                expected = None if seed is None else seed_of(seed, index)
                assert expected == (None if call.seed is None else call.seed + place)


# What is kept of an answer.


def test_an_answer_is_kept_less_its_audio():
    document = {"predictions": [{"audioContent": "@clip:0"}], "model": "m"}
    assert json.loads(metadata_of(document)) == document


def test_no_answer_is_kept_as_an_empty_object():
    assert metadata_of(None) == "{}"


@pytest.mark.parametrize("document", [{"model": "m" * 900, "x": "y" * 20_000}, ["z" * 20_000]])
def test_of_a_long_answer_only_names_and_size_are_kept(document):
    kept = json.loads(metadata_of(document))
    assert kept.pop("truncated_from_bytes") > METADATA_LIMIT_BYTES
    assert kept == ({"model": "m" * 500} if isinstance(document, dict) else {})


def test_the_bound_is_on_bytes_not_characters():
    assert len(metadata_of({"x": "é" * 9000}).encode()) <= METADATA_LIMIT_BYTES
