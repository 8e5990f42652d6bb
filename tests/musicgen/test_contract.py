"""The body of a prediction, and its answer."""

import base64
import itertools
import json
from typing import Any

import pytest
from musicgen_server import contract
from musicgen_server.contract import Clip, Order, Piece, Refusal

LEAST = {"instances": [{"prompt": "a"}]}


def parse(document: Any) -> Order:
    return contract.parse(json.dumps(document).encode())


def with_(**parameters: Any) -> dict[str, Any]:
    return LEAST | {"parameters": parameters}


def test_the_least_order() -> None:
    assert parse(LEAST) == Order(Piece("a", None, 30), 1, None, None)


def test_an_order_of_everything() -> None:
    document = {
        "instances": [{"prompt": "a", "negative_prompt": "b"}],
        "parameters": {
            "duration_seconds": 300,
            "sample_count": 4,
            "seed": 4294967295,
            "output_gcs_uri": "gs://bucket/a prefix/",
        },
    }
    assert parse(document) == Order(Piece("a", "b", 300), 4, 4294967295, "gs://bucket/a prefix/")


@pytest.mark.parametrize(
    "document",
    [
        with_(seed=None, duration_seconds=None, sample_count=None, output_gcs_uri=None),
        LEAST | {"parameters": None},
        {"instances": [{"prompt": "a", "negative_prompt": None}]},
        {"instances": [{"prompt": "a", "negative_prompt": " "}]},
        with_(output_gcs_uri=""),
    ],
)
def test_null_and_blank_are_as_absent(document: Any) -> None:
    assert parse(document) == parse(LEAST)


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'"text"', "The body: send a JSON object."),
        (b'{"instances": {"prompt": "a"}}', "exactly one"),
        (b'{"instances": []}', "exactly one"),
        (b'{"instances": [{"prompt": "a"}, {"prompt": "a"}]}', "exactly one"),
        (b'{"instances": ["a"]}', "instances[0]: send a JSON object."),
        (b'{"instances": [{"prompt": "a"}], "seed": 1}', "'seed' is not known"),
        (b'{"instances": [{"prompt": "a", "seed": 1}]}', "'seed' is not known"),
        (b'{"instances": [{}]}', "say in words what to play"),
        (b'{"instances": [{"prompt": ""}]}', "say in words what to play"),
        (b'{"instances": [{"prompt": null}]}', "say in words what to play"),
        (b'{"instances": [{"prompt": 7}]}', "instances[0].prompt: send a string."),
        (b'{"instances": [{"prompt": ["a"]}]}', "instances[0].prompt: send a string."),
        (b'{"instances": [{"prompt": "\\ud800"}]}', "half a character"),
        (b'{"instances": [{"prompt": "a", "negative_prompt": 1}]}', "negative_prompt: send a string."),
        (b'{"instances": [{"prompt": "a"}], "parameters": []}', "parameters: send a JSON object."),
    ],
)
def test_a_malformed_body_is_told_what_to_do(body: bytes, advice: str) -> None:
    with pytest.raises(Refusal) as caught:
        contract.parse(body)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    assert advice in caught.value.message


@pytest.mark.parametrize("prompt", ["prompt", "negative_prompt"])
def test_a_prompt_has_4000_characters_at_most(prompt: str) -> None:
    instance = {"prompt": "a", prompt: "ü" * 4_000}
    parse({"instances": [instance]})
    with pytest.raises(Refusal, match="it has 4001 characters; send at most 4000"):
        parse({"instances": [instance | {prompt: "ü" * 4_001}]})


BOUNDS = {"duration_seconds": (1, 300), "sample_count": (1, 4), "seed": (0, 4294967295)}


@pytest.mark.parametrize("name", BOUNDS)
def test_numbers_within_their_bounds(name: str) -> None:
    least, most = BOUNDS[name]
    assert parse(with_(**{name: least})) == parse(with_(**{name: float(least)}))
    parse(with_(**{name: most}))


@pytest.mark.parametrize(("name", "value"), [
    *itertools.product(BOUNDS, [True, False, "1", 1.5, -1, [1], {}, 1e300]),
    *((name, most + 1) for name, (_, most) in BOUNDS.items()),
    ("duration_seconds", 0),
    ("sample_count", 0),
])  # fmt: skip
def test_other_numbers(name: str, value: Any) -> None:
    least, most = BOUNDS[name]
    with pytest.raises(Refusal, match=f"parameters.{name}: send a whole number from {least} to {most}."):
        parse(with_(**{name: value}))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 5_000])
def test_numbers_that_are_none(number: str) -> None:
    with pytest.raises(Refusal) as caught:
        contract.parse(b'{"instances": [{"prompt": "a"}], "parameters": {"seed": %s}}' % number.encode())
    assert caught.value.code == 400


@pytest.mark.parametrize(
    "uri",
    ["bucket/prefix", "gs://", "gs://B/p", "s3://bucket", "gs://bucket/\n", 7, "gs://bucket/" + "p" * 800],
)
def test_places_that_are_none(uri: Any) -> None:
    with pytest.raises(Refusal, match=r"parameters\.output_gcs_uri: send gs://BUCKET/PREFIX"):
        parse(with_(output_gcs_uri=uri))


def test_seeds_follow_one_another_and_begin_again() -> None:
    order = parse(with_(seed=4294967294, sample_count=4))
    assert order.seeds(lambda below: 1 // 0) == [4294967294, 4294967295, 0, 1]


def test_seeds_are_drawn_one_by_one_where_none_is_given() -> None:
    drawn = iter([5, 9])
    assert parse(with_(sample_count=2)).seeds(lambda below: next(drawn)) == [5, 9]


@pytest.mark.parametrize("size_bytes", [44, 45, 46, 47, 1_000])
@pytest.mark.parametrize("samples", [1, 4])
def test_the_length_of_an_answer_is_known_before(size_bytes: int, samples: int) -> None:
    order = parse(with_(sample_count=samples, seed=4294967295, duration_seconds=300))
    audio = bytes(size_bytes)
    longest = contract.answer([Clip(4294967295, 300, size_bytes, audio=audio)] * samples)
    assert contract.inline_bytes(order, size_bytes) == len(longest)


def test_an_answer() -> None:
    clips = [Clip(1, 2, 3, audio=b"abc"), Clip(2, 2, 3, uri="gs://b/n")]
    about = {"mimeType": "audio/wav", "seconds": 2, "sizeBytes": 3}
    assert json.loads(contract.answer(clips)) == {
        "predictions": [
            {"bytesBase64Encoded": base64.b64encode(b"abc").decode(), "seed": 1, **about},
            {"gcsUri": "gs://b/n", "seed": 2, **about},
        ]
    }
