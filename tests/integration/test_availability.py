"""A request that leaves the choice of its model goes to one that is not broken."""

import pytest

from gateway.bootstrap.services import Services
from gateway.db import deployments
from gateway.db.deployments import Health
from gateway.db.engine import Database
from gateway.errors import Unavailable
from gateway.families.lyria2 import LYRIA2
from gateway.families.musicgen import MUSICGEN
from gateway.model import KeyMode, ModelKind, MusicSpec, Principal, Route
from gateway.tasks.availability import Availability
from gateway.tasks.submission import Submission
from tests.clock import SetClock
from tests.factories import NOW_MS, a_caller

ANY = Submission(Route.STANDARD, MusicSpec("slow piano"), None, {}, "r1", None)


async def breaks(database: Database, name: str, *, until_ms: int) -> None:
    health = Health(fault_count=5, broken_until_ms=until_ms, broken_count=1)
    await database.write(lambda tx: deployments.keep_health(tx, name, health))


async def test_what_is_broken_is_known_within_a_second_and_forgotten_when_it_is_due(
    database: Database, clock: SetClock
) -> None:
    availability = Availability(database, clock)
    assert await availability.broken() == frozenset()
    await breaks(database, "lyria-002", until_ms=NOW_MS + 30_000)
    assert await availability.broken() == frozenset()
    clock.advance(1.0)
    assert await availability.broken() == {"lyria-002"}
    clock.advance(30.0)
    assert await availability.broken() == frozenset()


async def test_where_it_cannot_be_told_nothing_is_broken(clock: SetClock) -> None:
    class Away:
        async def read(self, _: object) -> None:
            raise Unavailable("not now")

    availability = Availability(Away(), clock)  # type: ignore[arg-type] # as far as it is asked
    assert await availability.broken() == frozenset()


@pytest.fixture
async def principal(services: Services) -> Principal:
    return (await a_caller(services.database))[0]


async def model_for(services: Services, principal: Principal) -> ModelKind:
    return (await services.tasks.submit(principal, ANY)).task.model


async def test_a_request_goes_where_it_can_be_served(services: Services, principal: Principal) -> None:
    assert await model_for(services, principal) == MUSICGEN
    await breaks(services.database, "musicgen", until_ms=services.clock.now_ms() + 60_000)
    services.tasks._availability = Availability(services.database, services.clock)
    assert await model_for(services, principal) == LYRIA2
    assert (await services.tasks.quote(principal, ANY)).plan.deployment.kind == LYRIA2


async def test_test_keys_are_served_as_ever(services: Services) -> None:
    """Their emulator is not what is broken."""
    principal, _ = await a_caller(services.database, mode=KeyMode.TEST)
    await breaks(services.database, "musicgen", until_ms=services.clock.now_ms() + 60_000)
    assert await model_for(services, principal) == MUSICGEN
