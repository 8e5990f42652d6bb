"""What the emulator refuses, and in whose words: the checks of Google's front end."""

import json

import pytest

from gateway.emulator import vertex
from gateway.emulator.pages.lyria2 import Lyria2Page
from gateway.emulator.pages.musicgen import MusicGenPage
from gateway.emulator.pages.page import Page
from gateway.emulator.vertex import PredictRequest, VertexError, mostly_foreign_script

LYRIA, MUSICGEN = Lyria2Page(), MusicGenPage()
RESOURCE = "projects/p/locations/l/publishers/google/models/lyria-002"


def read(page: Page, instance=None, parameters=None, **more) -> PredictRequest:
    document = {"instances": [{"prompt": "a quiet song"} | (instance or {})]} | more
    if parameters is not None:
        document["parameters"] = parameters
    return page.read(RESOURCE, json.dumps(document).encode())


def refusal(page: Page, body) -> VertexError:
    with pytest.raises(VertexError) as caught:
        page.read(RESOURCE, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.http_status == 400
    assert caught.value.status == "INVALID_ARGUMENT"
    return caught.value


def test_a_prompt_alone_asks_for_one_clip_without_a_seed():
    asked = read(LYRIA)
    assert (asked.prompt, asked.negative_prompt, asked.seed, asked.sample_count) == (
        "a quiet song",
        "",
        None,
        1,
    )
    assert asked.duration_s is None


@pytest.mark.parametrize(
    ("instance", "parameters"),
    [
        ({}, {"sample_count": 3}),
        ({"sample_count": 3}, {}),
        ({}, {"sampleCount": 3}),
        ({"sample_count": 3.0}, None),
    ],
)
def test_the_count_is_read_from_all_three_places_that_googles_code_uses(instance, parameters):
    assert read(LYRIA, instance, parameters).sample_count == 3


def test_counts_that_contradict_each_other_are_refused():
    with pytest.raises(VertexError, match="Conflicting"):
        read(LYRIA, {"sample_count": 2}, {"sample_count": 3})


def test_a_seed_with_one_clip_passes():
    assert read(LYRIA, {"seed": 7}, {"sample_count": 1}).seed == 7


def test_a_seed_with_several_clips_is_refused():
    with pytest.raises(VertexError, match="`seed` and `sample_count`"):
        read(LYRIA, {"seed": 7}, {"sample_count": 2})


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 5.0])
def test_seeds_are_unsigned_32_bit_and_may_come_as_doubles(seed):
    assert read(LYRIA, {"seed": seed}).seed == int(seed)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7", True, [7], 1e400])
def test_other_seeds_are_refused(seed):
    refusal(LYRIA, {"instances": [{"prompt": "x", "seed": seed}]})


@pytest.mark.parametrize("count", [0, 5, 1.5, "2", True])
def test_counts_outside_one_to_four_are_refused(count):
    refusal(LYRIA, {"instances": [{"prompt": "x"}], "parameters": {"sample_count": count}})


@pytest.mark.parametrize("prompt", ["", "  \n", 7, None, ["x"]])
def test_a_prompt_must_be_text_with_something_in_it(prompt):
    refusal(LYRIA, {"instances": [{"prompt": prompt}]})


def test_a_negative_prompt_must_be_text():
    assert (
        "instances[0].negative_prompt"
        in refusal(LYRIA, {"instances": [{"prompt": "x", "negative_prompt": 3}]}).message
    )


@pytest.mark.parametrize("instances", [None, [], {}, "x", [{"prompt": "a"}, {"prompt": "b"}], ["x"]])
def test_exactly_one_instance_is_taken(instances):
    refusal(LYRIA, {"instances": instances})


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"instances": [{"prompt": "x"}], "bpm": 1}, 'Unknown name "bpm": Cannot find field.'),
        (
            {"instances": [{"prompt": "x", "bpm": 1}]},
            "Unknown name \"bpm\" at 'instances[0]': Cannot find field.",
        ),
        (
            {"instances": [{"prompt": "x"}], "parameters": {"duration": 1}},
            "Unknown name \"duration\" at 'parameters': Cannot find field.",
        ),
    ],
)
def test_unknown_names_are_refused_as_google_words_it(document, place):
    error = refusal(LYRIA, document)
    assert error.message == f"Invalid JSON payload received. {place}"
    detail = error.body()["error"]["details"][0]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["description"] == error.message


def test_every_unknown_name_is_told():
    error = refusal(LYRIA, {"instances": [{"prompt": "x", "a": 1, "b": 2}]})
    assert error.message.count("Unknown name") == 2


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1", b'{"a": 1 b}', b"\xff\xfe", b"[" * 20_000, b'{"a": NaN}', b"7"]
)
def test_a_body_that_is_no_json_object_is_refused(body):
    refusal(LYRIA, body)


def test_a_syntax_error_is_pointed_at():
    lines = refusal(LYRIA, b'{"instances": [}').message.splitlines()
    assert lines[1] == '{"instances": [}'
    assert lines[2].index("^") == 15


def test_labels_are_allowed_and_must_be_text():
    assert read(LYRIA, labels={"team": "a"}).labels == {"team": "a"}
    refusal(LYRIA, {"instances": [{"prompt": "x"}], "labels": {"team": 1}})


def test_lyria_speaks_english_only():
    error = refusal(LYRIA, {"instances": [{"prompt": "静かな夜のピアノ"}]})
    assert "Unsupported language detected" in error.message
    assert error.blocked


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("quiet piano", False),
        ("café déjà vu", False),
        ("тихая музыка", True),
        ("120 !!", False),
        ("lofi 音", False),
    ],
)
def test_a_foreign_script_is_one_with_most_letters_not_latin(text, foreign):
    assert mostly_foreign_script(text) is foreign


def test_musicgen_takes_length_count_and_seed_together():
    asked = read(
        MUSICGEN,
        {"negative_prompt": "drums"},
        {"duration_seconds": 300, "sample_count": 4, "seed": 9},
    )
    assert (asked.duration_s, asked.sample_count, asked.seed, asked.negative_prompt) == (300, 4, 9, "drums")


def test_musicgen_defaults_to_thirty_seconds():
    assert read(MUSICGEN).duration_s == 30


@pytest.mark.parametrize("duration", [0, 301, 2.5, "30", True])
def test_musicgen_refuses_other_lengths(duration):
    refusal(MUSICGEN, {"instances": [{"prompt": "x"}], "parameters": {"duration_seconds": duration}})


def test_the_two_surfaces_do_not_share_their_fields():
    refusal(MUSICGEN, {"instances": [{"prompt": "x", "seed": 1}]})
    refusal(LYRIA, {"instances": [{"prompt": "x"}], "parameters": {"duration_seconds": 10}})


@pytest.mark.parametrize(
    ("error", "http_status", "status", "words"),
    [
        (vertex.recitation(), 400, "INVALID_ARGUMENT", "blocked by recitation checks"),
        (vertex.safety(), 400, "INVALID_ARGUMENT", "Prompt flag"),
        (vertex.unsupported_language(), 400, "INVALID_ARGUMENT", "Unsupported language"),
        (vertex.quota_exceeded("lyria-002"), 429, "RESOURCE_EXHAUSTED", "Quota exceeded"),
        (vertex.capacity_exhausted(), 429, "RESOURCE_EXHAUSTED", "Resource exhausted"),
        (vertex.model_not_found("m"), 404, "NOT_FOUND", "Publisher Model `m` was not found"),
        (vertex.internal_error(), 500, "INTERNAL", "Internal error"),
        (vertex.unauthenticated(), 401, "UNAUTHENTICATED", "authentication credential"),
    ],
)
def test_refusals_have_googles_status_and_words(error, http_status, status, words):
    body = error.body()["error"]
    assert (body["code"], body["status"]) == (http_status, status)
    assert words in body["message"]
