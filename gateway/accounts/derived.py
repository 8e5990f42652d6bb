"""Keys and secrets derived from the names that callers give their requests, so that those can be repeated.

The same name gives the same text again, and neither is kept. Whoever lacks the gateway's secret or the name
has nothing: both are long.
"""

import hashlib
import hmac

import orjson

from gateway.accounts import keys, pictures
from gateway.errors import FieldError, InvalidRequest
from gateway.model import ApiKey, KeyMode

NAME_CHARS = 255
_ROTATION = b"api key rotation\0"
_CREATION = b"api key creation\0"


def check_name(name: str) -> None:
    """Raises `InvalidRequest`."""
    if not 1 <= len(name) <= NAME_CHARS:
        raise InvalidRequest(
            (FieldError("Idempotency-Key", "invalid", f"has 1 to {NAME_CHARS} characters."),)
        )


def named_key(secret: bytes, tenant_id: str, name: str, mode: KeyMode) -> keys.MintedKey:
    """The key that a name makes for a tenant. Of 512 bits its id takes 71 and its own secret 190."""
    digits = keys.PUBLIC_ID_LENGTH + keys.SECRET_LENGTH
    text = _digits(secret, _CREATION + tenant_id.encode() + b"\0" + name.encode(), digits)
    return keys.assemble(text[: keys.PUBLIC_ID_LENGTH], text[keys.PUBLIC_ID_LENGTH :], mode)


def named_secret(secret: bytes, key: ApiKey, name: str) -> keys.MintedKey:
    """The key with the secret that a rotation of this name gives it."""
    message = _ROTATION + key.id.encode() + b"\0" + name.encode()
    return keys.assemble(key.id, _digits(secret, message, keys.SECRET_LENGTH), key.mode)


def name_sha256(name: str) -> str:
    """What is kept of a rotation's name."""
    return hashlib.sha256(name.encode()).hexdigest()


def fingerprint(asked: ApiKey) -> str:
    """What is kept of a request for a key: it tells whether another asks for the same.

    It stands where the hash of a rotation's name does, and is never equal to one.
    """
    terms = orjson.dumps(pictures.of_key(asked), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(_CREATION + terms).hexdigest()


def _digits(secret: bytes, message: bytes, length: int) -> str:
    return keys.base62(int.from_bytes(hmac.digest(secret, message, "sha512")), length)
