"""A request's body as one JSON object, whether it came as JSON, as a form, or as multipart."""

import json
import re
from collections.abc import AsyncGenerator
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from gateway.errors import BodyTooLarge, FieldError, InvalidRequest, RequestError, UnsupportedMedia
from gateway.web.schemas import INTEGER_FIELDS

BODY_LIMIT_BYTES = 65_536
_FORM_FIELDS = 64
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}(\.0+)?")
_JSON, _FORM, _MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"


async def read_json(request: Request) -> dict[str, Any]:
    """The object in a JSON body. Raises `RequestError`."""
    _require(request, (_JSON,))
    return parse_object(await _read(request), "The body")


async def read_fields(request: Request) -> dict[str, Any]:
    """The fields of a JSON, urlencoded or multipart body, integers of forms made numbers.

    A multipart part named ``body`` holds a JSON object whose fields count like the others. Raises
    `RequestError`.
    """
    media_type = _require(request, (_JSON, _FORM, _MULTIPART))
    body = await _read(request)
    if media_type == _JSON:
        return parse_object(body, "The body")
    pairs = await _multipart(request, body) if media_type == _MULTIPART else _urlencoded(body)
    return _merge(pairs)


def parse_object(body: bytes | str, what: str) -> dict[str, Any]:
    """A JSON object, strictly (RFC 8259): UTF-8, no name twice, no NaN. Raises `RequestError`."""
    try:
        text = body.decode("utf-8") if isinstance(body, bytes) else body
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise RequestError(f"{what} is not UTF-8.") from None
    except RecursionError:
        raise RequestError(f"{what} is nested too deeply.") from None
    except ValueError as error:
        raise RequestError(f"{what} is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise RequestError(f'{what} must be a JSON object, like {{"prompt": "…"}}.')
    return value


def _require(request: Request, allowed: tuple[str, ...]) -> str:
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in allowed:
        got = f"{media_type[:100]!r} is not read here" if media_type else "The request has no Content-Type"
        raise UnsupportedMedia(f"{got}; send {' or '.join(allowed)}.")
    return media_type


async def _read(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    body = bytearray()
    if declared.isdecimal() and int(declared) > BODY_LIMIT_BYTES:
        _too_large()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            _too_large()
    return bytes(body)


def _too_large() -> NoReturn:
    raise BodyTooLarge(f"A body has at most {BODY_LIMIT_BYTES} bytes here. Shorten the prompt.")


def _urlencoded(body: bytes) -> list[tuple[str, str]]:
    try:
        text = body.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS)
    except UnicodeDecodeError:
        raise RequestError("The form is not percent-encoded UTF-8.") from None
    except ValueError as error:
        raise RequestError(f"The form cannot be read: {error}.") from None


async def _multipart(request: Request, body: bytes) -> list[tuple[str, str]]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    headers = Headers(raw=[(b"content-type", request.headers["content-type"].encode("latin-1"))])
    parser = MultiPartParser(headers, stream(), max_fields=_FORM_FIELDS, max_files=_FORM_FIELDS)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(f"The multipart body cannot be read: {error.message}") from None
    pairs = []
    try:
        for name, value in form.multi_items():
            pairs.append((name, await _part_text(name, value)))
    finally:
        await form.close()
    return pairs


async def _part_text(name: str, value: UploadFile | str) -> str:
    if isinstance(value, str):
        return value
    if name != "body":
        raise InvalidRequest((FieldError(name[:100], "wrong_type", "is a file; send it as a plain field."),))
    try:
        return (await value.read()).decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError("The part named body is not UTF-8.") from None


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
    if name == "metadata":
        return parse_object(text, "The field metadata")
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:100]!r} is given twice")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
