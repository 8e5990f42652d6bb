"""The pump: takes what is due from the outbox and sends it, beside the worker and never in its way.

Several processes may pump one outbox. Each message goes out once in the ordinary case, and again under the
same id when its pump died before it could say how it went.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.db import deliveries, webhooks
from gateway.db.deliveries import Claim
from gateway.db.engine import Database, Tx
from gateway.errors import GatewayError, Unavailable
from gateway.messages import DeliveryState, DisabledReason, Endpoint, TryOutcome
from gateway.metrics import WebhookMetrics
from gateway.ports import Clock
from gateway.telemetry import log_context
from gateway.webhooks.backoff import pause_s
from gateway.webhooks.outbox import Announcer
from gateway.webhooks.sender import Answer, Message, Sender
from gateway.webhooks.sharing import Caps, share_out
from gateway.webhooks.signing import Secrets

logger = logging.getLogger(__name__)

# What is written here wakes the pump at once; this is for what other processes wrote, or left undone.
_LOOK_EVERY_S = 1.0
# Well beyond a try and the patience below, so that it need not be renewed.
_LEASE_MS = 60_000
# For the record of a try that a database does not take at once.
_PATIENCE_S = (0.5, 1.0, 2.0, 4.0)
_PUT_BACK_MS = 5_000
#: An endpoint that has done nothing but fail for so long is disabled.
FAILING_FOR_MS = 5 * 24 * 3_600_000
_DISABLED = Answer(TryOutcome.DISABLED)
# What no further try would change.
_FINAL = frozenset({TryOutcome.GONE, TryOutcome.DISABLED})


@dataclass(frozen=True, slots=True)
class PumpPolicy:
    grace_s: float
    caps: Caps = field(default_factory=Caps)


@dataclass(frozen=True, slots=True)
class _Job:
    """A claim, its message, and the endpoint it is for; without a message there is nobody to send it to."""

    claimed: Claim
    endpoint: Endpoint | None
    message: Message | None


@dataclass(frozen=True, slots=True)
class _Settled:
    """What recording a try led to."""

    delivered_after_s: float | None = None
    disabled: DisabledReason | None = None


class Pump:
    """Delivers until told to drain."""

    def __init__(
        self,
        database: Database,
        sender: Sender,
        secrets: Secrets,
        announcer: Announcer,
        metrics: WebhookMetrics,
        clock: Clock,
        new_token: Callable[[], str],
        chance: Callable[[], float],
        policy: PumpPolicy,
    ) -> None:
        self._database = database
        self._sender = sender
        self._secrets = secrets
        self._announcer = announcer
        self._metrics = metrics
        self._clock = clock
        self._new_token = new_token
        self._chance = chance
        self._policy = policy
        self._due = asyncio.Event()
        self._running: Counter[str] = Counter()
        self._active: set[asyncio.Task[None]] = set()
        self._pumping: asyncio.Task[None] | None = None
        database.listen(self._hear)

    def start(self) -> None:
        self._pumping = asyncio.create_task(self._pump_for_ever())

    async def drain(self) -> None:
        """Claim nothing more, let what is under way end within the grace time, give the rest back at once."""
        pumping, self._pumping = self._pumping, None
        if pumping is not None:
            pumping.cancel()
            await asyncio.wait([pumping])
        if self._active:
            await asyncio.wait(self._active, timeout=self._policy.grace_s)
        late = list(self._active)
        for delivering in late:
            delivering.cancel()
        if late:
            await asyncio.wait(late)

    def _hear(self, touched: frozenset[str] | None) -> None:
        # What other processes wrote (None) they deliver themselves; the next look takes up what they leave.
        if touched is not None and webhooks.OUTBOX in touched:
            self._due.set()

    async def _pump_for_ever(self) -> None:
        while True:
            try:
                while await self._claim():
                    pass
            except GatewayError as error:
                logger.error("claiming webhooks failed: %s", error.internal or error.detail)
            except Exception:  # the pump outlives any one mistake; the next round starts afresh
                logger.exception("claiming webhooks failed")
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._due.wait()
            except TimeoutError:
                continue
            self._due.clear()

    async def _claim(self) -> bool:
        """Begin what may begin now; whether that was anything."""
        if self._running.total() >= self._policy.caps.total:
            return False
        now_ms = self._clock.now_ms()
        # Looked for in a reading transaction: most looks find nothing, and need not wait for writers.
        due = await self._database.read(partial(deliveries.list_due, now_ms=now_ms))
        shares = share_out(due, +self._running, self._policy.caps)
        if not shares:
            return False
        claiming = asyncio.ensure_future(self._database.write(partial(self._take, shares)))
        try:
            jobs = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # Draining in the middle of a claim: what it won is sent or given back like the rest.
            with contextlib.suppress(GatewayError):
                for job in await claiming:
                    self._begin(job)
            raise
        for job in jobs:
            self._begin(job)
        return bool(jobs)

    def _take(self, shares: dict[str, int], tx: Tx) -> tuple[_Job, ...]:
        now_ms = self._clock.now_ms()
        claimed = deliveries.claim(
            tx, shares, token=self._new_token(), now_ms=now_ms, expires_at_ms=now_ms + _LEASE_MS
        )
        return tuple(self._job(tx, each, now_ms) for each in claimed)

    def _job(self, tx: Tx, claimed: Claim, now_ms: int) -> _Job:
        delivery = claimed.delivery
        if delivery.endpoint_id is None:
            endpoint, url, state = None, delivery.url, webhooks.get_secret(tx, delivery.tenant_id)
        else:
            endpoint = webhooks.find_endpoint(tx, delivery.endpoint_id)
            if endpoint.disabled_at_ms is not None:
                return _Job(claimed, endpoint, None)
            # Where it is now: whoever corrects an address wants what waits to go there.
            url, state = endpoint.url, endpoint.secret
        secrets = self._secrets.that_sign(delivery.tenant_id, delivery.endpoint_id, state, now_ms)
        return _Job(claimed, endpoint, Message(delivery.id, url, delivery.body, secrets))

    def _begin(self, job: _Job) -> None:
        lane = job.claimed.lane
        self._running[lane] += 1
        delivering = asyncio.create_task(self._deliver(job))
        self._active.add(delivering)
        delivering.add_done_callback(partial(self._ended, lane))

    def _ended(self, lane: str, delivering: "asyncio.Task[None]") -> None:
        self._active.discard(delivering)
        self._running[lane] -= 1
        if not self._running[lane]:
            del self._running[lane]
        self._due.set()

    async def _deliver(self, job: _Job) -> None:
        delivery = job.claimed.delivery
        with log_context(tenant_id=delivery.tenant_id, task_id=delivery.task_id or ""):
            try:
                answer = _DISABLED if job.message is None else await self._sender.send(job.message)
                await self._record(job, answer)
            except asyncio.CancelledError:
                await self._give_back(job.claimed, 0)
            except GatewayError as error:
                logger.error("a webhook's try is not recorded, it will go out again: %s", error.internal)
            except Exception:  # a mistake of ours in one delivery must not end the pump
                logger.exception("a webhook was put back")
                await self._give_back(job.claimed, _PUT_BACK_MS)

    async def _record(self, job: _Job, answer: Answer) -> None:
        self._metrics.tried(answer.outcome)
        settled = await self._settle(partial(self._write, job, answer))
        told = {"endpoint_id": job.claimed.delivery.endpoint_id, "status": answer.status}
        if settled is None:
            logger.warning("another process has the webhook %s; it may go out twice", job.claimed.delivery.id)
            return
        logger.info("webhook %s: %s", job.claimed.delivery.id, answer.outcome.value, extra=told)
        if settled.delivered_after_s is not None:
            self._metrics.seconds.observe(settled.delivered_after_s)
        if settled.disabled is not None:
            logger.warning("webhook endpoint disabled: %s", settled.disabled.value, extra=told)

    async def _settle(self, write: Callable[[Tx], _Settled | None]) -> _Settled | None:
        """Record a try; a database that is unavailable is waited for, a while."""
        for patience_s in _PATIENCE_S:
            try:
                return await self._database.write(write)
            except Unavailable as error:
                logger.warning("how a webhook went is not recorded yet: %s", error.internal)
            await self._clock.sleep(patience_s)
        return await self._database.write(write)

    def _write(self, job: _Job, answer: Answer, tx: Tx) -> _Settled | None:
        """The try, the delivery's next state, and what both mean for its endpoint; None without the lease."""
        now_ms = self._clock.now_ms()
        claimed, delivery, outcome = job.claimed, job.claimed.delivery, answer.outcome
        tried = deliveries.record_try(
            tx,
            claimed,
            at_ms=now_ms - answer.duration_ms,
            duration_ms=answer.duration_ms,
            status=answer.status,
            outcome=outcome,
        )
        if tried is None:
            return None
        if outcome is TryOutcome.DELIVERED:
            deliveries.finish(tx, claimed, DeliveryState.DELIVERED, now_ms=now_ms)
            if job.endpoint is not None:
                webhooks.note_success(tx, job.endpoint.id)
            # A replay is late by its nature, and says nothing about the pump.
            replayed = tried.number > delivery.tries + 1
            return _Settled(None if replayed else max(0, now_ms - delivery.created_at_ms) / 1000)
        pause = (
            None if outcome in _FINAL else pause_s(delivery.tries + 1, self._chance(), answer.retry_after_s)
        )
        if pause is None:
            deliveries.finish(tx, claimed, DeliveryState.FAILED, now_ms=now_ms)
        else:
            deliveries.put_off(tx, claimed, due_at_ms=now_ms + round(pause * 1000))
        return _Settled(disabled=self._blame(tx, job.endpoint, outcome, now_ms) if job.endpoint else None)

    def _blame(self, tx: Tx, endpoint: Endpoint, outcome: TryOutcome, now_ms: int) -> DisabledReason | None:
        """Note that an endpoint failed; why it is disabled from now on, if it is."""
        if outcome is TryOutcome.DISABLED:
            return None
        since_ms = webhooks.note_failure(tx, endpoint.id, now_ms=now_ms)
        if outcome is TryOutcome.GONE:
            reason = DisabledReason.GONE
        elif now_ms - since_ms >= FAILING_FOR_MS:
            reason = DisabledReason.FAILING
        else:
            return None
        if not webhooks.disable_endpoint(tx, endpoint.id, reason, now_ms=now_ms):
            return None
        gone = replace(endpoint, disabled_reason=reason, failing_since_ms=since_ms)
        self._announcer.announce_disabled(tx, gone, now_ms=now_ms)
        return reason

    async def _give_back(self, claimed: Claim, delay_ms: int) -> None:
        due_at_ms = self._clock.now_ms() + delay_ms
        try:
            await self._database.write(lambda tx: deliveries.put_off(tx, claimed, due_at_ms=due_at_ms))
        except GatewayError as error:
            logger.error("could not give a webhook back, its lease will run out: %s", error.internal)
