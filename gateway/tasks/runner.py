"""The worker: claims tasks up to its concurrency, keeps their leases, gives back what it cannot finish."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from gateway.db import work
from gateway.db.engine import Database, Tx
from gateway.db.work import Lease
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.model import TaskState
from gateway.ports import Clock
from gateway.tasks.fairshare import choose
from gateway.tasks.pipeline import LeaseLost, Pipeline
from gateway.tasks.signals import Signals
from gateway.telemetry import log_context, trace_id

logger = logging.getLogger(__name__)

# Work submitted here wakes the runner at once; this is for what other processes submit or give back.
_LOOK_EVERY_S = 1.0
_RENEWALS_PER_LEASE = 3
_PUT_BACK_DELAY_S = 5.0


@dataclass(frozen=True, slots=True)
class RunnerPolicy:
    concurrency: int
    lease_s: float
    grace_s: float


class Runner:
    """Runs tasks until told to drain."""

    def __init__(
        self,
        database: Database,
        pipeline: Pipeline,
        signals: Signals,
        metrics: Metrics,
        clock: Clock,
        new_token: Callable[[], str],
        policy: RunnerPolicy,
    ) -> None:
        self._database = database
        self._pipeline = pipeline
        self._signals = signals
        self._metrics = metrics
        self._clock = clock
        self._new_token = new_token
        self._policy = policy
        # By lease, not by task: one that was lost may still be winding up when its task is claimed anew.
        self._active: dict[str, tuple[Lease, asyncio.Task[None]]] = {}
        self._turns: dict[str, int] = {}
        self._next_turn = itertools.count(1)
        self._claiming: asyncio.Task[None] | None = None
        self._keeping: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if not self._policy.concurrency:
            return
        renew_every_s = self._policy.lease_s / _RENEWALS_PER_LEASE
        self._claiming = asyncio.create_task(self._claim_for_ever())
        self._keeping = [
            asyncio.create_task(self._repeat("renewing leases", renew_every_s, self._renew)),
            asyncio.create_task(self._repeat("expiring leases", _LOOK_EVERY_S, self._expire)),
        ]

    async def drain(self) -> None:
        """Stop claiming, finish what fits into the grace time, give the rest back at once."""
        if self._claiming is not None:
            await _stop([self._claiming])
        running = [running for _, running in self._active.values()]
        if running:
            await asyncio.wait(running, timeout=self._policy.grace_s)
        await _stop(running)
        await _stop(self._keeping)

    async def _claim_for_ever(self) -> None:
        while True:
            await self._attempt("claiming", self._claim)
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._signals.work.wait()
            except TimeoutError:
                continue
            self._signals.work.clear()

    async def _repeat(self, name: str, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._clock.sleep(seconds)
            await self._attempt(name, action)

    async def _attempt(self, name: str, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except GatewayError as error:
            logger.error("%s failed: %s", name, error.internal or error.detail)
            await self._clock.sleep(_LOOK_EVERY_S)
        except Exception:  # a worker's loop outlives any one mistake; the next round starts afresh
            logger.exception("%s failed", name)
            await self._clock.sleep(_LOOK_EVERY_S)

    async def _claim(self) -> None:
        free = self._policy.concurrency - len(self._active)
        if free <= 0:
            return
        claimed = asyncio.ensure_future(self._database.write(partial(self._claim_some, free)))
        try:
            leases = await asyncio.shield(claimed)
        except asyncio.CancelledError:
            # Draining in the middle of a claim: what it won is run or given back like the rest.
            with contextlib.suppress(GatewayError):
                for lease in await claimed:
                    self._begin(lease)
            raise
        for lease in leases:
            self._begin(lease)

    def _claim_some(self, free: int, tx: Tx) -> list[Lease]:
        now_ms = self._clock.now_ms()
        expires_at_ms = now_ms + round(self._policy.lease_s * 1000)
        leases: list[Lease] = []
        while len(leases) < free:
            queue = choose(work.list_queues(tx, now_ms=now_ms), self._turns)
            if queue is None or queue.task_id is None:
                break
            self._turns[queue.tenant_id] = next(self._next_turn)
            token = self._new_token()
            lease = work.claim(tx, queue.task_id, token=token, now_ms=now_ms, expires_at_ms=expires_at_ms)
            if lease is not None:
                leases.append(lease)
        return leases

    def _begin(self, lease: Lease) -> None:
        self._metrics.task_changed(lease.task.model, TaskState.RUNNING)
        self._active[lease.token] = (lease, asyncio.create_task(self._work(lease)))
        self._metrics.running.set(len(self._active))

    async def _work(self, lease: Lease) -> None:
        task = lease.task
        with log_context(
            task_id=task.id,
            tenant_id=task.tenant_id,
            request_id=task.request_id,
            trace=trace_id(task.traceparent),
        ):
            try:
                state = await self._pipeline.run(lease)
                logger.info("task is %s", state.value)
            except LeaseLost:
                logger.warning("another worker has the task; what was made here is dropped")
            except asyncio.CancelledError:
                await self._give_back(lease, 0.0, "drain")
            except GatewayError as error:
                logger.error("task was put back: %s", error.internal or error.detail)
                await self._give_back(lease, _PUT_BACK_DELAY_S, "gateway_error")
            except Exception:  # a mistake of ours in one task must not end the worker
                logger.exception("task was put back")
                await self._give_back(lease, _PUT_BACK_DELAY_S, "gateway_error")
            finally:
                del self._active[lease.token]
                self._metrics.running.set(len(self._active))
                self._signals.ended(task.id)
                self._signals.work.set()

    async def _give_back(self, lease: Lease, delay_s: float, reason: str) -> None:
        now_ms = self._clock.now_ms()
        not_before_ms = now_ms + round(delay_s * 1000)
        try:
            await self._database.write(
                lambda tx: work.requeue(
                    tx,
                    lease.task.id,
                    token=lease.token,
                    not_before_ms=not_before_ms,
                    reason=reason,
                    now_ms=now_ms,
                )
            )
        except GatewayError as error:
            logger.error("could not put the task back, its lease will run out: %s", error.internal)

    async def _renew(self) -> None:
        held = [(lease.task.id, lease.token) for lease, _ in self._active.values()]
        if not held:
            return
        expires_at_ms = self._clock.now_ms() + round(self._policy.lease_s * 1000)
        lost = await self._database.write(partial(_renew_all, held, expires_at_ms))
        for token in lost:
            # Its work may have ended meanwhile.
            if token in self._active:
                self._active[token][1].cancel()

    async def _expire(self) -> None:
        now_ms = self._clock.now_ms()
        # A process that was stopped for longer than a lease still runs what it holds; unless another has
        # taken it meanwhile, its next renewal counts. Put back here, it would be paid for twice.
        held = tuple(self._active)
        expired = await self._database.write(lambda tx: work.expire_leases(tx, now_ms=now_ms, spare=held))
        if expired:
            logger.warning("leases ran out; put back: %s", ", ".join(expired))
            self._signals.work.set()


def _renew_all(held: list[tuple[str, str]], expires_at_ms: int, tx: Tx) -> tuple[str, ...]:
    return work.renew(tx, held, expires_at_ms=expires_at_ms)


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
