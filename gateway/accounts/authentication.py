"""A presented key becomes a principal, or the one refusal that tells nothing more."""

import hmac
from collections import OrderedDict
from dataclasses import dataclass

from gateway.accounts import keys
from gateway.db import accounts
from gateway.db.batching import BatchReader
from gateway.db.engine import Database
from gateway.errors import Unauthorized
from gateway.model import ApiKey, Principal
from gateway.ports import Clock

#: How long an instance may go on believing what it read of a key. Revocation by this process is at once.
CACHE_TTL_S = 2.0
_CACHE_SIZE = 10_000
# Compared with when there is no such key, so that the answer takes the same path either way.
_NOBODY = "0" * 64


@dataclass(frozen=True, slots=True)
class _Entry:
    key: ApiKey | None
    read_at_s: float


class Authenticator:
    """Checks keys. Remembers rows (never secrets) for `CACHE_TTL_S`, at most 10,000 of them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._clock = clock
        self._rows = BatchReader(database, accounts.get_keys)
        self._cache: OrderedDict[str, _Entry] = OrderedDict()
        self._well_formed: OrderedDict[str, keys.PresentedKey] = OrderedDict()
        # Counts what was forgotten, so that a row read before is not remembered after.
        self._forgotten = 0

    async def authenticate(self, presented: str | None) -> Principal:
        """Raises `Unauthorized`, the same for a missing, mistyped, unknown, wrong, revoked or expired key."""
        candidate = self._candidate(presented) if presented else None
        if candidate is None:
            raise _refusal()
        entry = await self._entry(candidate.public_id)
        expected = entry.key.sha256 if entry.key is not None else _NOBODY
        matches = hmac.compare_digest(candidate.sha256, expected)
        if entry.key is None or not matches or not self._usable(entry.key):
            raise _refusal()
        self._well_formed[candidate.sha256] = candidate
        if len(self._well_formed) > _CACHE_SIZE:
            self._well_formed.popitem(last=False)
        return Principal(entry.key.tenant_id, entry.key.id)

    def forget(self, key_id: str) -> None:
        """Read the key anew next time: something about it changed here."""
        self._forgotten += 1
        self._cache.pop(key_id, None)

    def _candidate(self, presented: str) -> keys.PresentedKey | None:
        """The key's parts. A text that was a key before need not have its checksum worked out again."""
        if len(presented) != keys.LENGTH or not presented.isascii():
            return None
        return self._well_formed.get(keys.hash_key(presented)) or keys.parse(presented)

    async def _entry(self, key_id: str) -> _Entry:
        now_s = self._clock.monotonic_s()
        entry = self._cache.get(key_id)
        if entry is not None and now_s - entry.read_at_s < CACHE_TTL_S:
            return entry
        forgotten = self._forgotten
        row = await self._rows.get(key_id)
        entry = _Entry(row[0] if row else None, now_s)
        if forgotten == self._forgotten:
            self._cache[key_id] = entry
            self._cache.move_to_end(key_id)
            if len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return entry

    def _usable(self, key: ApiKey) -> bool:
        if key.revoked_at_ms is not None:
            return False
        return key.expires_at_ms is None or self._clock.now_ms() < key.expires_at_ms


def _refusal() -> Unauthorized:
    return Unauthorized(
        "Send a valid API key in the X-Api-Key header. Keys are made with `gateway key create`."
    )
