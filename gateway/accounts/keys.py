"""API keys: their format, how one is made, and what is kept of it.

    mg_live_<public id: 12>_<secret: 32><checksum: 6>
    mg_test_<public id: 12>_<secret: 32><checksum: 6>

all in base62. Test keys reach the emulator only. The public id names the key in lists and logs. The checksum
is the CRC-32 of everything before it, so a typo is refused without a look-up and a scanner can tell our keys
from noise. Only the SHA-256 of the whole key is kept: the secret has 190 bits, so a slow hash would protect
nothing more.
"""

import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from gateway.model import KeyMode

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PUBLIC_ID_LENGTH = 12
SECRET_LENGTH = 32
CHECKSUM_LENGTH = 6
KEY_PREFIX = "mg_"
#: Of a whole key, in characters.
LENGTH = len("mg_live_") + PUBLIC_ID_LENGTH + len("_") + SECRET_LENGTH + CHECKSUM_LENGTH

#: What a scanner for leaked keys looks for; the checksum tells the rest (SECURITY.md).
PATTERN = r"mg_(?:live|test)_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}"
_SCANNED = re.compile(PATTERN, re.ASCII)
_FORMAT = re.compile(r"(mg_(live|test)_([0-9A-Za-z]{12})_[0-9A-Za-z]{32})([0-9A-Za-z]{6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A well-formed key, reduced to what a check needs."""

    public_id: str
    sha256: str
    mode: KeyMode


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key. ``text`` is shown once and kept nowhere."""

    public_id: str
    text: str
    sha256: str


def mint(choose: Callable[[str], str], mode: KeyMode = KeyMode.LIVE) -> MintedKey:
    """Make a key from ``choose``, which picks one character of a string (`secrets.choice`)."""
    public_id = "".join(choose(ALPHABET) for _ in range(PUBLIC_ID_LENGTH))
    return mint_again(public_id, choose, mode)


def mint_again(public_id: str, choose: Callable[[str], str], mode: KeyMode) -> MintedKey:
    """Another secret for a key that is there."""
    return assemble(public_id, "".join(choose(ALPHABET) for _ in range(SECRET_LENGTH)), mode)


def assemble(public_id: str, secret: str, mode: KeyMode) -> MintedKey:
    body = f"{KEY_PREFIX}{mode.value}_{public_id}_{secret}"
    text = body + checksum(body)
    return MintedKey(public_id, text, hash_key(text))


def parse(text: str) -> PresentedKey | None:
    """What was presented, or None when it cannot be a key of ours."""
    match = _FORMAT.fullmatch(text)
    if match is None or checksum(match[1]) != match[4]:
        return None
    return PresentedKey(match[3], hash_key(text), KeyMode(match[2]))


def found_in(text: str) -> bool:
    """Whether a whole key stands in a text, where it does not belong."""
    return KEY_PREFIX in text and any(parse(found) is not None for found in _SCANNED.findall(text))


def hash_key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def checksum(body: str) -> str:
    """CRC-32 in base62, six characters."""
    return base62(binascii.crc32(body.encode()), CHECKSUM_LENGTH)


def base62(number: int, length: int) -> str:
    """The last ``length`` digits of a number, most significant first."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
