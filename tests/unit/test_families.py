"""Which paid calls would yield the missing takes, what they ask for, and what is kept of an answer. Pure."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.families.family import SEED_COUNT, ModelCall, seed_of
from gateway.families.lyria2 import LYRIA2, Lyria2
from gateway.families.musicgen import MUSICGEN, MusicGen
from gateway.families.registry import FAMILIES
from gateway.model import MusicSpec
from gateway.upstream.model import METADATA_LIMIT_BYTES, metadata_of

UNSEEDED = MusicSpec("p", sample_count=4)
SEEDED = MusicSpec("p", sample_count=4, seed=100)


@pytest.fixture(params=[Lyria2, MusicGen])
def model(request):
    return request.param()


def test_models_know_their_kind():
    assert (Lyria2().traits.kind, MusicGen().traits.kind) == (LYRIA2, MUSICGEN)
    assert all(family.traits.kind == kind for kind, family in FAMILIES.items())


@pytest.mark.parametrize("spec", [UNSEEDED, SEEDED])
def test_nothing_missing_needs_no_call(model, spec):
    assert model.calls(spec, []) == ()


def test_without_a_seed_one_call_makes_all_the_missing_clips(model):
    assert model.calls(UNSEEDED, [0, 2, 3]) == (ModelCall(UNSEEDED, (0, 2, 3), None),)


def test_lyria_needs_a_call_for_each_seeded_clip():
    assert Lyria2().calls(SEEDED, [0, 2]) == (
        ModelCall(SEEDED, (0,), 100),
        ModelCall(SEEDED, (2,), 102),
    )


def test_musicgen_makes_seeded_neighbours_in_one_call():
    assert MusicGen().calls(SEEDED, [1, 2, 3]) == (ModelCall(SEEDED, (1, 2, 3), 101),)


def test_musicgen_needs_a_call_for_each_seeded_clip_that_stands_alone():
    assert MusicGen().calls(SEEDED, [0, 2]) == (
        ModelCall(SEEDED, (0,), 100),
        ModelCall(SEEDED, (2,), 102),
    )


def test_a_batch_never_runs_past_the_last_seed():
    spec = MusicSpec("p", sample_count=2, seed=SEED_COUNT - 1)
    for model in (Lyria2(), MusicGen()):
        assert [call.seed for call in model.calls(spec, [0, 1])] == [SEED_COUNT - 1, 0]


def test_the_last_seeds_still_make_a_batch():
    spec = MusicSpec("p", sample_count=2, seed=SEED_COUNT - 2)
    assert len(MusicGen().calls(spec, [0, 1])) == 1


@given(
    seed=st.one_of(st.none(), st.integers(0, SEED_COUNT - 1)),
    missing=st.sets(st.integers(0, 3)).map(sorted),
)
def test_each_missing_clip_is_in_one_call_with_the_seed_that_is_its_own(seed, missing):
    spec = MusicSpec("p", sample_count=4, seed=seed)
    for model in (Lyria2(), MusicGen()):
        calls = model.calls(spec, missing)
        assert [index for call in calls for index in call.takes] == missing
        for call in calls:
            for place, index in enumerate(call.takes):
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
