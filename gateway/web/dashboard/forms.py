"""Forms that pages post: urlencoded, small, and proved to be ours before anything is done.

Two proofs against forged requests: the browser's own word on where a request comes from (Fetch Metadata, or
else ``Origin``), and a token that only our pages have.
"""

import hmac
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from gateway.errors import BodyTooLarge, Forbidden, RequestError

TOKEN_FIELD = "form_token"  # noqa: S105 - a name, not a secret
TOKEN_HEADER = "x-form-token"  # noqa: S105 - the same
LIMIT_BYTES = 65_536
_MOST_FIELDS = 200
_FORM = "application/x-www-form-urlencoded"
_KEY = "form"

Fields = dict[str, list[str]]


class Form:
    """The fields of a posted form."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """The field without spaces around it; empty when there is none."""
        return self._fields.get(name, [""])[0].strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """All values of a field that may be given several times."""
        return tuple(value.strip() for value in self._fields.get(name, []) if value.strip())

    def ticked(self, name: str) -> bool:
        return bool(self.text(name))


def form_of(request: Request) -> Form:
    """The form that the gate has read and found to be ours."""
    form: Form = request.scope.get(_KEY) or Form({})
    return form


def refuse_other_sites(scope: Scope, own_hosts: frozenset[str]) -> None:
    """Raises `Forbidden` when the browser says that another site sent this."""
    headers = Headers(scope=scope)
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    foreign = site not in {"same-origin", "none"} if site is not None else False
    if not foreign and origin is not None:
        foreign = urlsplit(origin).netloc not in own_hosts | {headers.get("host", "")}
    if foreign:
        raise Forbidden("This came from another site and was not done. Open the page here and try again.")


async def receive_form(scope: Scope, receive: Receive, token: str | None) -> Receive:
    """Read and keep a posted form, and hold it to the session's token; None where nobody is signed in.

    What is no form is left for its handler to read, and must name the token in a header. Raises `Forbidden`
    or `RequestError`.
    """
    headers = Headers(scope=scope)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        _check(headers.get(TOKEN_HEADER, ""), token)
        return receive
    fields = _parsed(await _read(receive))
    _check(fields.get(TOKEN_FIELD, [""])[0], token)
    scope[_KEY] = Form(fields)
    return _nothing_more


def _check(offered: str, token: str | None) -> None:
    if token is not None and not hmac.compare_digest(offered.encode(), token.encode()):
        raise Forbidden("This page is too old, or the form is not ours. Reload it and try again.")


async def _read(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LIMIT_BYTES:
            raise BodyTooLarge(f"A form has at most {LIMIT_BYTES} bytes here; send less.")
    return bytes(body)


def _parsed(body: bytes) -> Fields:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise RequestError("The form cannot be read.") from None
    fields: Fields = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


async def _nothing_more() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
