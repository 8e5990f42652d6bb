"""The guard against abuse of what costs nothing: reads with one key, and bad keys from one address.

Neither is a limit of tasks or of money: those are exact, and in the database. What is counted here goes with
the process, or is kept in Redis for a minute.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

from gateway.accounts.counts import Counts
from gateway.errors import ErrorCode, LimitReached, LimitState, Unavailable
from gateway.metrics import GuardMetrics, GuardName, Uncounted
from gateway.ports import Clock

logger = logging.getLogger(__name__)

_WINDOW_S = 60
# While an address is refused, keys from it that are not known here are looked up in rounds.
ROUND_S = 0.25
ROUND_SIZE = 256
#: Names remembered as refused. One that is forgotten is counted again, and refused again.
REMEMBERED = 10_000
_TELL_EVERY_S = 10.0

_DETAILS = {
    GuardName.READS: "This key may read {quota:,} times in any 60 seconds, and has. Come back in {reset} s.",
    GuardName.BAD_KEYS: (
        "Too many requests without a valid key came from your address. Send a valid key, "
        "or come back in {reset} s."
    ),
}


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """How many in any minute, 0 being any number; and whether what cannot be counted is refused."""

    reads_per_minute: int
    bad_keys_per_minute: int
    refuse_uncounted: bool


class _Limit:
    """One quota for many names, and the names that are over it: those are refused without being counted."""

    def __init__(self, guard: GuardName, quota: int, clock: Clock) -> None:
        self.guard = guard
        self.quota = quota
        self._clock = clock
        self._refused_until_s: OrderedDict[str, float] = OrderedDict()

    def refuse_for(self, name: str, seconds: float) -> None:
        self._refused_until_s[name] = self._clock.monotonic_s() + seconds
        if len(self._refused_until_s) > REMEMBERED:
            self._refused_until_s.popitem(last=False)

    def refused_s(self, name: str) -> float:
        """Seconds for which the name is still refused; 0 if it is not."""
        until_s = self._refused_until_s.get(name)
        if until_s is None:
            return 0.0
        left_s = until_s - self._clock.monotonic_s()
        if left_s > 0:
            return left_s
        del self._refused_until_s[name]
        return 0.0


class Guard:
    """Counts requests, and raises for one too many. ``open_counts`` is called when the first is counted."""

    def __init__(
        self,
        open_counts: Callable[[], Awaitable[Counts]],
        policy: GuardPolicy,
        metrics: GuardMetrics,
        clock: Clock,
    ) -> None:
        self._open_counts = open_counts
        self._refuse_uncounted = policy.refuse_uncounted
        self._metrics = metrics
        self._clock = clock
        self._reads = _Limit(GuardName.READS, policy.reads_per_minute, clock)
        self._bad_keys = _Limit(GuardName.BAD_KEYS, policy.bad_keys_per_minute, clock)
        self._opening = asyncio.Lock()
        self._counts: Counts | None = None
        self._in_this_round = 0
        self._uncounted = 0  # since the store last answered
        self._is_told = False  # that it does not
        self._tell_again_at_s = dict.fromkeys(GuardName, 0.0)

    async def close(self) -> None:
        if self._counts is not None:
            await self._counts.close()

    async def read(self, key_id: str) -> None:
        """Count a read with this key. Raises `LimitReached`, or `Unavailable` where that is the policy."""
        limit = self._reads
        if not limit.quota:
            return
        self._check(limit, key_id)
        counts = self._counts or await self._open()
        try:
            if await counts.reads.hit(f"reads/{key_id}", limit.quota):
                if self._uncounted:
                    self._counted_again()
                return
            window = await counts.reads.look(f"reads/{key_id}", limit.quota)
        except Unavailable as error:
            self._not_counted(limit, error)
            return
        limit.refuse_for(key_id, window.reset_s)
        self._refuse(limit, window.reset_s)

    async def bad_key(self, address: str) -> None:
        """Count a request from this address that had no valid key. Raises like `read`."""
        limit = self._bad_keys
        if not limit.quota:
            return
        self._check(limit, address)
        counts = self._counts or await self._open()
        try:
            fits = await counts.bad_keys.hit(f"bad_keys/{address}", limit.quota)
            window = await counts.bad_keys.look(f"bad_keys/{address}", limit.quota)
        except Unavailable as error:
            self._not_counted(limit, error)
            return
        if self._uncounted:
            self._counted_again()
        if window.remaining <= 0:
            # From now on, so that nothing is looked up for the next one.
            limit.refuse_for(address, window.reset_s)
            if self._may_tell(limit):
                logger.warning("an address sends too many bad keys", extra={"address": address})
        if not fits:
            self._refuse(limit, window.reset_s)

    async def before_look_up(self, address: str) -> None:
        """Wait, if need be, before the database is asked for a key that was never accepted here.

        Good keys are not shut out by bad ones from the same address. While that is refused, what is not known
        is looked up in rounds, so whatever comes costs the database one batch, a few times a second. Raises
        `LimitReached` when a round is full.
        """
        if not (self._bad_keys.quota and self._is_doubtful(address)):
            return
        if self._in_this_round >= ROUND_SIZE:
            self._refuse(self._bad_keys, ROUND_S)
        self._in_this_round += 1
        try:
            await self._clock.sleep(ROUND_S - self._clock.monotonic_s() % ROUND_S)
        finally:
            self._in_this_round -= 1

    def _is_doubtful(self, address: str) -> bool:
        """Whether the address is refused, or would have to be for all that is known."""
        return bool(self._refuse_uncounted and self._uncounted) or self._bad_keys.refused_s(address) > 0

    async def _open(self) -> Counts:
        async with self._opening:
            if self._counts is None:
                self._counts = await self._open_counts()
            return self._counts

    def _check(self, limit: _Limit, name: str) -> None:
        if left_s := limit.refused_s(name):
            self._refuse(limit, left_s)

    def _refuse(self, limit: _Limit, reset_s: float) -> NoReturn:
        self._metrics.refused(limit.guard)
        reset = max(1, math.ceil(reset_s))
        state = LimitState(limit.guard.value, limit.quota, _WINDOW_S, remaining=0, reset_s=reset)
        detail = _DETAILS[limit.guard].format(quota=limit.quota, reset=reset)
        raise LimitReached(detail, code=ErrorCode.SLOW_DOWN, limit=state)

    def _counted_again(self) -> None:
        if self._is_told:
            logger.warning("requests are counted again; %d were not", self._uncounted)
        self._uncounted = 0
        self._is_told = False

    def _not_counted(self, limit: _Limit, error: Unavailable) -> None:
        """Raises the error where the policy is to refuse."""
        self._uncounted += 1
        outcome = Uncounted.REFUSED if self._refuse_uncounted else Uncounted.ALLOWED
        self._metrics.not_counted(limit.guard, outcome)
        if self._may_tell(limit):
            self._is_told = True
            logger.error("requests are not counted but %s: %s", outcome.value, error.internal)
        if self._refuse_uncounted:
            raise error

    def _may_tell(self, limit: _Limit) -> bool:
        """Whether there may be a line in the log: anybody can bring these about, as often as they like."""
        now_s = self._clock.monotonic_s()
        if now_s < self._tell_again_at_s[limit.guard]:
            return False
        self._tell_again_at_s[limit.guard] = now_s + _TELL_EVERY_S
        return True
