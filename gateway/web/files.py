"""Audio kept in a local directory, served through links that the storage signed."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from gateway.ports import FileSource


class FileApi:
    """``/files``: GET and HEAD, with ranges so that players can seek."""

    def __init__(self, files: FileSource) -> None:
        self._files = files

    async def download(self, request: Request) -> Response:
        name = request.path_params["name"]
        query = request.query_params
        found = await self._files.resolve(name, query.get("expires", ""), query.get("signature", ""))
        filename = quote(name.rpartition("/")[2])
        return FileResponse(
            found.path,
            media_type=found.content_type,
            headers={
                "ETag": found.etag,
                "Cache-Control": "private, max-age=3600, immutable",
                "Content-Disposition": f"inline; filename={filename}",
                # A player on another page may fetch it: the link itself is the permission.
                "Access-Control-Allow-Origin": "*",
                "X-Content-Type-Options": "nosniff",
            },
        )
