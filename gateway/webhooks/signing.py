"""Secrets and signatures of webhooks: https://github.com/standard-webhooks/standard-webhooks, version 1.

No secret is kept anywhere. Each is derived from the gateway's signing secret, so a copy of the database signs
nothing, and an instance needs no more than the others have.
"""

import base64
import hmac

from gateway.messages import SecretState

_PREFIX = "whsec_"


class Secrets:
    """Derives secrets; the same text from the same secret of the gateway's, in this version and the next."""

    def __init__(self, signing_secret: bytes) -> None:
        # A key of its own: what else is signed with the gateway's secret can never pass for one of these.
        self._key = hmac.digest(signing_secret, b"gateway webhook secrets v1", "sha256")

    def of_endpoint(self, endpoint_id: str, version: int) -> str:
        return self._secret("endpoint", endpoint_id, version)

    def of_tenant(self, tenant_id: str, version: int) -> str:
        """For addresses that the tenant's requests name."""
        return self._secret("tenant", tenant_id, version)

    def that_sign(
        self, tenant_id: str, endpoint_id: str | None, state: SecretState, now_ms: int
    ) -> tuple[str, ...]:
        """The newest, and during an overlap the one before it."""
        versions = state.versions_at(now_ms)
        if endpoint_id is None:
            return tuple(self.of_tenant(tenant_id, version) for version in versions)
        return tuple(self.of_endpoint(endpoint_id, version) for version in versions)

    def _secret(self, kind: str, owner: str, version: int) -> str:
        # No id has a colon in it, so no two owners share a message.
        digest = hmac.digest(self._key, f"{kind}:{owner}:{version}".encode(), "sha256")
        return _PREFIX + base64.b64encode(digest).decode("ascii")


def headers(message_id: str, timestamp_s: int, body: bytes, secrets: tuple[str, ...]) -> dict[str, str]:
    """The three headers of a message, with a signature for each secret."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(_signature(signed, secret) for secret in secrets),
    }


def _signature(signed: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")
