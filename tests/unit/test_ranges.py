"""RFC 9110 §14: which bytes a player gets."""

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.ranges import Selection, http_date, select

ETAG = '"abc"'
MODIFIED_MS = 1_700_000_000_750  # Tue, 14 Nov 2023 22:13:20 GMT


def ask(range_header: str | None, size_bytes: int = 1000, if_range: str | None = None) -> Selection:
    return select(
        size_bytes=size_bytes,
        etag=ETAG,
        modified_ms=MODIFIED_MS,
        range_header=range_header,
        if_range=if_range,
    )


@pytest.mark.parametrize(
    ("header", "start", "stop", "content_range"),
    [
        ("bytes=0-0", 0, 1, "bytes 0-0/1000"),
        ("bytes=0-499", 0, 500, "bytes 0-499/1000"),
        ("bytes=500-", 500, 1000, "bytes 500-999/1000"),
        ("bytes=0-", 0, 1000, "bytes 0-999/1000"),
        ("bytes=999-999", 999, 1000, "bytes 999-999/1000"),
        ("bytes=900-5000", 900, 1000, "bytes 900-999/1000"),
        ("bytes=-1", 999, 1000, "bytes 999-999/1000"),
        ("bytes=-500", 500, 1000, "bytes 500-999/1000"),
        ("bytes=-5000", 0, 1000, "bytes 0-999/1000"),
        ("Bytes=5-9", 5, 10, "bytes 5-9/1000"),
        (" bytes= 5-9 ", 5, 10, "bytes 5-9/1000"),
    ],
)
def test_a_single_range_is_given(header: str, start: int, stop: int, content_range: str):
    part = ask(header)
    assert part.status is HTTPStatus.PARTIAL_CONTENT
    assert (part.start, part.stop, part.length) == (start, stop, stop - start)
    assert part.content_range == content_range


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-5", "bytes=1-2,5-9", "items=0-5"),
        *("0-5", "bytes=--5", "bytes=5", "bytes=1.0-2", "bytes=+1-2", "bytes=\u0663-\u0664"),
        "bytes=" + "9" * 400 + "-",
    ],
)
def test_what_is_no_single_byte_range_gives_the_whole_file(header: str | None):
    part = ask(header)
    assert (part.status, part.start, part.stop) == (HTTPStatus.OK, 0, 1000)
    assert part.content_range is None


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=5000-6000", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_size(header: str):
    part = ask(header)
    assert part.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    assert part.length == 0
    assert part.content_range == "bytes */1000"


@pytest.mark.parametrize(
    ("header", "status"), [("bytes=0-", 416), ("bytes=0-0", 416), ("bytes=-0", 416), ("bytes=-5", 200)]
)
def test_an_empty_file_has_no_first_byte_but_an_empty_end(header: str, status: int):
    assert ask(header, size_bytes=0).status == status


@pytest.mark.parametrize("validator", [ETAG, f" {ETAG} ", "Tue, 14 Nov 2023 22:13:20 GMT"])
def test_if_range_with_our_validator_gives_the_range(validator: str):
    assert ask("bytes=0-4", if_range=validator).status is HTTPStatus.PARTIAL_CONTENT


@pytest.mark.parametrize(
    "validator",
    [
        '"other"',
        f"W/{ETAG}",
        "abc",
        "",
        "Tue, 14 Nov 2023 22:13:21 GMT",
        "Tue, 14 Nov 2023 22:13:19 GMT",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "soon",
    ],
)
def test_if_range_with_another_validator_gives_the_whole_file(validator: str):
    assert ask("bytes=0-4", if_range=validator).status is HTTPStatus.OK


def test_a_weak_etag_never_satisfies_if_range():
    part = select(size_bytes=9, etag='W/"a"', modified_ms=0, range_header="bytes=0-1", if_range='W/"a"')
    assert part.status is HTTPStatus.OK


def test_last_modified_is_written_as_http_wants_it():
    assert http_date(MODIFIED_MS) == "Tue, 14 Nov 2023 22:13:20 GMT"


@given(header=st.text(alphabet="bytes=0123456789-, ", max_size=30), size=st.integers(0, 50))
def test_whatever_is_asked_stays_within_the_file(header: str, size: int):
    part = ask(header, size_bytes=size)
    assert 0 <= part.start <= part.stop <= size
    if part.status is HTTPStatus.PARTIAL_CONTENT:
        assert part.length > 0
