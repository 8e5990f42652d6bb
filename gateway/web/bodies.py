"""A request's body as one JSON object, whether it came as JSON, as a form, or as multipart."""

import json
import re
from collections.abc import AsyncGenerator
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import orjson
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from gateway.errors import BodyTooLarge, FieldError, InvalidRequest, RequestError, UnsupportedMedia
from gateway.web.schemas import INTEGER_FIELDS, NUMBER_FIELDS

BODY_LIMIT_BYTES = 65_536
_FORM_FIELDS = 64
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}(\.0+)?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
# No field takes a number near this long; Python would refuse the longest in words about itself.
_NUMBER_CHARS = 400
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BOM = "\ufeff"
_EXAMPLE = 'a JSON object, like {"prompt": "…"}'
_JSON, _FORM, _MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
# us-ascii is UTF-8 that uses half of it.
_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii"})


def has_body(request: Request) -> bool:
    """Whether anything comes after the headers (RFC 9112 §6.3)."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


async def read_json(request: Request, example: str = _EXAMPLE) -> dict[str, Any]:
    """The object in a JSON body; ``example`` is what a caller is advised to send. Raises `RequestError`."""
    _require(request, (_JSON,))
    return parse_object(await _read(request), "The body", example)


async def read_json_or_nothing(request: Request) -> dict[str, Any]:
    """The object in a JSON body, or an empty one where there is no body. Raises `RequestError`."""
    body = await _read(request)
    if not body:
        return {}
    _require(request, (_JSON,))
    return parse_object(body, "The body")


async def read_fields(request: Request) -> dict[str, Any]:
    """The fields of a JSON, urlencoded or multipart body, integers of forms made numbers.

    A field or multipart part named ``body`` holds a JSON object whose fields count like the others. Raises
    `RequestError`.
    """
    media_type = _require(request, (_JSON, _FORM, _MULTIPART))
    body = await _read(request)
    if media_type == _JSON:
        return parse_object(body, "The body")
    pairs = await _multipart(request, body) if media_type == _MULTIPART else _urlencoded(body)
    return _merge(pairs)


def parse_object(body: bytes | str, what: str, example: str = _EXAMPLE) -> dict[str, Any]:
    """A JSON object, strictly (RFC 8259): UTF-8, no name twice, no NaN, no half of a surrogate pair.

    A byte order mark is passed over, as the RFC allows: some editors put one into every file. Raises
    `RequestError`.
    """
    text = _decoded(body, what).removeprefix(_BOM)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer)
        if _SURROGATE.search(text):
            # Python's parser lets half of a pair pass, and nothing later could store or send it.
            orjson.loads(text)
    except RecursionError:
        raise RequestError(f"{what} is nested too deeply.") from None
    except ValueError as error:
        if not text.strip():
            raise RequestError(f"{what} is empty; send {example}.") from None
        raise RequestError(f"{what} is not valid JSON: {_printable(str(error))}.") from None
    if not isinstance(value, dict):
        raise RequestError(f"{what} must be {example}.")
    return value


def _decoded(body: bytes | str, what: str) -> str:
    if isinstance(body, str):
        return body
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError(f"{what} is not UTF-8.") from None


def _require(request: Request, allowed: tuple[str, ...]) -> str:
    value, options = parse_options_header(request.headers.get("content-type", ""))
    media_type = value.decode("latin-1")
    if media_type not in allowed:
        got = f"{media_type[:100]!r} is not read here" if media_type else "The request has no Content-Type"
        raise UnsupportedMedia(f"{got}; send {' or '.join(allowed)}.")
    charset = options.get(b"charset", b"utf-8").lower()
    if charset not in _CHARSETS:
        given = charset.decode("latin-1")[:40]
        raise UnsupportedMedia(f"The charset {given!r} is not read here; send UTF-8.")
    return media_type


async def _read(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    body = bytearray()
    if declared.isdecimal() and int(declared[:20]) > BODY_LIMIT_BYTES:
        _too_large()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            _too_large()
    return bytes(body)


def _too_large() -> NoReturn:
    raise BodyTooLarge(f"A body has at most {BODY_LIMIT_BYTES} bytes here; send less.")


def _urlencoded(body: bytes) -> list[tuple[str, str]]:
    # Not only ASCII: `curl -d "prompt=café"` sends the bytes as they are.
    text = _decoded(body, "The form")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS)
    except UnicodeDecodeError:
        raise RequestError("The form is not percent-encoded UTF-8.") from None
    except ValueError:
        raise RequestError(f"The form has more than {_FORM_FIELDS} fields.") from None


async def _multipart(request: Request, body: bytes) -> list[tuple[str, str]]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    content_type = request.headers["content-type"].encode("latin-1")
    parser = MultiPartParser(
        Headers(raw=[(b"content-type", content_type)]),
        stream(),
        max_fields=_FORM_FIELDS,
        max_files=_FORM_FIELDS,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(f"The multipart body cannot be read: {error.message.rstrip('.')}.") from None
    try:
        pairs = [(name, await _part_text(name, value)) for name, value in form.multi_items()]
    finally:
        await form.close()
    _require_whole(content_type, body)
    return pairs


async def _part_text(name: str, value: UploadFile | str) -> str:
    if isinstance(value, str):
        return value
    if name != "body":
        raise InvalidRequest((FieldError(name[:100], "wrong_type", "is a file; send it as a plain field."),))
    return _decoded(await value.read(), "The part named body")


def _require_whole(content_type: bytes, body: bytes) -> None:
    """Refuse what the parser lets pass: a body cut off before its end, and text that is not UTF-8."""
    _, options = parse_options_header(content_type)
    if b"--" + options[b"boundary"] + b"--" not in body:
        raise RequestError("The multipart body ends before its closing boundary.")
    _decoded(body, "The multipart body")


def _merge(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, text in pairs:
        found = parse_object(text, "The part named body") if name == "body" else {name: _typed(name, text)}
        for field, value in found.items():
            if field in fields:
                detail = "is given twice; send it once, as a field or in the body part."
                raise InvalidRequest((FieldError(field[:100], "duplicate", detail),))
            fields[field] = value
    return fields


def _typed(name: str, text: str) -> Any:
    if name in INTEGER_FIELDS and _INTEGER.fullmatch(text.strip()):
        return int(text.strip().partition(".")[0])
    if name in NUMBER_FIELDS and _NUMBER.fullmatch(text.strip()):
        return float(text)
    if name == "metadata":
        return parse_object(text, "The field metadata")
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{name[:100]!r} is given twice")
            seen.add(name)
    return found


def _integer(text: str) -> int:
    if len(text) > _NUMBER_CHARS:
        raise ValueError(f"a number has more than {_NUMBER_CHARS} digits")
    return int(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _printable(text: str) -> str:
    """The text without what would break a header, a log or the answer itself."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
