"""The deployments of a model as one supply: which of them takes the next call, and when one can again.

What each is busy with is counted from the rows of calls, inside the transaction that adds one with all claims
locked, so quotas hold across processes. What a deployment said of itself is known to all workers.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.db import deployments
from gateway.db.deployments import WINDOW_MS, Health, Load
from gateway.db.engine import Tx
from gateway.db.lines import Lane
from gateway.deployments import EMULATOR
from gateway.errors import AttemptFault, UpstreamError
from gateway.model import Deployment
from gateway.tasks import health
from gateway.tasks.catalog import Catalog

logger = logging.getLogger(__name__)

_NOTHING = Load()


@dataclass(frozen=True, slots=True)
class Member:
    """A deployment, how it fares, and what it is busy with."""

    deployment: Deployment
    health: Health
    load: Load

    def free_at_ms(self, now_ms: int) -> int | None:
        """When it may be called as far as can be told, now at the earliest; None: when a call has ended."""
        limits, load = self.deployment, self.load
        if limits.concurrency is not None and load.open_count >= limits.concurrency:
            return None
        at_ms = max(now_ms, self.health.cooling_until_ms)
        if self.health.broken_until_ms is not None:
            if load.open_count:
                # One call at a time shows whether it is well again.
                return None
            at_ms = max(at_ms, self.health.broken_until_ms)
        if limits.rpm is not None and load.recent_count >= limits.rpm and load.oldest_at_ms is not None:
            at_ms = max(at_ms, load.oldest_at_ms + WINDOW_MS)
        return at_ms


def pick(members: Sequence[Member], now_ms: int) -> Deployment | None:
    """The deployment for the next call, or None when none may be called now. Pure.

    One that is due to be probed goes first, or it would never be known to be well; else the one that has the
    least to do for its weight.
    """
    free = [member for member in members if member.free_at_ms(now_ms) == now_ms]
    chosen = min(free, key=_order, default=None)
    return None if chosen is None else chosen.deployment


def _order(member: Member) -> tuple[bool, float, float]:
    weight, load = member.deployment.weight, member.load
    return member.health.broken_until_ms is None, load.open_count / weight, load.recent_count / weight


@dataclass(frozen=True, slots=True)
class Room:
    """Where a call may go: a deployment, or the emulator. None: nowhere, as nothing is configured for it."""

    deployment: Deployment | None

    def name(self, *, test: bool) -> str:
        return EMULATOR if test or self.deployment is None else self.deployment.name


class Pool:
    """``jitter`` gives numbers in [0, 1)."""

    def __init__(self, catalog: Catalog, jitter: Callable[[], float]) -> None:
        self._catalog = catalog
        self._jitter = jitter

    def find_room(self, tx: Tx, lane: Lane, *, now_ms: int) -> Room | None:
        """Where the next call of a lane goes; None while it has to wait. Lock all claims before."""
        members = self._catalog.of_kind(lane.model)
        if lane.test or not members:
            # The emulator takes what comes. A task without a deployment is taken up to be told so.
            return Room(members[0] if members else None)
        chosen = pick(self._look(tx, members, now_ms), now_ms)
        return None if chosen is None else Room(chosen)

    def wait_s(self, tx: Tx, lane: Lane, *, now_ms: int) -> float:
        """Seconds until a call may be made again, as far as can be told."""
        members = self._catalog.of_kind(lane.model)
        if lane.test or not members:
            return 0.0
        moments = [member.free_at_ms(now_ms) for member in self._look(tx, members, now_ms)]
        known = [moment for moment in moments if moment is not None]
        return 0.0 if len(known) < len(moments) and not known else (min(known) - now_ms) / 1000

    def has_another(self, tx: Tx, lane: Lane, name: str) -> bool:
        """Whether any other deployment of the model is not broken."""
        others = [each for each in self._catalog.of_kind(lane.model) if each.name != name]
        return any(deployments.get_health(tx, each.name).broken_until_ms is None for each in others)

    def note(self, tx: Tx, lane: Lane, name: str, error: UpstreamError | None, *, now_ms: int) -> None:
        """Remember what a call's end says of its deployment, in the transaction that records it."""
        if name == EMULATOR:
            return
        before = deployments.get_health(tx, name, lock=True)
        if error is not None and error.fault is AttemptFault.MISCONFIGURED and self._is_alone(lane):
            # Nobody else could take its tasks: they are told at once, and need not wait to be.
            return
        last: Sequence[str | None] = ()
        if health.is_providers(error):
            since_ms = now_ms - health.FAULTS_LOOKED_BACK_S * 1000
            last = deployments.list_faults(tx, name, since_ms=since_ms, at_most=health.FAULTS_LOOKED_AT)
        after = health.after_answer(before, error, last_faults=last, now_ms=now_ms, jitter=self._jitter())
        if after != before:
            deployments.keep_health(tx, name, after)
            _tell(name, before, after, now_ms)

    def _is_alone(self, lane: Lane) -> bool:
        return len(self._catalog.of_kind(lane.model)) == 1

    def _look(self, tx: Tx, members: Sequence[Deployment], now_ms: int) -> list[Member]:
        return [self._member(tx, each, now_ms, pooled=len(members) > 1) for each in members]

    def _member(self, tx: Tx, deployment: Deployment, now_ms: int, *, pooled: bool) -> Member:
        fares = deployments.get_health(tx, deployment.name)
        limited = deployment.rpm is not None or deployment.concurrency is not None
        if not (pooled or limited or fares.broken_until_ms is not None):
            # It makes no difference.
            return Member(deployment, fares, _NOTHING)
        return Member(deployment, fares, deployments.get_load(tx, deployment.name, now_ms=now_ms))


def _tell(name: str, before: Health, after: Health, now_ms: int) -> None:
    """In the log, what whoever is woken at night wants to know of a deployment."""
    if after.broken_until_ms is not None and after.broken_until_ms != before.broken_until_ms:
        pause_s = (after.broken_until_ms - now_ms) / 1000
        logger.error(
            "deployment %s is broken, %s faults in a row; it is probed in %.1f s",
            name,
            after.fault_count,
            pause_s,
        )
    elif after.cooling_until_ms > max(now_ms, before.cooling_until_ms):
        pause_s = (after.cooling_until_ms - now_ms) / 1000
        logger.warning("deployment %s is busy; it cools down for %.1f s", name, pause_s)
    elif before.broken_until_ms is not None and after.broken_until_ms is None:
        logger.warning("deployment %s is well again", name)
