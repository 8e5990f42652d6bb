"""Webhooks verified: that this gateway sent them, unchanged and lately (Standard Webhooks 1.0)."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

_TOLERANCE_S = 300


class WebhookError(Exception):
    """It is not what this gateway sent, or is too old. Answer 400."""


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, now_s: Callable[[], float] = time.time
) -> Mapping[str, Any]:
    """The message. ``body`` are the bytes as they came. Raises `WebhookError`."""
    said = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, timestamp = said["webhook-id"], said["webhook-timestamp"]
        signatures = said["webhook-signature"].split()
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        age_s = abs(now_s() - int(timestamp))
    except (KeyError, ValueError, binascii.Error) as error:
        raise WebhookError("Its headers are missing or broken, or the secret is.") from error
    if age_s > _TOLERANCE_S:
        raise WebhookError("It is too old, or this clock is wrong.")
    expected = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    signed = b"v1," + base64.b64encode(expected)
    if not any(hmac.compare_digest(each.encode(), signed) for each in signatures):
        raise WebhookError("It was not signed with this secret.")
    found: Mapping[str, Any] = json.loads(body)
    return found
