"""What a tenant may do with webhooks: endpoints, their secrets, and the log of deliveries."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import httpx

from gateway.db import audit, deliveries, tenants, webhooks
from gateway.db.engine import Database, Tx
from gateway.db.locks import lock_tenant
from gateway.errors import Conflict, ErrorCode, FieldError, InvalidRequest, NotFound
from gateway.messages import Delivery, DeliveryState, DisabledReason, Endpoint, EventType, SecretState, Try
from gateway.model import Act
from gateway.ports import Clock
from gateway.webhooks.addresses import AddressPolicy
from gateway.webhooks.outbox import Announcer
from gateway.webhooks.signing import Secrets

MAX_ENDPOINTS = 20
DESCRIPTION_CHARS = 200
#: How long a secret that was replaced goes on signing: long enough to deploy the next, short enough to end.
DEFAULT_OVERLAP_S = 24 * 3600
LEAST_OVERLAP_S = 60
MOST_OVERLAP_S = 7 * 24 * 3600
MAX_PAGE = 100
# Rows that one transaction replays: others write in between.
_REPLAY_AT_ONCE = 500
_CURSOR = re.compile(r"([0-9]{1,15})-(msg_[0-9a-z]{26})")


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change about an endpoint; None leaves a thing as it is. ``events`` of nothing means all."""

    url: str | None = None
    description: str | None = None
    events: tuple[EventType, ...] | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """The text of the secret that signs now, and which one it is."""

    text: str
    state: SecretState


@dataclass(frozen=True, slots=True)
class Page:
    """Deliveries, newest first, and the last try of each that was tried. The last page has no cursor."""

    deliveries: tuple[Delivery, ...]
    last_tries: dict[str, Try]
    cursor: str | None


class Webhooks:
    """Changes are written together with their entries in the audit log.

    Raises `NotFound` for what is not the tenant's, `InvalidRequest` or `Conflict` for what will not do.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        new_id: Callable[[str], str],
        policy: AddressPolicy,
        secrets: Secrets,
        announcer: Announcer,
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._policy = policy
        self._secrets = secrets
        self._announcer = announcer

    # Endpoints

    async def create(
        self,
        act: Act,
        tenant_id: str,
        url: str,
        *,
        description: str = "",
        events: Iterable[EventType] | None = None,
    ) -> Endpoint:
        """Register an address, once; ``events`` None sends it everything there is and will be."""
        self._policy.check_url(url, "url")
        endpoint = Endpoint(
            id=self._new_id("whep"),
            tenant_id=tenant_id,
            url=url,
            description=description,
            events=None if events is None else tuple(events),
            created_at_ms=self._clock.now_ms(),
        )

        def write(tx: Tx) -> None:
            _lock(tx, tenant_id)
            there = webhooks.list_endpoints(tx, tenant_id)
            _require_other(there, url)
            if len(there) >= MAX_ENDPOINTS:
                raise Conflict(f"A tenant has at most {MAX_ENDPOINTS} webhook endpoints; delete one first.")
            webhooks.insert_endpoint(tx, endpoint)
            at_ms = endpoint.created_at_ms
            audit.record_of(tx, act, "webhook.create", endpoint, None, _picture(endpoint), at_ms=at_ms)

        await self._database.write(write)
        return endpoint

    async def list(self, tenant_id: str) -> tuple[Endpoint, ...]:
        return await self._database.read(lambda tx: webhooks.list_endpoints(tx, tenant_id))

    async def get(self, tenant_id: str, endpoint_id: str) -> Endpoint:
        return await self._database.read(lambda tx: _require(tx, tenant_id, endpoint_id))

    async def change(self, act: Act, tenant_id: str, endpoint_id: str, changes: Changes) -> Endpoint:
        """The endpoint as it is then. Enabling it, or giving it another address, forgets that it failed."""
        if changes.url is not None:
            self._policy.check_url(changes.url, "url")
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> Endpoint:
            _lock(tx, tenant_id)
            endpoint = _require(tx, tenant_id, endpoint_id)
            if changes.url is not None and changes.url != endpoint.url:
                _require_other(webhooks.list_endpoints(tx, tenant_id), changes.url)
            values = _changed(endpoint, changes, now_ms)
            webhooks.change_endpoint(tx, endpoint_id, values)
            changed = replace(endpoint, **values)
            before, after = _picture(endpoint), _picture(changed)
            audit.record_of(tx, act, "webhook.update", endpoint, before, after, at_ms=now_ms)
            return changed

        return await self._database.write(write)

    async def delete(self, act: Act, tenant_id: str, endpoint_id: str) -> None:
        """What still waits for it is not sent."""
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> None:
            endpoint = _require(tx, tenant_id, endpoint_id)
            webhooks.delete_endpoint(tx, endpoint_id, now_ms=now_ms)
            audit.record_of(tx, act, "webhook.delete", endpoint, _picture(endpoint), None, at_ms=now_ms)

        await self._database.write(write)

    async def test(self, tenant_id: str, endpoint_id: str) -> Delivery:
        """Send the endpoint a `webhook.test`; a test that is under way is returned instead of another."""
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> Delivery:
            endpoint = _require(tx, tenant_id, endpoint_id)
            if endpoint.disabled_at_ms is not None:
                raise _disabled()
            return self._announcer.announce_test(tx, endpoint, now_ms=now_ms)

        return await self._database.write(write)

    # Secrets. ``endpoint_id`` None is the secret of addresses that the tenant's requests name.

    async def secret(self, tenant_id: str, endpoint_id: str | None) -> Secret:
        state = await self._database.read(lambda tx: _secret_state(tx, tenant_id, endpoint_id))
        return self._told(tenant_id, endpoint_id, state)

    async def rotate(self, act: Act, tenant_id: str, endpoint_id: str | None, *, overlap_s: int) -> Secret:
        """A new secret; the one before goes on signing beside it for ``overlap_s`` seconds.

        Safe to repeat: while both sign there is no third, since that would drop the one that receivers have.
        A repetition answers with the newer of the two, and can only bring the end of the older one forward.
        """
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> SecretState:
            _lock(tx, tenant_id)
            before = _secret_state(tx, tenant_id, endpoint_id)
            after = _rotated(before, now_ms, now_ms + overlap_s * 1000)
            if endpoint_id is None:
                webhooks.set_secret(tx, tenant_id, after)
            else:
                webhooks.set_endpoint_secret(tx, endpoint_id, after)
            audit.record(
                tx,
                act,
                "webhook.rotate",
                tenant_id=tenant_id,
                target=endpoint_id or tenant_id,
                before=asdict(before),
                after=asdict(after),
                at_ms=now_ms,
            )
            return after

        return self._told(tenant_id, endpoint_id, await self._database.write(write))

    def _told(self, tenant_id: str, endpoint_id: str | None, state: SecretState) -> Secret:
        if endpoint_id is None:
            return Secret(self._secrets.of_tenant(tenant_id, state.version), state)
        return Secret(self._secrets.of_endpoint(endpoint_id, state.version), state)

    # Deliveries

    async def deliveries(
        self, tenant_id: str, *, state: DeliveryState | None, cursor: str | None, limit: int
    ) -> Page:
        """A page of the log; ``cursor`` is that of the page before."""
        before = _read_cursor(cursor) if cursor is not None else None

        def read(tx: Tx) -> Page:
            # One more than asked for tells whether there is another page.
            found = deliveries.list_deliveries(tx, tenant_id, state=state, before=before, at_most=limit + 1)
            shown = found[:limit]
            tries = deliveries.get_last_tries(tx, [delivery.id for delivery in shown])
            return Page(shown, tries, _write_cursor(shown[-1]) if len(found) > limit else None)

        return await self._database.read(read)

    async def delivery(self, tenant_id: str, delivery_id: str) -> tuple[Delivery, tuple[Try, ...]]:
        """A delivery with its message, and every try of it."""

        def read(tx: Tx) -> tuple[Delivery, tuple[Try, ...]]:
            return _require_delivery(tx, tenant_id, delivery_id), deliveries.list_tries(tx, delivery_id)

        return await self._database.read(read)

    async def replay(self, tenant_id: str, delivery_id: str) -> Delivery:
        """Send it again, under its own id; one that waits for another try is tried at once."""
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> Delivery:
            delivery = _require_delivery(tx, tenant_id, delivery_id)
            if delivery.endpoint_id is not None:
                endpoint = webhooks.get_endpoint(tx, tenant_id, delivery.endpoint_id)
                if endpoint is None:
                    raise Conflict("The endpoint of this delivery was deleted.")
                if endpoint.disabled_at_ms is not None:
                    raise _disabled()
            # Under way just now, it changes nothing: that try is as good.
            deliveries.replay(tx, tenant_id, delivery_id, now_ms=now_ms)
            return _require_delivery(tx, tenant_id, delivery_id)

        return await self._database.write(write)

    async def replay_failed(self, tenant_id: str) -> int:
        """Send again all that has failed, but for endpoints that are disabled; how many there were."""
        now_ms = self._clock.now_ms()
        replay = partial(
            deliveries.replay_failed,
            tenant_id=tenant_id,
            until_ms=now_ms,
            at_most=_REPLAY_AT_ONCE,
            now_ms=now_ms,
        )
        count = 0
        while True:
            replayed = await self._database.write(replay)
            count += replayed
            if replayed < _REPLAY_AT_ONCE:
                return count


def _lock(tx: Tx, tenant_id: str) -> None:
    """How many endpoints there are, and which secret is the newest, is looked at before it is changed."""
    lock_tenant(tx, tenant_id)
    if tenants.get_tenant(tx, tenant_id) is None:
        raise NotFound(f"There is no tenant {tenant_id!r}.", code=ErrorCode.NOT_FOUND)


def _require(tx: Tx, tenant_id: str, endpoint_id: str) -> Endpoint:
    endpoint = webhooks.get_endpoint(tx, tenant_id, endpoint_id)
    if endpoint is None:
        raise _no_endpoint()
    return endpoint


def _require_delivery(tx: Tx, tenant_id: str, delivery_id: str) -> Delivery:
    delivery = deliveries.get_delivery(tx, tenant_id, delivery_id)
    if delivery is None:
        raise NotFound("There is no such delivery of yours.", code=ErrorCode.NOT_FOUND)
    return delivery


def _require_other(there: Iterable[Endpoint], url: str) -> None:
    """Two endpoints with one address would be told everything twice; mostly the request was only repeated."""
    for endpoint in there:
        if endpoint.url == url:
            raise Conflict(f"The endpoint {endpoint.id} has this address already.")


def _changed(endpoint: Endpoint, changes: Changes, now_ms: int) -> dict[str, Any]:
    """The fields that become others."""
    values: dict[str, Any] = {}
    if changes.url is not None and changes.url != endpoint.url:
        values |= {"url": changes.url, "failing_since_ms": None}
    if changes.description is not None:
        values["description"] = changes.description
    if changes.events is not None:
        values["events"] = changes.events or None
    if changes.enabled is True and endpoint.disabled_at_ms is not None:
        values |= {"disabled_at_ms": None, "disabled_reason": None, "failing_since_ms": None}
    if changes.enabled is False and endpoint.disabled_at_ms is None:
        values |= {"disabled_at_ms": now_ms, "disabled_reason": DisabledReason.REQUESTED}
    return values


def _picture(endpoint: Endpoint) -> audit.Picture:
    """As the audit log has it: of the address only the host, and a hash, since paths may hold secrets."""
    return {
        "host": httpx.URL(endpoint.url).netloc.decode("ascii"),
        "url_sha256": hashlib.sha256(endpoint.url.encode()).hexdigest(),
        "description": endpoint.description,
        "events": None if endpoint.events is None else list(endpoint.events),
        "disabled_reason": endpoint.disabled_reason,
    }


def _secret_state(tx: Tx, tenant_id: str, endpoint_id: str | None) -> SecretState:
    if endpoint_id is None:
        return webhooks.get_secret(tx, tenant_id)
    return _require(tx, tenant_id, endpoint_id).secret


def _rotated(state: SecretState, now_ms: int, until_ms: int) -> SecretState:
    if state.previous_until_ms is not None and now_ms < state.previous_until_ms:
        return replace(state, previous_until_ms=min(state.previous_until_ms, until_ms))
    return SecretState(state.version + 1, until_ms)


def _write_cursor(last: Delivery) -> str:
    return f"{last.created_at_ms}-{last.id}"


def _read_cursor(cursor: str) -> tuple[int, str]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        detail = "is not one that this request gave; leave it out to begin at the newest."
        raise InvalidRequest((FieldError("cursor", "invalid_cursor", detail),))
    return int(found[1]), found[2]


def _no_endpoint() -> NotFound:
    return NotFound("There is no such webhook endpoint of yours.", code=ErrorCode.NOT_FOUND)


def _disabled() -> Conflict:
    return Conflict("This endpoint is disabled; enable it first.")
