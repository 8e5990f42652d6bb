"""V4 signed URLs (GOOG4-RSA-SHA256): the pure part, and what it needs of a signer.

Document: cloud.google.com/storage/docs/authentication/canonical-requests. Built here because Google's library
signs with blocking calls; its output for the same input is the test of this module.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import quote, urlsplit

#: Cloud Storage refuses longer lives.
MAX_LIFE_S = 7 * 24 * 3600
_ALGORITHM = "GOOG4-RSA-SHA256"


class Signer(Protocol):
    """Signs in a service account's name: RSA PKCS#1 v1.5 over SHA-256."""

    #: How long a signature is sure to be accepted, in seconds.
    life_s: int

    async def email(self) -> str:
        """The account's e-mail. Raises `StorageError` when it cannot be found out."""
        ...

    async def sign(self, payload: bytes) -> bytes:
        """The signature. Never blocks the event loop. Raises `StorageError`."""
        ...


@dataclass(frozen=True, slots=True)
class UnsignedUrl:
    """A URL that lacks only its signature over ``string_to_sign``."""

    string_to_sign: bytes
    url: str

    def signed(self, signature: bytes) -> str:
        return f"{self.url}&X-Goog-Signature={signature.hex()}"


def object_path(bucket: str, name: str) -> str:
    """The path-style resource, percent-encoded as the canonical request wants it."""
    return f"/{quote(bucket, safe='~')}/{quote(name, safe='/~')}"


def v4_url(
    base_url: str,
    path: str,
    *,
    email: str,
    now_ms: int,
    life_s: int,
    disposition: str | None = None,
) -> UnsignedUrl:
    """A GET URL for ``path`` (already percent-encoded) that lives ``life_s`` seconds from ``now_ms``.

    ``disposition`` overrides the object's own Content-Disposition. Raises ValueError for a life that Cloud
    Storage would refuse. Range may be sent with the URL: only the host header is signed.
    """
    if not 0 < life_s <= MAX_LIFE_S:
        raise ValueError(f"a signed URL may live 1 to {MAX_LIFE_S} seconds, not {life_s}")
    timestamp = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{timestamp[:8]}/auto/storage/goog4_request"
    parameters = {
        "X-Goog-Algorithm": _ALGORITHM,
        "X-Goog-Credential": f"{email}/{scope}",
        "X-Goog-Date": timestamp,
        "X-Goog-Expires": str(life_s),
        "X-Goog-SignedHeaders": "host",
    }
    if disposition is not None:
        parameters["response-content-disposition"] = disposition
    # Sorted after encoding, by code point: that is the order the other side rebuilds.
    query = "&".join(sorted(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in parameters.items()))
    host = urlsplit(base_url).netloc
    canonical = "\n".join(("GET", path, query, f"host:{host}\n", "host", "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(canonical.encode("ascii")).hexdigest()
    to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
    return UnsignedUrl(to_sign.encode("ascii"), f"{base_url.rstrip('/')}{path}?{query}")
