"""How the deployments fare: what each is busy with, whether it cools down or is broken."""

from dataclasses import dataclass

from gateway.db.deployments import Health, Load, get_health, get_load
from gateway.db.engine import Database, Tx
from gateway.model import Deployment
from gateway.ports import Clock


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """A deployment at one moment; ``state`` is a word for people: ok, cooling or broken."""

    deployment: Deployment
    health: Health
    load: Load
    state: str


class DeploymentView:
    """Reads the rows that all workers share, so it is the same on every instance."""

    def __init__(self, database: Database, clock: Clock, deployments: tuple[Deployment, ...]) -> None:
        self._database = database
        self._clock = clock
        self._deployments = deployments

    async def look(self) -> tuple[DeploymentState, ...]:
        now_ms = self._clock.now_ms()

        def read(tx: Tx) -> tuple[DeploymentState, ...]:
            return tuple(_state(tx, each, now_ms) for each in self._deployments)

        return await self._database.read(read)


def _state(tx: Tx, deployment: Deployment, now_ms: int) -> DeploymentState:
    health = get_health(tx, deployment.name)
    cooling = "cooling" if health.cooling_until_ms > now_ms else "ok"
    state = "broken" if health.broken_until_ms is not None else cooling
    return DeploymentState(deployment, health, get_load(tx, deployment.name, now_ms=now_ms), state)
