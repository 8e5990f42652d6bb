"""Deletes tasks: when their tenant asks for it, and when it keeps them no longer.

What is deleted becomes a husk (`gateway.db.wiping`) in one transaction, which also discards its objects; only
then is storage asked to let go of them (`gateway.tasks.discards`). Safe to run in several processes at once.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial

from gateway.db import deliveries, wiping
from gateway.db.engine import Database, Tx
from gateway.db.wiping import Wiped
from gateway.errors import Conflict, GatewayError, NotFound
from gateway.metrics import Cause, RetentionMetrics
from gateway.model import Principal
from gateway.ports import Clock
from gateway.tasks.discards import Discards
from gateway.webhooks.outbox import without_content

logger = logging.getLogger(__name__)

#: Tasks of one transaction: other writers come in between.
AT_ONCE = 100
# For storage, before whoever asked is answered: what takes longer is done by the next pass.
_PATIENCE_S = 5.0


class Retention:
    """How long tasks are kept. Raises `Unavailable`."""

    def __init__(
        self, database: Database, discards: Discards, metrics: RetentionMetrics, clock: Clock
    ) -> None:
        self._database = database
        self._discards = discards
        self._metrics = metrics
        self._clock = clock

    async def delete(self, principal: Principal, task_id: str) -> None:
        """Delete an ended task with its audio. When this returns nobody can see it any more.

        Its audio is gone too, unless storage has trouble: then it goes as soon as that is over. Raises
        `NotFound` for an unknown task, a deleted one, and another tenant's; `Conflict` for one that has not
        ended.
        """
        now_ms = self._clock.now_ms()
        wiped = await self._database.write(partial(_delete, principal.tenant_id, task_id, now_ms))
        self._metrics.tasks_deleted(Cause.REQUEST, len(wiped.task_ids))
        # Whatever comes of it, the objects are discarded: the next pass does what is left.
        with contextlib.suppress(TimeoutError, GatewayError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._discards.remove(wiped.object_names)

    async def retire(self) -> None:
        """Delete what was kept as long as its tenant's policy says, in steps of `AT_ONCE` tasks."""
        due = await self._database.read(partial(wiping.list_tenants_due, now_ms=self._clock.now_ms()))
        for tenant_id in due:
            count = 0
            while retired := await self._database.write(
                partial(_retire_some, tenant_id, self._clock.now_ms())
            ):
                self._metrics.tasks_deleted(Cause.RETENTION, retired)
                count += retired
            if count:
                logger.info("%d tasks were kept long enough", count, extra={"tenant_id": tenant_id})


def _delete(tenant_id: str, task_id: str, now_ms: int, tx: Tx) -> Wiped:
    state = wiping.lock_task(tx, tenant_id, task_id)
    if state is None:
        raise NotFound("There is no such task of yours. Check the id you were given.")
    if not state.terminal:
        raise Conflict(f"This task is {state.value}. Cancel it first, or wait for its end.")
    return _wipe(tx, (task_id,), now_ms)


def _retire_some(tenant_id: str, now_ms: int, tx: Tx) -> int:
    """The policy is read in the transaction that follows it."""
    ids = wiping.list_due(tx, tenant_id, now_ms=now_ms, at_most=AT_ONCE)
    return len(_wipe(tx, ids, now_ms).task_ids)


def _wipe(tx: Tx, ids: Sequence[str], now_ms: int) -> Wiped:
    wiped = wiping.wipe(tx, ids, now_ms=now_ms)
    deliveries.withdraw(tx, wiped.task_ids, without_content)
    return wiped
