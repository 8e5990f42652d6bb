"""Storage on Cloud Storage, through its JSON API and V4 signed URLs.

Documents: cloud.google.com/storage/docs/json_api/v1/objects, …/docs/performing-resumable-uploads and
…/docs/access-control/signed-urls.
"""

import secrets
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import orjson

from gateway.ports import Clock, Listing, SignedUrl, StoredObject
from gateway.storage.api import GoogleApi, failure
from gateway.storage.download import download
from gateway.storage.names import checked_name
from gateway.storage.signing import Signer, object_path, v4_url
from gateway.storage.upload import UPLOAD_ID, GcsWriter, ObjectPlace
from gateway.storage.urls import UrlCache

GCS_URL = "https://storage.googleapis.com"


class GcsStorage:
    """`Storage` on a bucket. Objects are named ``prefix/name``.

    ``url_ttl_s`` is the life of a signed URL in seconds, cut to what the signer can promise: 7 days with a
    key file, 12 hours through IAM. ``base_url`` is another address for emulators.
    """

    def __init__(
        self,
        api: GoogleApi,
        bucket: str,
        prefix: str,
        signer: Signer,
        clock: Clock,
        *,
        base_url: str = GCS_URL,
        url_ttl_s: int = 43_200,
    ) -> None:
        self._api = api
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._signer = signer
        self._clock = clock
        self._base_url = base_url.rstrip("/")
        self._url_ttl_s = min(url_ttl_s, signer.life_s)
        self._urls = UrlCache(self._sign, clock)

    async def create(self, name: str, *, content_type: str, metadata: Mapping[str, str]) -> GcsWriter:
        upload_id = secrets.token_hex(16)
        resource = {
            "name": self._key(name),
            "contentType": content_type,
            # Private: a shared cache must not outlive a link. Immutable: a name is never reused.
            "cacheControl": f"private, max-age={self._url_ttl_s}, immutable",
            "contentDisposition": _disposition(name),
            "metadata": {**metadata, UPLOAD_ID: upload_id},
        }
        return GcsWriter(self._api, self._place(name), resource, upload_id)

    async def signed_url(self, name: str) -> SignedUrl:
        """A URL for GET with Range. Whether Google takes it for HEAD as well is Google's affair."""
        return await self._urls.get(checked_name(name))

    def read(self, name: str) -> AsyncGenerator[bytes]:
        return download(self._api, self._place(name).object_url)

    async def delete(self, name: str) -> None:
        place = self._place(name)
        self._urls.forget(name)
        response = await self._api.send("DELETE", place.object_url)
        if response.status_code not in {httpx.codes.OK, httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND}:
            raise failure("The audio could not be deleted.", response)

    async def list(self, cursor: str, *, limit: int) -> Listing:
        query = {
            "prefix": self._prefix,
            "maxResults": str(limit),
            "fields": "items(name,timeCreated),nextPageToken",
            **({"pageToken": cursor} if cursor else {}),
        }
        url = f"{self._bucket_url}/o?{urlencode(query, quote_via=quote)}"
        response = await self._api.send("GET", url)
        if response.status_code != httpx.codes.OK:
            raise failure("The audio could not be listed.", response)
        try:
            page = orjson.loads(response.content)
            objects = tuple(self._listed(item) for item in page.get("items", ()))
            return Listing(objects, page.get("nextPageToken") or None)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise failure("Cloud Storage's answer is unreadable.", response) from error

    def _listed(self, item: Mapping[str, Any]) -> StoredObject:
        made_at_s = datetime.fromisoformat(item["timeCreated"]).timestamp()
        return StoredObject(item["name"].removeprefix(self._prefix), round(made_at_s * 1000))

    async def tidy(self) -> None:
        """Nothing: Cloud Storage forgets unfinished uploads by itself, after a week."""

    async def check(self) -> None:
        """List one name: the cheapest call that the role Storage Object User permits."""
        prefix = quote(self._prefix, safe="")
        url = f"{self._bucket_url}/o?maxResults=1&fields=kind&prefix={prefix}"
        try:
            response = await self._api.once("GET", url)
        except httpx.RequestError as error:
            raise failure("Cloud Storage cannot be reached.", lost=error) from error
        if response.status_code == httpx.codes.OK:
            return
        reasons: dict[int, str] = {
            httpx.codes.NOT_FOUND: f"The bucket {self._bucket} does not exist.",
            httpx.codes.UNAUTHORIZED: "Cloud Storage does not accept the gateway's credentials.",
            httpx.codes.FORBIDDEN: (
                f"The gateway has no permission on the bucket {self._bucket}: grant its account the role "
                "Storage Object User there."
            ),
        }
        detail = reasons.get(response.status_code, "Cloud Storage answered with an error.")
        raise failure(detail, response)

    async def close(self) -> None:
        await self._urls.close()

    async def _sign(self, name: str) -> SignedUrl:
        now_ms = self._clock.now_ms() // 1000 * 1000
        unsigned = v4_url(
            self._base_url,
            object_path(self._bucket, self._key(name)),
            email=await self._signer.email(),
            now_ms=now_ms,
            life_s=self._url_ttl_s,
        )
        signature = await self._signer.sign(unsigned.string_to_sign)
        return SignedUrl(unsigned.signed(signature), now_ms + self._url_ttl_s * 1000)

    @property
    def _bucket_url(self) -> str:
        return f"{self._base_url}/storage/v1/b/{quote(self._bucket, safe='')}"

    def _key(self, name: str) -> str:
        return self._prefix + checked_name(name)

    def _place(self, name: str) -> ObjectPlace:
        key = quote(self._key(name), safe="")
        bucket = quote(self._bucket, safe="")
        return ObjectPlace(
            object_url=f"{self._bucket_url}/o/{key}",
            upload_url=f"{self._base_url}/upload/storage/v1/b/{bucket}/o?ifGenerationMatch=0&name={key}",
        )


def _disposition(name: str) -> str:
    """Played in the browser, saved under the name's last part (RFC 6266, RFC 8187)."""
    return f"inline; filename*=UTF-8''{quote(name.rpartition('/')[2], safe='')}"
