"""Bodies as objects: JSON, urlencoded and multipart, and everything that is none of them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request

from gateway.errors import BodyTooLarge, InvalidRequest, RequestError, UnsupportedMedia
from gateway.web.bodies import BODY_LIMIT_BYTES, has_body, parse_object, read_fields, read_json

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=cut"


def request(body: bytes | list[bytes], content_type: str | None, **headers: str) -> Request:
    """A request whose body arrives in these blocks."""
    blocks = [body] if isinstance(body, bytes) else body
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    if content_type is not None:
        raw.append((b"content-type", content_type.encode("latin-1")))

    async def messages() -> AsyncIterator[dict[str, Any]]:
        for block in blocks:
            yield {"type": "http.request", "body": block, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    arriving = messages()
    return Request({"type": "http", "method": "POST", "headers": raw}, receive=lambda: anext(arriving))


def part(name: str, value: bytes | str, *, filename: str = "", content_type: str = "") -> bytes:
    lines = f'--cut\r\nContent-Disposition: form-data; name="{name}"'
    lines += f'; filename="{filename}"' if filename else ""
    lines += f"\r\nContent-Type: {content_type}" if content_type else ""
    return lines.encode() + b"\r\n\r\n" + (value.encode() if isinstance(value, str) else value) + b"\r\n"


async def multipart(
    *parts: bytes, end: bytes = b"--cut--\r\n", content_type: str = MULTIPART
) -> dict[str, Any]:
    return await read_fields(request(b"".join(parts) + end, content_type))


async def form(body: bytes | str) -> dict[str, Any]:
    return await read_fields(request(body.encode() if isinstance(body, str) else body, FORM))


# Whether there is one


@pytest.mark.parametrize(
    ("headers", "there"),
    [
        ({}, False),
        ({"content_length": "0"}, False),
        ({"content_length": "2"}, True),
        ({"transfer_encoding": "chunked"}, True),
        ({"content_length": "0", "transfer_encoding": "chunked"}, True),
    ],
)
def test_a_body_is_announced_by_its_headers(headers: dict[str, str], there: bool) -> None:
    assert has_body(request(b"", JSON, **headers)) is there


# JSON


async def test_advice_is_of_the_request_at_hand() -> None:
    with pytest.raises(RequestError, match=r'like \{"name": "x"\}'):
        await read_json(request(b"[]", JSON), 'a JSON object, like {"name": "x"}')


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        (b"", "The body is empty; send a JSON object"),
        (b" \r\n", "The body is empty"),
        (b"\xef\xbb\xbf", "The body is empty"),
        (b"{", "not valid JSON"),
        (b'{"prompt": "x",}', "not valid JSON"),
        (b"{'prompt': 'x'}", "not valid JSON"),
        (b'{"prompt": "x"} {}', "not valid JSON: Extra data"),
        (b"[]", 'must be a JSON object, like {"prompt"'),
        (b'"prompt"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"41", "must be a JSON object"),
        (b'{"seed": NaN}', "NaN is not JSON"),
        (b'{"seed": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1, "a": 1}', "'a' is given twice"),
        (b'{"m": {"a": 1, "\\u0061": 2}}', "'a' is given twice"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "'\\ud800' is given twice"),
        (b'{"prompt": "\\ud83c"}', "not valid JSON"),
        (b'{"prompt": "\\udfb9\\ud83c"}', "not valid JSON"),
        (b'{"\\udfb9": "x"}', "not valid JSON"),
        (b'{"prompt": "\xff"}', "is not UTF-8"),
        (b'{"prompt": "\xed\xa0\x80"}', "is not UTF-8"),
        ('{"prompt": "x"}'.encode("utf-16"), "is not UTF-8"),
        ('{"prompt": "x"}'.encode("utf-32-le"), "not valid JSON"),
        (b'{"prompt": "a\0b"}', "not valid JSON: Invalid control character"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "a number has more than 400 digits"),
        (b'{"a":' * 13_000, "nested too deeply"),
        (b'{"a":' + b"[" * 60_000, "nested too deeply"),
    ],
)
async def test_what_is_not_a_json_object_is_told_why(body: bytes, advice: str) -> None:
    with pytest.raises(RequestError) as refused:
        await read_json(request(body, JSON))
    assert advice in refused.value.detail
    refused.value.detail.encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", {}),
        (b'\xef\xbb\xbf{"prompt": "x"}', {"prompt": "x"}),
        (b' {"prompt" : "x"}\n', {"prompt": "x"}),
        (b'{"prompt": "\\ud83c\\udfb9"}', {"prompt": "🎹"}),
        ('{"prompt": "🎹"}'.encode(), {"prompt": "🎹"}),
        (b'{"prompt": "\\\\ud800"}', {"prompt": "\\ud800"}),
        (b'{"seed": 41.0}', {"seed": 41.0}),
        (b'{"seed": 1e400}', {"seed": float("inf")}),
        (b'{"seed": ' + b"9" * 400 + b"}", {"seed": int("9" * 400)}),
    ],
)
async def test_json_is_read_as_it_stands(body: bytes, expected: dict[str, Any]) -> None:
    assert await read_json(request(body, JSON)) == expected


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
@example("\x7f")
def test_every_json_value_survives_in_an_object(value: Any) -> None:
    assert parse_object(json.dumps({"value": value}), "The body") == {"value": value}


@given(st.binary(max_size=60))
@example(b'{"\\uDBFF":')
def test_no_bytes_are_more_than_a_refusal(body: bytes) -> None:
    try:
        assert isinstance(parse_object(body, "The body"), dict)
    except RequestError as refused:
        refused.detail.encode()


# Content types


@pytest.mark.parametrize(
    "content_type",
    [JSON, "Application/JSON", "application/json;charset=utf-8", 'application/json; Charset="UTF-8"',
     "application/json; charset=us-ascii", "application/json; odd", "application/json;"],
)  # fmt: skip
async def test_json_may_be_named_in_any_of_these_ways(content_type: str) -> None:
    assert await read_json(request(b"{}", content_type)) == {}


@pytest.mark.parametrize(
    ("content_type", "advice"),
    [
        (None, "The request has no Content-Type; send application/json"),
        ("", "The request has no Content-Type"),
        ("text/json", "'text/json' is not read here"),
        ("application/json, text/plain", "is not read here"),
        ("application/json; charset=utf-16", "The charset 'utf-16' is not read here; send UTF-8."),
        ("application/json; charset=latin-1", "send UTF-8"),
        ("x" * 5000, "is not read here"),
        ("\xff/\xff", "is not read here"),
        (FORM, "send application/json."),
        (MULTIPART, "send application/json."),
    ],
)
async def test_another_content_type_is_told_what_is_read(content_type: str | None, advice: str) -> None:
    with pytest.raises(UnsupportedMedia) as refused:
        await read_json(request(b"{}", content_type))
    assert advice in refused.value.detail
    assert len(refused.value.detail) < 300


# Size


@pytest.mark.parametrize("content_type", [JSON, FORM, MULTIPART])
async def test_a_body_over_the_limit_is_refused_by_what_it_declares(content_type: str) -> None:
    too_much = str(BODY_LIMIT_BYTES + 1)
    with pytest.raises(BodyTooLarge):
        await read_fields(request([], content_type, content_length=too_much))


async def test_a_body_over_the_limit_is_refused_as_it_arrives() -> None:
    with pytest.raises(BodyTooLarge):
        await read_json(request([b" " * 40_000, b" " * 25_537], JSON))


@pytest.mark.parametrize("declared", ["0", "-1", "many", ""])
async def test_what_a_body_declares_is_no_proof(declared: str) -> None:
    with pytest.raises(BodyTooLarge):
        await read_json(request([b" " * BODY_LIMIT_BYTES, b"x"], JSON, content_length=declared))


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = b'{"a": 1}'
    padding = b" " * (BODY_LIMIT_BYTES - len(body))
    assert await read_json(request([body, padding], JSON, content_length=str(BODY_LIMIT_BYTES))) == {"a": 1}


# Urlencoded


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("prompt=warm+pads", {"prompt": "warm pads"}),
        ("prompt=caf%C3%A9", {"prompt": "café"}),
        ("prompt=café", {"prompt": "café"}),
        (
            "durationSeconds=30&sampleCount=41.0&seed=+0",
            {"durationSeconds": 30, "sampleCount": 41, "seed": 0},
        ),
        ("seed=-1", {"seed": -1}),
        ("seed=41.5", {"seed": "41.5"}),
        ("seed=1e3", {"seed": "1e3"}),
        ("seed=٣", {"seed": "٣"}),
        ("seed=", {"seed": ""}),
        ("seed=" + "9" * 16, {"seed": "9" * 16}),
        ("prompt=30", {"prompt": "30"}),
        ("metadata=%7B%22a%22%3A%22b%22%7D", {"metadata": {"a": "b"}}),
        ("body=%7B%22prompt%22%3A%22x%22%7D", {"prompt": "x"}),
        ("prompt", {"prompt": ""}),
        ("", {}),
    ],
)
async def test_a_form_is_read_with_its_integers_as_numbers(body: str, expected: dict[str, Any]) -> None:
    assert await form(body) == expected


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        (b"prompt=%FF", "The form is not percent-encoded UTF-8."),
        (b"prompt=\xff", "The form is not UTF-8."),
        (b"&".join(b"a%d=1" % n for n in range(65)), "more than 64 fields"),
        (b"metadata=x", "The field metadata is not valid JSON"),
        (b"metadata=", "The field metadata is empty"),
        (b"body=[]", "The part named body must be a JSON object"),
    ],
)
async def test_a_form_that_cannot_be_read_is_told_why(body: bytes, advice: str) -> None:
    with pytest.raises(RequestError) as refused:
        await form(body)
    assert advice in refused.value.detail


@pytest.mark.parametrize(
    "body", ["prompt=a&prompt=a", "prompt=a&body=%7B%22prompt%22%3A%22a%22%7D", 'body={"a":1}&body={"a":1}']
)
async def test_a_field_given_twice_is_a_conflict(body: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await form(body)
    assert refused.value.fields[0].code == "duplicate"


# Multipart


async def test_fields_and_body_part_count_alike() -> None:
    body = part("body", '{"durationSeconds": 30}', content_type=JSON)
    assert await multipart(part("prompt", "x"), part("seed", "41"), body) == {
        "prompt": "x",
        "seed": 41,
        "durationSeconds": 30,
    }


async def test_a_body_part_may_come_as_a_file() -> None:
    body = part("body", '\ufeff{"prompt": "x"}', filename="body.json", content_type=JSON)
    assert await multipart(body) == {"prompt": "x"}


async def test_two_body_parts_count_alike_where_they_do_not_conflict() -> None:
    assert await multipart(part("body", '{"prompt": "x"}'), part("body", '{"seed": 1}')) == {
        "prompt": "x",
        "seed": 1,
    }


@pytest.mark.parametrize(
    "parts",
    [
        [part("prompt", "a"), part("prompt", "b")],
        [part("prompt", "a"), part("body", '{"prompt": "a"}')],
        [part("body", '{"prompt": "a"}'), part("body", '{"prompt": "a"}')],
    ],
)
async def test_parts_that_conflict_are_refused(parts: list[bytes]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await multipart(*parts)
    assert [(field.field, field.code) for field in refused.value.fields] == [("prompt", "duplicate")]


async def test_a_file_in_place_of_a_field_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        await multipart(part("prompt", b"RIFF\xff", filename="a.wav", content_type="audio/wav"))
    assert [(field.field, field.code) for field in refused.value.fields] == [("prompt", "wrong_type")]


@pytest.mark.parametrize(
    ("parts", "options", "advice"),
    [
        ([part("prompt", "x")], {"content_type": "multipart/form-data"}, "Missing boundary"),
        ([part("prompt", "x")], {"content_type": "multipart/form-data; boundary="}, "cannot be read"),
        ([part("prompt", "x")], {"content_type": "multipart/form-data; boundary=other"}, "cannot be read"),
        (
            [part("prompt", "x")],
            {"content_type": f"multipart/form-data; boundary={'b' * 400}"},
            "cannot be read",
        ),
        ([part("prompt", "x")], {"end": b""}, "ends before its closing boundary"),
        ([part("prompt", "x"), b"--cut\r\nContent-"], {"end": b""}, "ends before its closing boundary"),
        ([part("prompt", b"\xff")], {}, "The multipart body is not UTF-8."),
        ([part("body", b"\xff", filename="b")], {}, "The part named body is not UTF-8."),
        ([part("body", "{")], {}, "The part named body is not valid JSON"),
        ([part("body", "")], {}, "The part named body is empty"),
        ([b"--cut\r\nX: y\r\n\r\nz\r\n"], {}, 'Content-Disposition header field "name"'),
        ([part(f"f{n}", "x") for n in range(65)], {}, "Too many fields"),
        ([b"nonsense"], {}, "cannot be read"),
    ],
)
async def test_multipart_that_cannot_be_read_is_told_why(
    parts: list[bytes], options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(RequestError) as refused:
        await multipart(*parts, **options)
    assert advice in refused.value.detail


async def test_multipart_in_another_charset_is_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        await multipart(part("prompt", "x"), content_type=f"{MULTIPART}; charset=utf-7")


@given(st.binary(max_size=80))
@example(b"--cut\r\n")
@example(b"--cut--")
async def test_no_multipart_is_more_than_a_refusal(body: bytes) -> None:
    try:
        assert isinstance(await multipart(body, end=b""), dict)
    except RequestError as refused:
        refused.detail.encode()
