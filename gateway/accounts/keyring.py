"""What an operator does with API keys: create, bound, disable, rotate, revoke."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

from gateway.accounts import checks, derived, keys, pictures
from gateway.accounts.checks import require
from gateway.accounts.grants import Grant, excesses, grant_of_tenant, narrowed
from gateway.accounts.tenants import require_tenant
from gateway.db import accounts, audit
from gateway.db.accounts import KeyFilter
from gateway.db.engine import Database, Tx
from gateway.db.locks import lock_tenant_of_key
from gateway.errors import Conflict, ErrorCode, FieldError, InvalidRequest, NotFound
from gateway.model import Act, ApiKey, KeyMode, KeyState, Place, RetiredSecret, Scope
from gateway.ports import Clock

LONGEST_OVERLAP_S = 30 * 86_400


class KeyTerms(TypedDict, total=False):
    """What may be said of a key; `gateway.model.ApiKey` has the meanings and the defaults."""

    name: str
    owner: str
    tags: tuple[str, ...]
    scopes: frozenset[Scope]
    allowed_models: tuple[str, ...] | None
    rpm: int | None
    max_queued: int | None
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Made:
    """A new key and its text. ``repeated`` when the request's name had made it before."""

    key: ApiKey
    text: str
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Rotated:
    """A key with a new secret, whose text is in ``text``; the one before opens it until ``old_until_ms``.

    ``repeated`` when the rotation's name had been given before.
    """

    key: ApiKey
    text: str
    old_until_ms: int
    repeated: bool = False


class Keyring:
    """Every change is written together with its entry in the audit log, and told to ``forget`` at once.

    Raises `InvalidRequest` naming what will not do, `NotFound` for an id that is nobody's, `Conflict` for
    what a key's state does not allow. With ``tenant_id`` another tenant's key is nobody's.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        choose: Callable[[str], str],
        rotation_secret: bytes,
        forget: Callable[[str], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._choose = choose
        self._rotation_secret = rotation_secret
        self._forget = forget

    async def create(
        self,
        act: Act,
        tenant_id: str,
        *,
        mode: KeyMode = KeyMode.LIVE,
        creator: Grant | None = None,
        **terms: Unpack[KeyTerms],
    ) -> tuple[ApiKey, str]:
        """The key as kept, and its text, which cannot be had again.

        Whatever it leaves open is bounded as its ``creator`` is.
        """
        minted = keys.mint(self._choose, mode)
        asked = self._asked(act, tenant_id, minted, mode, terms)
        key = await self._database.write(lambda tx: self._insert(tx, act, asked, creator))
        return key, minted.text

    async def create_named(
        self,
        act: Act,
        tenant_id: str,
        request_name: str,
        *,
        mode: KeyMode = KeyMode.LIVE,
        creator: Grant | None = None,
        **terms: Unpack[KeyTerms],
    ) -> Made:
        """As `create`, safe to repeat: under the same name the same request gives the same key and text.

        Both are derived from the name, and neither the text nor the name is kept. Raises `Conflict` for
        another request of that name, and once a rotation has replaced the secret.
        """
        derived.check_name(request_name)
        minted = derived.named_key(self._rotation_secret, tenant_id, request_name, mode)
        asked = self._asked(act, tenant_id, minted, mode, terms)
        wanted = replace(asked, rotation_sha256=derived.fingerprint(asked))

        def write(tx: Tx) -> Made:
            there = accounts.get_key(tx, minted.public_id)
            if there is None:
                return Made(self._insert(tx, act, wanted, creator), minted.text)
            _check_repeats(there, wanted)
            return Made(there, minted.text, repeated=True)

        return await self._database.write(write)

    def named_key_id(self, tenant_id: str, request_name: str, mode: KeyMode) -> str:
        """The id of the key that `create_named` makes under this name, whether it has been made or not."""
        return derived.named_key(self._rotation_secret, tenant_id, request_name, mode).public_id

    async def update(
        self,
        act: Act,
        key_id: str,
        *,
        tenant_id: str | None = None,
        creator: Grant | None = None,
        **terms: Unpack[KeyTerms],
    ) -> ApiKey:
        """Change what is named; the rest stays."""

        def change(tx: Tx, before: ApiKey) -> ApiKey:
            return _bounded(tx, _with_terms(before, terms, self._clock.now_ms()), creator)

        return await self._change(act, "key.update", key_id, tenant_id, change)

    async def disable(self, act: Act, key_id: str, *, tenant_id: str | None = None) -> ApiKey:
        """Refuse the key until it is enabled again; tasks of its own go on."""
        now_ms = self._clock.now_ms()

        def change(_: Tx, before: ApiKey) -> ApiKey:
            return before if before.disabled_at_ms is not None else replace(before, disabled_at_ms=now_ms)

        return await self._change(act, "key.disable", key_id, tenant_id, change)

    async def enable(self, act: Act, key_id: str, *, tenant_id: str | None = None) -> ApiKey:
        return await self._change(
            act, "key.enable", key_id, tenant_id, lambda _, before: replace(before, disabled_at_ms=None)
        )

    async def revoke(self, act: Act, key_id: str, *, tenant_id: str | None = None) -> bool:
        """End the key for good. True when this call did it, False when it was revoked before."""
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> bool:
            before = require_key(tx, key_id, tenant_id, lock=True)
            if not accounts.revoke_key(tx, key_id, now_ms=now_ms):
                return False
            after = pictures.of_key(replace(before, revoked_at_ms=now_ms))
            audit.record_of(tx, act, "key.revoke", before, pictures.of_key(before), after, at_ms=now_ms)
            return True

        revoked = await self._database.write(write)
        self._forget(key_id)
        return revoked

    async def rotate(
        self,
        act: Act,
        key_id: str,
        *,
        overlap_s: int,
        name: str | None = None,
        tenant_id: str | None = None,
    ) -> Rotated:
        """Give the key another secret under the same id; the old one opens it for ``overlap_s`` more.

        Named, it can be repeated: as long as no other rotation came after it, the same name gives the same
        text, because that is derived from the name and kept nowhere. A secret never outlives its key.
        """
        if not 0 <= overlap_s <= LONGEST_OVERLAP_S:
            detail = f"must be 0 to {LONGEST_OVERLAP_S} seconds."
            raise InvalidRequest((FieldError("overlap_s", "out_of_range", detail),))
        if name is not None:
            derived.check_name(name)

        def write(tx: Tx) -> Rotated:
            key = require_key(tx, key_id, tenant_id, lock=True)
            minted, name_sha256 = self._next_secret(key, name)
            if name_sha256 is not None and key.rotation_sha256 == name_sha256:
                return Rotated(key, minted.text, _old_until(tx, key), repeated=True)
            return self._rotate(tx, act, key, minted, name_sha256, overlap_s)

        rotated = await self._database.write(write)
        self._forget(key_id)
        return rotated

    async def get(self, key_id: str, *, tenant_id: str | None = None) -> ApiKey:
        return await self._database.read(lambda tx: require_key(tx, key_id, tenant_id))

    async def list(
        self,
        tenant_id: str | None,
        *,
        state: KeyState | None = None,
        after: Place | None = None,
        limit: int | None = None,
    ) -> tuple[ApiKey, ...]:
        """Oldest first, of one tenant or of all; those after a place and in a state, if they are given."""
        wanted = KeyFilter(tenant_id, state, self._clock.now_ms())

        def read(tx: Tx) -> tuple[ApiKey, ...]:
            if tenant_id is not None:
                require_tenant(tx, tenant_id)
            return accounts.list_keys(tx, wanted, after=after, limit=limit)

        return await self._database.read(read)

    def _asked(
        self, act: Act, tenant_id: str, minted: keys.MintedKey, mode: KeyMode, terms: KeyTerms
    ) -> ApiKey:
        """The key as it is asked for, whoever may have it. Raises `InvalidRequest`."""
        now_ms = self._clock.now_ms()
        new = ApiKey(
            id=minted.public_id,
            tenant_id=tenant_id,
            name="",
            sha256=minted.sha256,
            created_at_ms=now_ms,
            mode=mode,
            created_by=act.actor,
        )
        return _with_terms(new, terms, now_ms)

    def _insert(self, tx: Tx, act: Act, asked: ApiKey, creator: Grant | None) -> ApiKey:
        key = _bounded(tx, asked, creator)
        accounts.insert_key(tx, key)
        audit.record_of(tx, act, "key.create", key, None, pictures.of_key(key), at_ms=self._clock.now_ms())
        return key

    def _next_secret(self, key: ApiKey, name: str | None) -> tuple[keys.MintedKey, str | None]:
        """A new secret for a key, and the hash of the rotation's name."""
        if name is None:
            return keys.mint_again(key.id, self._choose, key.mode), None
        return derived.named_secret(self._rotation_secret, key, name), derived.name_sha256(name)

    def _rotate(
        self, tx: Tx, act: Act, key: ApiKey, minted: keys.MintedKey, name_sha256: str | None, overlap_s: int
    ) -> Rotated:
        now_ms = self._clock.now_ms()
        state = key.state_at(now_ms)
        if state in {KeyState.REVOKED, KeyState.EXPIRED}:
            raise Conflict(f"Key {key.id} is {state.value}; create another instead.")
        accounts.drop_retired(tx, key.id, now_ms=now_ms)
        if name_sha256 is not None and name_sha256 in {
            retired.rotation_sha256 for retired in accounts.get_retired(tx, key.id)
        }:
            raise Conflict("Another rotation came after the one of this name; rotate under a new name.")
        until_ms = min(now_ms + overlap_s * 1000, key.expires_at_ms or now_ms + overlap_s * 1000)
        if until_ms > now_ms:
            retired = RetiredSecret(key.sha256, key.id, now_ms, until_ms, key.rotation_sha256)
            accounts.retire_secret(tx, retired)
        after = replace(key, sha256=minted.sha256, rotated_at_ms=now_ms, rotation_sha256=name_sha256)
        accounts.update_key(tx, after)
        picture = {**pictures.of_key(after), "old_until_ms": until_ms}
        audit.record_of(tx, act, "key.rotate", key, pictures.of_key(key), picture, at_ms=now_ms)
        return Rotated(after, minted.text, until_ms)

    async def _change(
        self,
        act: Act,
        action: str,
        key_id: str,
        tenant_id: str | None,
        change: Callable[[Tx, ApiKey], ApiKey],
    ) -> ApiKey:
        def write(tx: Tx) -> ApiKey:
            before = require_key(tx, key_id, tenant_id, lock=True)
            if before.revoked_at_ms is not None:
                raise Conflict(f"Key {key_id} was revoked for good; create another instead.")
            after = change(tx, before)
            accounts.update_key(tx, after)
            at_ms = self._clock.now_ms()
            audit.record_of(
                tx, act, action, after, pictures.of_key(before), pictures.of_key(after), at_ms=at_ms
            )
            return after

        changed = await self._database.write(write)
        self._forget(key_id)
        return changed


def _with_terms(key: ApiKey, terms: KeyTerms, now_ms: int) -> ApiKey:
    changed = replace(key, **terms)
    changed = replace(changed, name=changed.name.strip(), owner=changed.owner.strip())
    require(checks.key_faults(changed))
    if terms.get("expires_at_ms") is not None and changed.state_at(now_ms) is KeyState.EXPIRED:
        raise InvalidRequest((FieldError("expires_at", "past", "must be in the future."),))
    return changed


def _bounded(tx: Tx, key: ApiKey, creator: Grant | None) -> ApiKey:
    """The key as its tenant and its creator allow it. Raises `InvalidRequest` for what goes beyond."""
    tenant = require_tenant(tx, key.tenant_id, lock=True)
    require(excesses(key, grant_of_tenant(tenant), "its tenant's"))
    if creator is None:
        return key
    require(excesses(key, creator, "its creator's"))
    return narrowed(key, creator)


def require_key(tx: Tx, key_id: str, tenant_id: str | None = None, *, lock: bool = False) -> ApiKey:
    """Raises `NotFound`; with ``tenant_id`` another tenant's key is nobody's.

    With ``lock`` nobody else changes it meanwhile, or is admitted by it.
    """
    if lock:
        lock_tenant_of_key(tx, key_id)
    key = accounts.get_key(tx, key_id)
    if key is None or (tenant_id is not None and key.tenant_id != tenant_id):
        raise NotFound(
            f"There is no key {key_id!r}; `gateway key list` shows them.", code=ErrorCode.NOT_FOUND
        )
    return key


def _check_repeats(there: ApiKey, wanted: ApiKey) -> None:
    """Raises `Conflict` unless the key is still the one that the same request made."""
    if there.rotated_at_ms is not None:
        raise Conflict(
            f"Key {there.id}, made under this name, has been rotated since; its first text is gone."
        )
    if there.rotation_sha256 != wanted.rotation_sha256:
        raise Conflict(
            f"Key {there.id} was made under this Idempotency-Key by another request; send a new one.",
            code=ErrorCode.IDEMPOTENCY_KEY_REUSED,
        )


def _old_until(tx: Tx, key: ApiKey) -> int:
    """When the secret goes that the newest rotation replaced; when it was replaced, if it went at once."""
    rotated_at_ms = key.rotated_at_ms or 0
    ends = [
        each.expires_at_ms for each in accounts.get_retired(tx, key.id) if each.retired_at_ms == rotated_at_ms
    ]
    return max(ends, default=rotated_at_ms)
