"""Answers in JSON. They are the caller's own and change: nothing on the way may keep them."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

_NO_STORE = {"Cache-Control": "no-store"}
_NO_OTHERS: Mapping[str, str] = {}


def answer(
    document: Mapping[str, Any] | bytes,
    status: int = 200,
    headers: Mapping[str, str] = _NO_OTHERS,
    *,
    repeated: bool = False,
) -> Response:
    """A document, which may have been written down before.

    ``repeated``: nothing was done, because the request's name had been given before.
    """
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    replayed = {"Idempotent-Replayed": "true"} if repeated else _NO_OTHERS
    return Response(body, status, {**_NO_STORE, **replayed, **headers}, "application/json")


def nothing() -> Response:
    return Response(status_code=204, headers=_NO_STORE)
