"""The push parser against json + base64, for any document and any chunking."""

import base64
import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.audiojson import (
    AudioJson,
    AudioJsonError,
    ClipEnded,
    ClipFailed,
    ClipStarted,
    Event,
    Truncated,
)

FIELDS = ("bytesBase64Encoded", "audioContent")


def chunked(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


def bytewise(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


def read(chunks: list[bytes], **options) -> tuple[list[Event], object]:
    parser = AudioJson(options.pop("audio_fields", FIELDS), **options)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events, parser.finish()


def clips(events: list[Event]) -> list[bytes | None]:
    """The audio of each clip, None for one that failed."""
    found: list[bytes | None] = []
    for event in events:
        if isinstance(event, ClipStarted):
            assert event.number == len(found)
            found.append(b"")
        elif isinstance(event, bytes):
            assert event
            found[-1] += event
        elif isinstance(event, ClipFailed):
            assert event.number == len(found) - 1
            found[-1] = None
        else:
            assert event == ClipEnded(len(found) - 1)
    return found


def expected(document: object) -> tuple[list[bytes], object]:
    """The same by the plain way: audio strings in document order, and the document with placeholders."""
    found: list[bytes] = []

    def walk(value: object) -> object:
        if isinstance(value, list):
            return [walk(element) for element in value]
        if not isinstance(value, dict):
            return value
        out, seen = {}, False
        for key, element in value.items():
            if key in FIELDS and isinstance(element, str):
                if seen:
                    out[key] = "@discarded"
                else:
                    seen = True
                    out[key] = f"@clip:{len(found)}"
                    found.append(base64.b64decode(element, validate=True))
            else:
                out[key] = walk(element)
        return out

    return found, walk(document)


# Any document, any spelling, any chunking.

keys = st.one_of(st.sampled_from([*FIELDS, "audio", "audioConten", "mimeType", "error"]), st.text(max_size=6))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.text(max_size=12),
    st.sampled_from(['"', "\\", '\\\\"']),
)
audio = st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode())


@st.composite
def objects(draw: st.DrawFn, children: st.SearchStrategy[object]) -> dict[str, object]:
    out = {key: draw(children) for key in draw(st.lists(keys, max_size=4, unique=True))}
    for field in FIELDS:
        if field in out and draw(st.booleans()):
            out[field] = draw(audio)
        elif isinstance(out.get(field), str):
            out[field] = None
    return out


documents = st.recursive(scalars, lambda c: st.one_of(st.lists(c, max_size=4), objects(c)), max_leaves=12)


class Speller:
    """Writes JSON text with free whitespace and free escaping."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def write(self, node: object) -> str:
        if isinstance(node, str):
            return self._string(node)
        if isinstance(node, list):
            return "[" + ",".join(self._gap() + self.write(n) + self._gap() for n in node) + self._gap() + "]"
        if isinstance(node, dict):
            pairs = (
                f"{self._gap()}{self._string(k)}{self._gap()}:{self._gap()}{self.write(v)}{self._gap()}"
                for k, v in node.items()
            )
            return "{" + ",".join(pairs) + self._gap() + "}"
        return json.dumps(node)

    def _gap(self) -> str:
        return self._draw(st.sampled_from(["", "", " ", "\n", "\t \r\n"]))

    def _string(self, text: str) -> str:
        return '"' + "".join(self._draw(st.sampled_from(spellings(c))) for c in text) + '"'


def spellings(character: str) -> list[str]:
    choices = [json.dumps(character)[1:-1]]
    if ord(character) <= 0xFFFF:
        choices += [f"\\u{ord(character):04x}", f"\\u{ord(character):04X}"]
    if character == "/":
        choices.append("\\/")
    return [character] * 20 + choices if character.isalnum() else choices


@st.composite
def spelt_documents(draw: st.DrawFn) -> bytes:
    return (draw(st.sampled_from(["", " \n"])) + Speller(draw).write(draw(documents)) + "\n").encode()


@settings(max_examples=150, deadline=None)
@given(body=spelt_documents(), cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_any_document_in_any_chunks_reads_as_the_plain_way_reads_it(body, cuts):
    found, residue = expected(json.loads(body))
    events, document = read(chunked(body, cuts))
    assert clips(events) == found
    assert document == residue


@settings(max_examples=60, deadline=None)
@given(body=spelt_documents())
def test_one_byte_at_a_time_changes_nothing(body):
    whole_events, whole = read([body])
    events, document = read(bytewise(body))
    assert (clips(events), document) == (clips(whole_events), whole)


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_rubbish_is_an_error_or_json(body, cuts):
    try:
        _, document = read(chunked(body, cuts))
    except AudioJsonError:
        return
    assert json.loads(body) == document


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(alphabet='AQz09+/=\\u"n \néÿ', max_size=24),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_a_clip_is_delivered_only_if_the_plain_way_decodes_it(text, cuts):
    body = ('{"audioContent":"' + text + '"}').encode()
    try:
        plain = base64.b64decode(json.loads(body)["audioContent"], validate=True)
    except ValueError:
        plain = None
    parser, events = AudioJson(FIELDS), []
    try:
        for chunk in chunked(body, cuts):
            events += parser.feed(chunk)
        parser.finish()
    except AudioJsonError:
        assert plain is None
        return
    # Bits left over after the last byte, and padding beyond a group, are all that b64decode forgives.
    if plain is None or clips(events) == [None]:
        assert clips(events) == [None]
        assert plain is None or "=" in text
    else:
        assert clips(events) == [plain]


@settings(max_examples=150, deadline=None)
@given(body=spelt_documents().filter(lambda b: b.strip()[:1] in b"{["), cut=st.integers(0, 10_000))
def test_every_cut_is_noticed(body, cut):
    whole = body.rstrip()
    with pytest.raises(Truncated):
        read([whole[: cut % len(whole)]])


# The fast path: large clips, aligned and not.


@pytest.mark.parametrize("size_bytes", [1, 2, 3, 100_000, 100_001, 100_002])
@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 1000, 65_536])
def test_padding_and_chunk_edges_never_meet_badly(size_bytes, chunk_bytes):
    raw = bytes(i * 7 % 256 for i in range(size_bytes))
    body = json.dumps({"predictions": [{"audioContent": base64.b64encode(raw).decode()}]}).encode()
    events, document = read([body[i : i + chunk_bytes] for i in range(0, len(body), chunk_bytes)])
    assert clips(events) == [raw]
    assert document == {"predictions": [{"audioContent": "@clip:0"}]}


def test_a_large_chunk_is_decoded_in_one_block():
    raw = bytes(300_000)
    events, _ = read([json.dumps({"audioContent": base64.b64encode(raw).decode()}).encode()])
    assert [type(event) for event in events] == [ClipStarted, bytes, ClipEnded]


def test_slashes_escaped_throughout_are_read():
    raw = b"\xff" * 60_000
    text = base64.b64encode(raw).decode().replace("/", "\\/")
    events, _ = read(chunked(f'{{"audioContent":"{text}"}}'.encode(), list(range(0, 160_000, 777))))
    assert clips(events) == [raw]


# Where a clip lies.


def test_a_clip_tells_its_place_in_the_list_of_predictions():
    events, _ = read(
        [b'{"a":[1,2],"predictions":[{"error":{}},{"x":[],"audioContent":"AAAA"},{"audioContent":""}]}']
    )
    assert [e for e in events if isinstance(e, ClipStarted)] == [ClipStarted(0, 1), ClipStarted(1, 2)]


def test_a_clip_deep_within_a_prediction_has_the_predictions_place():
    events, _ = read([b'[{},{"audio":{"bytesBase64Encoded":"AAAA"}}]'])
    assert events[0] == ClipStarted(0, 1)


def test_a_clip_outside_any_list_has_no_place():
    assert read([b'{"bytesBase64Encoded":"AAAA"}'])[0][0] == ClipStarted(0, None)


@pytest.mark.parametrize(
    ("body", "residue"),
    [
        (b'{"audioContent":"AAAA","bytesBase64Encoded":"////"}', ["@clip:0", "@discarded"]),
        (b'{"bytesBase64Encoded":"AAAA","audioContent":"not base64 \\" at all"}', ["@clip:0", "@discarded"]),
        (b'{"audioContent":null,"bytesBase64Encoded":"AAAA"}', [None, "@clip:0"]),
        (b'{"audioContent":7,"bytesBase64Encoded":"AAAA"}', [7, "@clip:0"]),
    ],
)
def test_of_two_audio_strings_in_one_prediction_the_first_is_the_clip(body, residue):
    for chunks in ([body], bytewise(body)):
        events, document = read(chunks)
        assert clips(events) == [b"\0\0\0"]
        assert list(document.values()) == residue


def test_the_same_field_twice_yields_one_clip():
    events, document = read([b'{"audioContent":"AAAA","audioContent":"////"}'])
    assert clips(events) == [b"\0\0\0"]
    assert document == {"audioContent": "@discarded"}


@pytest.mark.parametrize("value", ["null", "12.5", "true", "[]", '["AAAA"]', '{"data":"AAAA"}'])
def test_an_audio_field_that_is_no_string_stays_in_the_residue(value):
    events, document = read([f'{{"audioContent": {value} }}'.encode()])
    assert events == []
    assert document == {"audioContent": json.loads(value)}


@pytest.mark.parametrize(
    "body",
    [
        b'["audioContent","AAAA"]',
        b'{"x":"audioContent","y":"AAAA"}',
        b'{"xaudioContent":"AAAA"}',
        b'{"audioContent\\u0000":"AAAA"}',
        b'{"AudioContent":"AAAA"}',
    ],
)
def test_what_only_looks_like_an_audio_field_is_left_alone(body):
    events, document = read(bytewise(body))
    assert events == []
    assert document == json.loads(body)


def test_a_field_name_in_escapes_is_still_that_field():
    name = "".join(f"\\u{ord(c):04x}" for c in "bytesBase64Encoded")
    events, _ = read(bytewise(f'{{"{name}":"AAAA"}}'.encode()))
    assert clips(events) == [b"\0\0\0"]


def test_other_field_names_may_be_chosen():
    assert clips(read([b'{"data":"AAAA","audioContent":"x"}'], audio_fields={"data"})[0]) == [b"\0\0\0"]


def test_a_placeholder_is_not_mistaken_for_audio():
    events, document = read([b'{"note":"@clip:0"}'])
    assert (events, document) == ([], {"note": "@clip:0"})


# A broken clip harms no other.


@pytest.mark.parametrize(
    "text",
    [
        "AAA", "A", "AAAAA", "AAA=AAAA", "AA==AAAA", "AA==A", "A===", "====", "=AAA", "AA=A", "AAAA====",
        "AA AA", "AA\\nAA", "AA-_", "AA*A", "AAAé", "AAAÿ", "\\u00e9AAA", "\\ud800AAA", 'AA\\"AA', "AA\\\\A",
        "AA\\xAA", "AA\\u00G0", "AA\\u00", "AA\0A", "AA\nAA", "data:audio/wav;base64,AAAA",
    ],
)  # fmt: skip
def test_a_clip_that_is_not_base64_fails_alone(text):
    body = ('[{"audioContent":"' + text + '"},{"audioContent":"////"}]').encode()
    for chunks in ([body], bytewise(body), chunked(body, list(range(0, 90, 3)))):
        events, document = read(chunks)
        assert clips(events) == [None, b"\xff\xff\xff"]
        assert document == [{"audioContent": "@clip:0"}, {"audioContent": "@clip:1"}]


def test_invalid_utf8_in_a_clip_fails_it():
    assert clips(read([b'{"audioContent":"AAA\xff"}'])[0]) == [None]


def test_text_after_padding_in_a_later_chunk_is_noticed():
    assert clips(read([b'{"audioContent":"AA==', b'AAAA"}'])[0]) == [None]


# A broken document.


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1}x', b'{"a":1}{"a":1}', b'{"a":1}]', b'{"a":1]', b"[}", b"]", b'{"audioContent":"AAAA"}}',
        b'{"audioContent" "AAAA"}', b'{"audioContent":"AAAA" "AAAA"}', b'{"audioContent":"AAAA",}',
        b'{"audioContent"::"AAAA"}', b'{"audioContent":5"AAAA"}', b'{"audioContent":"AAAA"5}', b'{"a":NaN}',
        b'["audioContent":"AAAA"]', b'{"a":"\xff"}', b'{"a":"\0"}', b'\0{"a":1}', b'{"a":1}\0', b'{\0"a":1}',
        b'{"a":"\n"}', b'{"a":"\\x"}', b'{"a":"\\ud800"}', b"\xff\xfe{\0}\0", b'{"a":1}\xef\xbb\xbf', b"nul",
        b"<html><body>502 Bad Gateway</body></html>", b'{"a\\x":"AAAA"}', b"'a'", b"{a:1}", b"[1,,2]",
    ],
)  # fmt: skip
def test_a_document_that_is_not_json_is_refused(body):
    for chunks in ([body], bytewise(body)):
        with pytest.raises(AudioJsonError) as caught:
            read(chunks)
        assert not isinstance(caught.value, Truncated)


@pytest.mark.parametrize(
    "body",
    [b"", b" \n", b"\xef\xbb\xbf", b"{", b'{"a', b'{"a\\', b'{"audioContent":"AA', b'{"audioContent":"AAAA"'],
)
def test_a_document_that_ends_early_is_truncated(body):
    for chunks in ([body], bytewise(body)):
        with pytest.raises(Truncated):
            read(chunks)


def test_a_byte_order_mark_in_front_is_forgiven():
    assert read(bytewise(b'\xef\xbb\xbf{"a":1}'))[1] == {"a": 1}


def test_clips_before_the_trouble_are_delivered_first():
    parser = AudioJson(FIELDS)
    events = parser.feed(b'{"audioContent":"AAAA"}]]]')
    assert clips(events) == [b"\0\0\0"]
    with pytest.raises(AudioJsonError):
        parser.feed(b" ")
    with pytest.raises(AudioJsonError):
        parser.finish()


# Bounds.


def test_audio_does_not_count_towards_the_residue():
    body = json.dumps({"audioContent": "A" * 4000}).encode()
    assert clips(read([body], residue_limit_bytes=64)[0]) == [bytes(3000)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"note":"' + b"x" * 5000 + b'"}',
        b'{"a":1}' + b" " * 5000,
        b"[" + b'{"audioContent":""},' * 500,
        b'{"' + b"k" * 5000 + b'":1}',
    ],
)
def test_too_much_besides_audio_is_refused_as_it_comes(body):
    for chunks in ([body], bytewise(body)):
        with pytest.raises(AudioJsonError, match="1000 bytes"):
            read([*chunks, b" "], residue_limit_bytes=1000)


def test_a_skipped_string_takes_no_room():
    body = b'{"audioContent":"","bytesBase64Encoded":"' + b"*" * 100_000 + b'"}'
    assert read(chunked(body, list(range(0, 100_000, 999))), residue_limit_bytes=200)[1]


def test_nesting_is_bounded():
    assert read([b"[" * 128 + b"]" * 128])
    with pytest.raises(AudioJsonError, match="deeper than 128"):
        read([b"[" * 129 + b"]" * 129])


def backslash_storm() -> Iterator[bytes]:
    for _ in range(2000):
        yield b"\\"


def test_a_storm_of_backslashes_costs_nothing_unusual():
    parser = AudioJson(FIELDS)
    parser.feed(b'{"audioContent":"')
    events = [event for chunk in backslash_storm() for event in parser.feed(chunk)]
    assert [type(event) for event in events] == [ClipFailed]
