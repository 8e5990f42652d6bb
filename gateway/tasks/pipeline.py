"""One task from lease to end: the calls that are still owed, their clips in storage, and what follows."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from gateway.db import work
from gateway.db.engine import Database, Tx
from gateway.db.locks import lock_claims
from gateway.db.work import AttemptEnd, Lease
from gateway.errors import AttemptFault, ErrorCode, StorageError, Unavailable, UpstreamError
from gateway.metrics import CallOutcome, Metrics
from gateway.model import Clip, Deployment, KeyMode, ModelKind, Task
from gateway.ports import Clock, ModelCall, ModelReply, MusicModel, Storage
from gateway.tasks import hindrances
from gateway.tasks.catalog import Catalog
from gateway.tasks.clips import ClipShelf
from gateway.tasks.closing import Closing, Ended, LeaseLost, lane_of
from gateway.tasks.cost import cost_of
from gateway.tasks.ids import IdMaker
from gateway.tasks.outcome import UNCOUNTED, Progress
from gateway.tasks.pool import Pool, Room
from gateway.tasks.spool import Spools

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PipelinePolicy:
    max_attempts: int
    call_timeout_s: float


@dataclass(frozen=True, slots=True)
class _Owed:
    """What a lease is for: the calls still to be made, or what stands in their way."""

    calls: tuple[ModelCall, ...]
    progress: Progress
    hindrance: UpstreamError | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that is recorded and must be made: its attempt, and where it goes."""

    attempt_id: str
    room: Room
    deployment: Deployment


class Pipeline:
    """Runs a leased task. Every write holds the lease; without it, nothing changes.

    ``models`` are by the mode of the key that a task was asked for with. Both modes plan alike; there are
    none for test keys where those are switched off.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        spools: Spools,
        models: Mapping[KeyMode, Mapping[ModelKind, MusicModel]],
        catalog: Catalog,
        pool: Pool,
        closing: Closing,
        metrics: Metrics,
        clock: Clock,
        new_id: IdMaker,
        jitter: Callable[[], float],
        policy: PipelinePolicy,
    ) -> None:
        self._database = database
        self._storage = storage
        self._spools = spools
        self._models = models
        self._catalog = catalog
        self._pool = pool
        self._closing = closing
        self._metrics = metrics
        self._clock = clock
        self._new_id = new_id
        self._jitter = jitter
        self._policy = policy

    def open(self, tx: Tx, lease: Lease, room: Room | None) -> Begun | None:
        """Record the first call of a lease in the transaction that gives it, for `run` to make.

        None when no call is owed, or none may be made: `run` finds out why.
        """
        owed = self._owed(lease)
        if room is None or room.deployment is None or owed.hindrance is not None or not owed.calls:
            return None
        return self._begin(tx, lease, owed.calls[0], room, room.deployment)

    async def run(self, lease: Lease, begun: Begun | None = None) -> Task:
        """Make the calls that are owed. Returns the task as it was left; raises `LeaseLost`.

        ``begun`` is what `open` gave: the first call is recorded already, and will be made.
        """
        owed = self._owed(lease)
        task, progress, calls = lease.task, owed.progress, owed.calls
        if begun is None and (owed.hindrance is not None or not calls):
            # Without calls a worker died between the last of them and the end of the task.
            return await self._closing.settle(lease, task, progress, owed.hindrance)
        reason: UpstreamError | None = None
        for call in calls:
            begun = begun or await self._database.write(partial(self._begin_where_room, lease, call))
            if begun is None:
                return await self._closing.settle(lease, task, progress, hindrances.no_room())
            end, error = await self._call(lease, begun.deployment, call, begun.attempt_id)
            ended, begun = Ended(end, begun.room, error), None
            task = _after(task, end)
            progress = _advanced(progress, end, error, self._left_s(lease))
            reason = error or reason
            if call is not calls[-1] and _others_may_pass(call, end, error):
                hindrance = _hindrance(progress)
                if hindrance is None:
                    await self._closing.record(lease, ended)
                    continue
                reason = reason or hindrance
            return await self._closing.settle(lease, task, progress, reason, ended)
        raise AssertionError("the last call always settles")  # pragma: no cover

    def _owed(self, lease: Lease) -> _Owed:
        task, spec = lease.task, lease.task.spec
        model = self._models[KeyMode.LIVE][task.model]
        progress = Progress(
            task=task,
            stored=len(lease.stored),
            spent=lease.attempts_spent,
            spent_limit=self._policy.max_attempts * len(model.calls(spec, range(spec.sample_count))),
            tried=task.attempt_count,
            left_s=self._left_s(lease),
        )
        return _Owed(
            calls=model.calls(spec, [i for i in range(spec.sample_count) if i not in lease.stored]),
            progress=progress,
            hindrance=self._first_hindrance(progress),
        )

    def _first_hindrance(self, progress: Progress) -> UpstreamError | None:
        """What stands in the way of a task's first call."""
        if progress.task.mode not in self._models:
            return hindrances.test_keys_off()
        if not self._catalog.of_kind(progress.task.model):
            return hindrances.not_configured(progress.task)
        return _hindrance(progress)

    async def _call(
        self, lease: Lease, deployment: Deployment, call: ModelCall, attempt_id: str
    ) -> tuple[AttemptEnd, UpstreamError | None]:
        task = lease.task
        model = self._models[task.mode][task.model]
        shelf = ClipShelf(self._storage, self._spools, task, attempt_id, lambda index: _seed_of(call, index))

        def cost(fault: AttemptFault | None) -> int:
            return cost_of(
                fault,
                asked=len(call.clip_indexes),
                came=shelf.begun(),
                delivered=len(shelf.stored()),
                clip_micros=_clip_cost(task, deployment),
            )

        try:
            reply, error = await self._generate(model, deployment, call, shelf, lease)
        except asyncio.CancelledError:
            await self._keep(lease, attempt_id, shelf.stored(), cost(AttemptFault.UNKNOWN))
            raise
        finally:
            await shelf.close()
        clips = shelf.stored()
        for clip in clips:
            self._metrics.uploads.stored(task.model, clip.size_bytes)
        outcome = _outcome(error, len(clips), len(call.clip_indexes))
        self._metrics.call_ended(task.model, outcome, task.mode)
        if error is not None:
            logger.warning(
                "call to %s failed: %s",
                deployment.name,
                error.internal or error.detail,
                extra={"code": error.code.value, "fault": error.fault.value, "status": error.status},
            )
        return _attempt_end(attempt_id, clips, error, reply, cost(error.fault if error else None)), error

    async def _generate(
        self, model: MusicModel, deployment: Deployment, call: ModelCall, shelf: ClipShelf, lease: Lease
    ) -> tuple[ModelReply | None, UpstreamError | None]:
        """Make the call, and stay until storage has what came of it."""
        deadline_s = max(1.0, min(self._policy.call_timeout_s, self._left_s(lease)))
        reply: ModelReply | None = None
        try:
            reply = await model.generate(
                deployment, call, shelf.new_sink, deadline_s=deadline_s, traceparent=lease.task.traceparent
            )
            error = reply.error
        except UpstreamError as failure:
            error = failure
        unstored = await shelf.store_rest(
            self._clock, self._jitter, lease.deadline_at_ms, self._metrics.uploads.retried
        )
        return reply, unstored or error

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
            clips_asked=len(call.clip_indexes),
            now_ms=self._clock.now_ms(),
            cost_micros=len(call.clip_indexes) * _clip_cost(lease.task, deployment),
        )
        if not held:
            raise LeaseLost(lease.task.id)
        return Begun(attempt_id, room, deployment)

    async def _keep(self, lease: Lease, attempt_id: str, clips: tuple[Clip, ...], cost_micros: int) -> None:
        """Record what a call that is being abandoned has stored, so that it is not paid for again."""
        if clips:
            end = AttemptEnd(
                attempt_id, "unknown", clips, fault=AttemptFault.UNKNOWN.value, cost_micros=cost_micros
            )
            try:
                await self._closing.keep(lease, end)
            except LeaseLost:
                # Now it is nobody's. What cannot be deleted here is found as an orphan.
                with contextlib.suppress(StorageError):
                    for clip in clips:
                        await self._storage.delete(clip.object_name)
            except Unavailable as error:
                logger.warning("clips of a call that was broken off are not recorded: %s", error.internal)

    def _left_s(self, lease: Lease) -> float:
        return (lease.deadline_at_ms - self._clock.now_ms()) / 1000


def _hindrance(progress: Progress) -> UpstreamError | None:
    """Why another call must not be made."""
    if progress.left_s <= 0:
        return hindrances.too_late()
    return hindrances.used_up() if progress.spent >= progress.spent_limit else None


def _others_may_pass(call: ModelCall, end: AttemptEnd, error: UpstreamError | None) -> bool:
    """Whether the calls after this one are worth making now: it delivered, or its own seed was to blame."""
    if error is None:
        return len(end.clips) == len(call.clip_indexes)
    return error.fault is AttemptFault.RECITATION


def _after(task: Task, end: AttemptEnd) -> Task:
    """The task as its row will be once the call's end is written."""
    clips = tuple(sorted((*task.clips, *end.clips), key=lambda clip: clip.index))
    return replace(task, attempt_count=task.attempt_count + 1, clips=clips)


def _seed_of(call: ModelCall, index: int) -> int | None:
    return None if call.seed is None else (call.seed + call.clip_indexes.index(index)) % 2**32


def _advanced(progress: Progress, end: AttemptEnd, error: UpstreamError | None, left_s: float) -> Progress:
    free = error is not None and error.fault in UNCOUNTED
    return replace(
        progress,
        stored=progress.stored + len(end.clips),
        spent=progress.spent + (0 if free else 1),
        tried=progress.tried + 1,
        left_s=left_s,
    )


def _clip_cost(task: Task, deployment: Deployment) -> int:
    """What the provider takes for a clip of this task; the emulator, which makes those of tests, nothing."""
    return 0 if task.test else deployment.cost_micros


def _attempt_end(
    attempt_id: str,
    clips: tuple[Clip, ...],
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
        clips=clips,
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
