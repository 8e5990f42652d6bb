"""Where an endpoint puts what is too much for its answer: into Cloud Storage's emulator."""

import secrets
from urllib.parse import quote, urlsplit

import httpx

from gateway.emulator.vertex import VertexError


class Shelf:
    """``storage_url`` is the emulator's address; without one nothing can be put aside."""

    def __init__(self, storage_url: str | None) -> None:
        self._storage_url = storage_url

    async def put(self, output_uri: str, audio: bytes) -> str:
        """The new object's ``gs://`` address. Raises `VertexError`."""
        if self._storage_url is None:
            raise VertexError(
                500, "The container has no Cloud Storage to put its audio into (--storage-url)."
            )
        parts = urlsplit(output_uri)
        folder = parts.path.strip("/")
        name = f"{folder}/{secrets.token_hex(16)}.wav".lstrip("/")
        url = (
            f"{self._storage_url.rstrip('/')}/upload/storage/v1/b/{quote(parts.netloc, safe='')}/o"
            f"?uploadType=media&ifGenerationMatch=0&name={quote(name, safe='')}"
        )
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                answer = await http.post(url, content=audio, headers={"content-type": "audio/wav"})
        except httpx.HTTPError as error:
            raise VertexError(
                500, f"The container could not store its audio: {type(error).__name__}"
            ) from error
        if answer.is_error:
            raise VertexError(500, f"The container could not store its audio: HTTP {answer.status_code}")
        return f"gs://{parts.netloc}/{name}"
