"""What pages need besides themselves: style sheets and scripts, at addresses that change with them."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import ErrorCode, NotFound

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_FOR_EVER = "public, max-age=31536000, immutable"
_DIGITS = 10


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    version: str


class Assets:
    """Everything in ``static/``, read once."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._assets = dict(_found(files("gateway.web.dashboard") / "static"))

    def url(self, name: str) -> str:
        """An address that may be kept for ever: with another content it is another one."""
        return f"{self._prefix}/{name}?v={self._assets[name].version}"

    async def show(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            raise NotFound("There is no such file.", code=ErrorCode.ROUTE_NOT_FOUND)
        known = request.query_params.get("v") == asset.version
        headers = {"Cache-Control": _FOR_EVER if known else "no-cache"}
        return Response(asset.content, headers=headers, media_type=asset.media_type)


def _found(directory: Traversable, before: str = "") -> list[tuple[str, _Asset]]:
    found = []
    for each in directory.iterdir():
        if each.is_dir():
            found += _found(each, f"{before}{each.name}/")
        elif (media_type := _TYPES.get(each.name.rpartition(".")[2])) is not None:
            content = each.read_bytes()
            version = hashlib.sha256(content).hexdigest()[:_DIGITS]
            found.append((before + each.name, _Asset(content, media_type, version)))
    return found
