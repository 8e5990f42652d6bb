"""A presented key becomes a principal, or a refusal: one that tells nothing, unless the secret was right."""

import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.accounts import keys
from gateway.db import accounts
from gateway.db.accounts import Caller, Credential
from gateway.db.batching import BatchReader
from gateway.db.engine import Database, Tx
from gateway.errors import ErrorCode, NotFound, Unauthorized
from gateway.model import ApiKey, KeyState, Principal
from gateway.ports import Clock

#: How long an instance may go on believing what it read of a key. Revocation by this process is at once.
CACHE_TTL_S = 2.0
_CACHE_SIZE = 10_000
_MOST_REFUSED = 16
# Compared with when there is no such key, so that the answer takes the same path either way.
_NOBODY = "0" * 64


_STOPPED = {
    KeyState.REVOKED: (
        ErrorCode.KEY_REVOKED,
        "This API key was revoked; ask your platform team for another.",
    ),
    KeyState.EXPIRED: (
        ErrorCode.KEY_EXPIRED,
        "This API key has expired; ask your platform team for another.",
    ),
    KeyState.DISABLED: (
        ErrorCode.KEY_DISABLED,
        "This API key is disabled; your platform team can enable it.",
    ),
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """``refused`` are hashes of texts that this very row has refused: it need not be read again for those."""

    credential: Credential | None
    read_at_s: float
    refused: set[str] = field(default_factory=set)


class Authenticator:
    """Checks keys, and tells ``used`` of each that was good.

    Remembers rows (never secrets) for `CACHE_TTL_S`, at most 10,000 of them.
    """

    def __init__(self, database: Database, clock: Clock, used: Callable[[str], None]) -> None:
        self._clock = clock
        self._used = used
        self._rows = BatchReader(database, accounts.get_credentials)
        self._cache: OrderedDict[str, _Entry] = OrderedDict()
        self._well_formed: OrderedDict[str, keys.PresentedKey] = OrderedDict()
        # Counts what was forgotten, so that a row read before is not remembered after.
        self._forgotten = 0

    async def authenticate(
        self, presented: str | None, before_look_up: Callable[[], Awaitable[None]] | None = None
    ) -> Principal:
        """Raises `Unauthorized`: the same for a missing, mistyped, unknown or wrong key.

        Whoever has the right secret is told whether the key was revoked, has expired or is disabled. A
        secret that a rotation replaced opens until the moment that was stated then.

        ``before_look_up`` is called before the database is asked about a text that was never accepted here;
        it may wait, or raise.
        """
        candidate = self._candidate(presented) if presented else None
        if candidate is None:
            raise _refusal()
        if self._well_formed.get(candidate.sha256):
            before_look_up = None
        credential = await self._matching(candidate, before_look_up)
        now_ms = self._clock.now_ms()
        key = credential.key
        check_usable(key, now_ms)
        self._well_formed[candidate.sha256] = candidate
        if len(self._well_formed) > _CACHE_SIZE:
            self._well_formed.popitem(last=False)
        self._used(key.id)
        return _principal(credential)

    async def vouch_for(self, key_id: str) -> Principal:
        """The principal of a key whose holder showed who they are by other means than its secret.

        Raises `NotFound` when there is no such key, and `Unauthorized` when it was stopped.
        """
        credential = (self._remembered(key_id) or await self._read(key_id, None)).credential
        if credential is None:
            raise NotFound("There is no such key.", code=ErrorCode.NOT_FOUND)
        check_usable(credential.key, self._clock.now_ms())
        self._used(key_id)
        return _principal(credential)

    def forget(self, key_id: str) -> None:
        """Read the key anew next time: something about it changed here."""
        self._forgotten += 1
        self._cache.pop(key_id, None)

    def _candidate(self, presented: str) -> keys.PresentedKey | None:
        """The key's parts. A text that was a key before need not have its checksum worked out again."""
        if len(presented) != keys.LENGTH or not presented.isascii():
            return None
        return self._well_formed.get(keys.hash_key(presented)) or keys.parse(presented)

    async def _matching(
        self, candidate: keys.PresentedKey, before_look_up: Callable[[], Awaitable[None]] | None
    ) -> Credential:
        """What the text opens. Raises `Unauthorized`, and never by a row that was read before this text came.

        The secret may have been made elsewhere since the row was read, by a rotation.
        """
        remembered = self._remembered(candidate.public_id)
        entry = remembered or await self._read(candidate.public_id, before_look_up)
        found = self._opened(candidate, entry)
        if found is None and entry is remembered and entry.refused.isdisjoint({candidate.sha256}):
            entry = await self._read(candidate.public_id, before_look_up)
            found = self._opened(candidate, entry)
        if found is not None:
            return found
        if len(entry.refused) < _MOST_REFUSED:
            entry.refused.add(candidate.sha256)
        raise _refusal()

    def _opened(self, candidate: keys.PresentedKey, entry: _Entry) -> Credential | None:
        matches = _matches(candidate, entry.credential, self._clock.now_ms())
        return entry.credential if matches else None

    def _remembered(self, key_id: str) -> _Entry | None:
        entry = self._cache.get(key_id)
        fresh = entry is not None and self._clock.monotonic_s() - entry.read_at_s < CACHE_TTL_S
        return entry if fresh else None

    async def _read(self, key_id: str, before_look_up: Callable[[], Awaitable[None]] | None) -> _Entry:
        if before_look_up is not None:
            await before_look_up()
        now_s = self._clock.monotonic_s()
        forgotten = self._forgotten
        row = await self._rows.get(key_id)
        entry = _Entry(row, now_s)
        if forgotten == self._forgotten:
            self._cache[key_id] = entry
            self._cache.move_to_end(key_id)
            if len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return entry


def check_usable(key: ApiKey, now_ms: int) -> None:
    """Raises `Unauthorized` with the reason why a key whose secret was right may not be used."""
    state = key.state_at(now_ms)
    if state in _STOPPED:
        code, detail = _STOPPED[state]
        raise Unauthorized(detail, code=code)


def usable_caller(tx: Tx, key_id: str, now_ms: int, *, lock: bool = False) -> Caller:
    """The key as it is in this transaction, and its tenant. Raises `Unauthorized` when it was stopped.

    With ``lock`` both stay so until the transaction ends.
    """
    caller = accounts.get_caller(tx, key_id, lock=lock)
    if caller is None:
        raise Unauthorized("There is no such API key any more; ask your platform team for another.")
    check_usable(caller.key, now_ms)
    return caller


def _principal(credential: Credential) -> Principal:
    key = credential.key
    return Principal(key.tenant_id, key.id, key.scopes, key.mode, _models(credential))


def _models(credential: Credential) -> frozenset[str] | None:
    """The models that both the key and its tenant may use."""
    lists = [each for each in (credential.key.allowed_models, credential.tenant_models) if each is not None]
    return frozenset.intersection(*map(frozenset, lists)) if lists else None


def _matches(candidate: keys.PresentedKey, credential: Credential | None, now_ms: int) -> bool:
    """Whether the secret is the key's, in a time that does not depend on which, or on there being one."""
    expected = credential.key.sha256 if credential is not None else _NOBODY
    matches = hmac.compare_digest(candidate.sha256, expected)
    for retired in credential.retired if credential is not None else ():
        same = hmac.compare_digest(candidate.sha256, retired.sha256)
        matches |= same and now_ms < retired.expires_at_ms
    return matches and credential is not None and candidate.mode is credential.key.mode


def _refusal() -> Unauthorized:
    return Unauthorized(
        "Send a valid API key in the X-Api-Key header. Keys are made with `gateway key create`."
    )
