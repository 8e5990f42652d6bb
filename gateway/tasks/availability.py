"""Which deployments are broken, for requests that leave the choice of a model to the gateway."""

from functools import partial

from gateway.db import deployments
from gateway.db.engine import Database
from gateway.errors import Unavailable
from gateway.ports import Clock

#: What was seen may be told again for so long.
_GOOD_FOR_S = 1.0


class Availability:
    """Looks at most once a second, whoever asks."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._broken: frozenset[str] = frozenset()
        self._good_until_s = 0.0

    async def broken(self) -> frozenset[str]:
        """Names of the deployments that nothing is sent to at the moment; none where that cannot be told."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._good_until_s:
            self._good_until_s = now_s + _GOOD_FOR_S
            look = partial(deployments.list_broken, now_ms=self._clock.now_ms())
            try:
                self._broken = await self._database.read(look)
            except Unavailable:
                self._broken = frozenset()
        return self._broken
