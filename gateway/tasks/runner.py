"""The worker: claims tasks up to its concurrency, keeps their leases, gives back what it cannot finish."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from gateway.db import cancels, work
from gateway.db.engine import Database, Tx
from gateway.db.work import Lease
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.model import Task, TaskState
from gateway.ports import Clock
from gateway.tasks.claiming import Claimed, Claimer
from gateway.tasks.closing import LeaseLost
from gateway.tasks.pipeline import Begun, Pipeline
from gateway.tasks.repeating import attempt, repeat, stop
from gateway.tasks.signals import Signals
from gateway.telemetry import log_context, trace_names

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Work submitted here wakes the runner at once; this is for what other processes submit or give back.
_LOOK_EVERY_S = 1.0
_RENEWALS_PER_LEASE = 3
_PUT_BACK_DELAY_S = 5.0
# What was touched in so short a time is looked at together.
_GATHER_S = 0.05


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
        claimer: Claimer,
        signals: Signals,
        metrics: Metrics,
        clock: Clock,
        policy: RunnerPolicy,
    ) -> None:
        self._database = database
        self._pipeline = pipeline
        self._claimer = claimer
        self._signals = signals
        self._metrics = metrics
        self._clock = clock
        self._policy = policy
        # By lease, not by task: one that was lost may still be winding up when its task is claimed anew.
        self._active: dict[str, tuple[Lease, asyncio.Task[None]]] = {}
        # Leases that are gone, whose work is winding up: it is not to be disturbed again.
        self._lost: set[str] = set()
        # Something that is worked on here was changed by somebody; perhaps it was canceled.
        self._doubtful = asyncio.Event()
        database.listen(self._hear)
        # At the last look nothing waited that could not be taken: a free slot need not look again.
        self._idle = False
        self._admitting: set[asyncio.Future[Any]] = set()
        self._claiming: asyncio.Task[None] | None = None
        self._keeping: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if not self._policy.concurrency:
            return
        renew_every_s = self._policy.lease_s / _RENEWALS_PER_LEASE
        self._claiming = asyncio.create_task(self._claim_for_ever())
        self._keeping = [
            asyncio.create_task(repeat(self._clock, "renewing leases", renew_every_s, self._renew)),
            asyncio.create_task(repeat(self._clock, "expiring leases", _LOOK_EVERY_S, self._expire)),
            asyncio.create_task(self._watch_for_ever()),
        ]

    async def drain(self) -> None:
        """Stop claiming, finish what fits into the grace time, give the rest back at once."""
        claiming, self._claiming = self._claiming, None
        if claiming is not None:
            await stop([claiming])
        if self._admitting:
            await asyncio.wait(self._admitting)
        running = [running for _, running in self._active.values()]
        if running:
            await asyncio.wait(running, timeout=self._policy.grace_s)
        await stop(running)
        await stop(self._keeping)

    async def _claim_for_ever(self) -> None:
        while True:
            await attempt(self._clock, "claiming", self._claim)
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._signals.work.wait()
            except TimeoutError:
                continue
            self._signals.work.clear()

    async def admit(self, task: Task, write: Callable[[Tx], T]) -> T:
        """Run the transaction that writes a new task, and see to it that the task will be run.

        Where a slot is free and nothing waits for it, the task is claimed in the same transaction: it would
        be its turn anyway, and this spares it a commit.
        """
        if not self._may_start_at_once():
            written = await self._database.write(write)
            self._signals.work.set()
            return written
        admitting = asyncio.ensure_future(self._database.write(partial(self._admit_and_claim, task, write)))
        self._admitting.add(admitting)
        # Not here, after the await: a caller that hangs up must not take the task's worker away.
        admitting.add_done_callback(self._take)
        return (await asyncio.shield(admitting))[0]

    def _may_start_at_once(self) -> bool:
        return (
            self._claiming is not None and self._idle and not self._signals.work.is_set() and self._free() > 0
        )

    def _free(self) -> int:
        return self._policy.concurrency - len(self._active) - len(self._admitting)

    def _admit_and_claim(self, task: Task, write: Callable[[Tx], T], tx: Tx) -> tuple[T, Claimed | None]:
        return write(tx), self._claimer.take_this(tx, task)

    def _take(self, admitting: "asyncio.Future[tuple[Any, Claimed | None]]") -> None:
        self._admitting.discard(admitting)
        if admitting.cancelled() or admitting.exception() is not None:
            return
        claimed = admitting.result()[1]
        if claimed is None:
            # The tenant runs as many as it may.
            self._signals.work.set()
        else:
            self._begin(*claimed)

    async def _claim(self) -> None:
        self._idle = False
        free = self._free()
        if free <= 0:
            return
        claimed = asyncio.ensure_future(self._database.write(lambda tx: self._claimer.take_next(tx, free)))
        try:
            leases, idle = await asyncio.shield(claimed)
        except asyncio.CancelledError:
            # Draining in the middle of a claim: what it won is run or given back like the rest.
            with contextlib.suppress(GatewayError):
                for lease, begun in (await claimed)[0]:
                    self._begin(lease, begun)
            raise
        for lease, begun in leases:
            self._begin(lease, begun)
        self._idle = idle

    def _begin(self, lease: Lease, begun: Begun | None) -> None:
        self._metrics.task_changed(lease.task.model, TaskState.RUNNING, lease.task.mode)
        self._active[lease.token] = (lease, asyncio.create_task(self._work(lease, begun)))
        # Canceled between its claim and now, nobody would have been found here to be told.
        self._doubtful.set()
        self._metrics.running.set(len(self._active))

    async def _work(self, lease: Lease, begun: Begun | None) -> None:
        task, left = lease.task, None
        with log_context(
            task_id=task.id,
            tenant_id=task.tenant_id,
            request_id=task.request_id,
            **trace_names(task.traceparent),
        ):
            try:
                left = await self._pipeline.run(lease, begun)
                logger.info("task is %s", left.state.value)
            except LeaseLost:
                logger.warning("another worker has the task; what was made here is dropped")
            except asyncio.CancelledError:
                if lease.token in self._lost:
                    logger.info("the task was taken away; work on it was broken off")
                else:
                    await self._give_back(lease, 0.0, "drain")
            except GatewayError as error:
                logger.error("task was put back: %s", error.internal or error.detail)
                await self._give_back(lease, _PUT_BACK_DELAY_S, "gateway_error")
            except Exception:  # a mistake of ours in one task must not end the worker
                logger.exception("task was put back")
                await self._give_back(lease, _PUT_BACK_DELAY_S, "gateway_error")
            finally:
                del self._active[lease.token]
                self._lost.discard(lease.token)
                self._metrics.running.set(len(self._active))
                self._signals.ended(task.id, left if left is not None and left.state.terminal else None)
                if not (self._idle and left is not None and left.state.terminal):
                    self._signals.work.set()

    def abort(self, task_id: str) -> None:
        """Break off the work on a task that was canceled, and its call with it, if that is done here."""
        for token in [token for token, (lease, _) in self._active.items() if lease.task.id == task_id]:
            self._break_off(token)

    def _break_off(self, token: str) -> None:
        # It may have ended meanwhile.
        if token in self._active and token not in self._lost:
            self._lost.add(token)
            # Not before its first step, without which it would not come to its last.
            asyncio.get_running_loop().call_soon(self._active[token][1].cancel)

    def _hear(self, touched: frozenset[str] | None) -> None:
        if any(touched is None or lease.task.id in touched for lease, _ in self._active.values()):
            self._doubtful.set()

    async def _watch_for_ever(self) -> None:
        """Find out what was canceled elsewhere. What is missed here is found when its lease is renewed."""
        while True:
            await self._doubtful.wait()
            await self._clock.sleep(_GATHER_S)
            self._doubtful.clear()
            await attempt(self._clock, "looking for canceled tasks", self._abort_canceled)

    async def _abort_canceled(self) -> None:
        held = [lease.task.id for lease, _ in self._active.values()]
        if held:
            for task_id in await self._database.read(partial(cancels.list_canceled, ids=held)):
                self.abort(task_id)

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
            self._break_off(token)

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
