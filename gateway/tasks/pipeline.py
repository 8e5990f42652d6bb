"""One task from lease to end: the calls that are still owed, their clips in storage, and what follows."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.db import work
from gateway.db.engine import Database, Tx
from gateway.db.locks import lock_claims
from gateway.db.work import AttemptEnd, Lease
from gateway.errors import AttemptFault, ErrorCode, StorageError, Unavailable, UpstreamError
from gateway.families.family import ModelCall
from gateway.families.registry import FAMILIES
from gateway.metrics import CallOutcome, Metrics
from gateway.model import Deployment, KeyMode, ModelKind, Task
from gateway.ports import Clock, ModelReply, MusicModel
from gateway.tasks import hindrances
from gateway.tasks.batch import Batch, Tools
from gateway.tasks.catalog import Catalog
from gateway.tasks.closing import Closing, Ended, LeaseLost, lane_of
from gateway.tasks.cost import cost_of
from gateway.tasks.ids import IdMaker
from gateway.tasks.outcome import Progress, missing
from gateway.tasks.planning import take_count
from gateway.tasks.pool import Pool, Room
from gateway.tasks.stand import Stand

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PipelinePolicy:
    max_attempts: int
    call_timeout_s: float


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that is recorded and must be made: its attempt, and where it goes."""

    attempt_id: str
    room: Room
    deployment: Deployment


class Pipeline:
    """Runs a leased task. Every write holds the lease; without it, nothing changes.

    ``models`` are by the mode of the key that a task was asked for with; there are none for test keys where
    those are switched off.
    """

    def __init__(
        self,
        database: Database,
        tools: Tools,
        models: Mapping[KeyMode, Mapping[ModelKind, MusicModel]],
        catalog: Catalog,
        pool: Pool,
        closing: Closing,
        metrics: Metrics,
        clock: Clock,
        new_id: IdMaker,
        policy: PipelinePolicy,
    ) -> None:
        self._database = database
        self._tools = tools
        self._models = models
        self._catalog = catalog
        self._pool = pool
        self._closing = closing
        self._metrics = metrics
        self._clock = clock
        self._new_id = new_id
        self._policy = policy

    def open(self, tx: Tx, lease: Lease, room: Room | None) -> Begun | None:
        """Record the first call of a lease in the transaction that gives it, for `run` to make.

        None when no call is owed, or none may be made: `run` finds out why.
        """
        stand = self._stand(lease)
        calls = stand.calls()
        if room is None or room.deployment is None or not calls or self._first_hindrance(stand) is not None:
            return None
        return self._begin(tx, lease, calls[0], room, room.deployment)

    async def run(self, lease: Lease, begun: Begun | None = None) -> Task:
        """Make the calls that are owed. Returns the task as it was left; raises `LeaseLost`.

        ``begun`` is what `open` gave: the first call is recorded already, and will be made.
        """
        stand = self._stand(lease)
        if begun is None and (hindrance := self._first_hindrance(stand)) is not None:
            return await self._settle(lease, stand, hindrance)
        reason: UpstreamError | None = None
        while True:
            # Without calls a worker died between the last of them and the end of the task.
            stand, problem = await self._join(lease, stand)
            reason, calls = problem or reason, stand.calls()
            if reason is None and calls and begun is None:
                reason = self._hindrance(stand)
            if reason is not None or not calls:
                return await self._settle(lease, stand, reason)
            stand, ended, reason = await self._make(lease, stand, calls, begun)
            begun = None
            if not stand.ripe and (reason is not None or not stand.unfinished):
                return await self._settle(lease, stand, reason, ended)
            if ended is not None:
                await self._closing.record(lease, ended)

    async def _make(
        self, lease: Lease, stand: Stand, calls: Sequence[ModelCall], begun: Begun | None
    ) -> tuple[Stand, Ended | None, UpstreamError | None]:
        """Make calls until one stands in the way of the others: how that leaves things, and why.

        The end of the last call that was made is not recorded yet.
        """
        ended: Ended | None = None
        reason: UpstreamError | None = None
        for call in calls:
            if ended is not None:
                await self._closing.record(lease, ended)
                ended = None
            if stand.is_lost(call):
                continue
            begun = begun or await self._database.write(partial(self._begin_where_room, lease, call))
            if begun is None:
                return stand, None, hindrances.no_room()
            end, error = await self._call(lease, begun.deployment, call, begun.attempt_id)
            ended, begun = Ended(end, begun.room, error), None
            stand = stand.after(call, end, error, self._left_s(lease))
            reason = error or reason
            if not _others_may_pass(call, end, error):
                return stand, ended, error or missing()
            hindrance = self._hindrance(stand)
            if hindrance is not None and call is not calls[-1]:
                return stand, ended, reason or hindrance
        return stand, ended, reason

    async def _join(self, lease: Lease, stand: Stand) -> tuple[Stand, UpstreamError | None]:
        """Make the clips whose takes are all there; each is recorded at once."""
        for takes in stand.joinable():
            attempt_id = takes[-1].attempt_id
            no_call = ModelCall(lease.task.spec, (), None)
            batch = Batch(self._tools, lease.task, attempt_id, no_call, lease.deadline_at_ms)
            try:
                problem = await batch.join(takes)
                if problem is not None:
                    return stand, problem
                await self._closing.add(lease, batch.clips, attempt_id)
            finally:
                await batch.close()
            stand = stand.joined(batch.clips)
        return stand, None

    async def _settle(
        self, lease: Lease, stand: Stand, reason: UpstreamError | None, ended: Ended | None = None
    ) -> Task:
        return await self._closing.settle(lease, stand.task, stand.progress, reason, ended)

    def _stand(self, lease: Lease) -> Stand:
        spec = lease.task.spec
        planned = len(FAMILIES[lease.task.model].calls(spec, range(take_count(spec))))
        progress = Progress(
            task=lease.task,
            stored=len(lease.task.clips),
            spent=lease.attempts_spent,
            spent_limit=self._policy.max_attempts * planned,
            tried=lease.task.attempt_count,
            left_s=self._left_s(lease),
        )
        return Stand(progress, lease.takes)

    def _first_hindrance(self, stand: Stand) -> UpstreamError | None:
        """What stands in the way of a task's first call."""
        task = stand.task
        if task.mode not in self._models:
            return hindrances.test_keys_off()
        if not self._catalog.of_kind(task.model):
            return hindrances.not_configured(task)
        return self._hindrance(stand) if stand.calls() else None

    def _hindrance(self, stand: Stand) -> UpstreamError | None:
        """Why another call must not be made."""
        progress = stand.progress
        if progress.left_s <= 0:
            return hindrances.too_late()
        if progress.spent >= progress.spent_limit:
            return hindrances.used_up()
        trouble = self._tools.scratch.trouble()
        return None if trouble is None else hindrances.no_scratch(trouble)

    async def _call(
        self, lease: Lease, deployment: Deployment, call: ModelCall, attempt_id: str
    ) -> tuple[AttemptEnd, UpstreamError | None]:
        task = lease.task
        batch = Batch(self._tools, task, attempt_id, call, lease.deadline_at_ms)

        def cost(fault: AttemptFault | None) -> int:
            return cost_of(
                fault,
                asked=len(call.takes),
                came=batch.begun_count,
                delivered=batch.stored_count,
                take_micros=_take_cost(task, deployment),
            )

        try:
            reply, error = await self._generate(deployment, call, batch, lease)
        except asyncio.CancelledError:
            await self._keep(lease, attempt_id, batch, cost(AttemptFault.UNKNOWN))
            raise
        finally:
            await batch.close()
        outcome = _outcome(error, batch.stored_count, len(call.takes))
        self._metrics.call_ended(task.model, outcome, task.mode)
        if error is not None:
            logger.warning(
                "call to %s failed: %s",
                deployment.name,
                error.internal or error.detail,
                extra={"code": error.code.value, "fault": error.fault.value, "status": error.status},
            )
        return _attempt_end(attempt_id, batch, error, reply, cost(error.fault if error else None)), error

    async def _generate(
        self, deployment: Deployment, call: ModelCall, batch: Batch, lease: Lease
    ) -> tuple[ModelReply | None, UpstreamError | None]:
        """Make the call, and stay until storage has what came of it."""
        deadline_s = max(1.0, min(self._policy.call_timeout_s, self._left_s(lease)))
        model = self._models[lease.task.mode][lease.task.model]
        reply: ModelReply | None = None
        try:
            reply = await model.generate(
                deployment, call, batch.new_sink, deadline_s=deadline_s, traceparent=lease.task.traceparent
            )
            error = reply.error
        except UpstreamError as failure:
            error = failure
        lost = await batch.finish(reply.text if reply else None)
        return reply, lost or error

    def _begin_where_room(self, lease: Lease, call: ModelCall, tx: Tx) -> Begun | None:
        """Record another call of a lease where a deployment has room for it; None when none has."""
        lock_claims(tx)
        room = self._pool.find_room(tx, lane_of(lease.task), now_ms=self._clock.now_ms())
        if room is None or room.deployment is None:
            return None
        return self._begin(tx, lease, call, room, room.deployment)

    def _begin(self, tx: Tx, lease: Lease, call: ModelCall, room: Room, deployment: Deployment) -> Begun:
        """Record the call before it is made: after a crash it counts as one that may have been paid."""
        attempt_id = self._new_id.bare()
        held = work.begin_attempt(
            tx,
            lease.task.id,
            token=lease.token,
            attempt_id=attempt_id,
            deployment=room.name(test=lease.task.test),
            clips_asked=len(call.takes),
            now_ms=self._clock.now_ms(),
            cost_micros=len(call.takes) * _take_cost(lease.task, deployment),
        )
        if not held:
            raise LeaseLost(lease.task.id)
        return Begun(attempt_id, room, deployment)

    async def _keep(self, lease: Lease, attempt_id: str, batch: Batch, cost_micros: int) -> None:
        """Record what a call that is being abandoned has stored, so that it is not paid for again."""
        await batch.stop()
        if not batch.stored_count:
            return
        end = AttemptEnd(
            attempt_id,
            "unknown",
            batch.clips,
            batch.takes,
            fault=AttemptFault.UNKNOWN.value,
            cost_micros=cost_micros,
        )
        try:
            await self._closing.keep(lease, end)
        except LeaseLost:
            # Now it is nobody's. What cannot be deleted here is found as an orphan.
            with contextlib.suppress(StorageError):
                for name in batch.object_names:
                    await self._tools.storage.delete(name)
        except Unavailable as error:
            logger.warning("clips of a call that was broken off are not recorded: %s", error.internal)

    def _left_s(self, lease: Lease) -> float:
        return (lease.deadline_at_ms - self._clock.now_ms()) / 1000


def _others_may_pass(call: ModelCall, end: AttemptEnd, error: UpstreamError | None) -> bool:
    """Whether the calls after this one are worth making now: it delivered, or its own seed was to blame."""
    if error is None:
        return len(end.clips) + len(end.takes) == len(call.takes)
    return error.fault is AttemptFault.RECITATION


def _take_cost(task: Task, deployment: Deployment) -> int:
    """What the provider takes for a take of this task; the emulator, which makes those of tests, nothing."""
    return 0 if task.test else deployment.cost_micros


def _attempt_end(
    attempt_id: str,
    batch: Batch,
    error: UpstreamError | None,
    reply: ModelReply | None,
    cost_micros: int,
) -> AttemptEnd:
    if error is None:
        state = "succeeded"
    else:
        state = "unknown" if error.fault is AttemptFault.UNKNOWN else "failed"
    return AttemptEnd(
        attempt_id=attempt_id,
        state=state,
        clips=batch.clips,
        takes=batch.takes,
        fault=error.fault.value if error else None,
        error_code=error.code.value if error else None,
        status=error.status if error else None,
        provider_metadata=reply.provider_metadata if reply else None,
        cost_micros=cost_micros,
    )


def _outcome(error: UpstreamError | None, delivered: int, asked: int) -> CallOutcome:
    if delivered == asked:
        return CallOutcome.DELIVERED
    if delivered:
        return CallOutcome.PARTIAL
    if error is None:
        return CallOutcome.BROKEN
    return CallOutcome.STORAGE if error.code is ErrorCode.STORAGE_FAILED else CallOutcome(error.fault.value)
