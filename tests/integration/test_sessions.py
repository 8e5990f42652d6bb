"""Sessions: opened, renewed, ended; and the links that open one, once."""

import asyncio
import secrets

import pytest
from starlette.requests import Request

from gateway.accounts.authentication import Authenticator
from gateway.accounts.people import People, Permission
from gateway.accounts.sessions import LINK_LIFE_S, OVERLAP_S, ROTATE_AFTER_S, Session, Sessions, SignInMethod
from gateway.db.engine import Database
from gateway.errors import ErrorCode, Forbidden, NotFound, Unauthorized
from gateway.model import Role, Scope
from gateway.web.dashboard.callers import SessionCallers
from gateway.web.dashboard.visits import Visit, put_visit
from tests.clock import SetClock
from tests.factories import ACT
from tests.office import TestOffice

SECRET = b"s" * 32
LIFE_S = 43_200
EMAIL = "ada@example.com"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def sessions(database: Database, clock: SetClock) -> Sessions:
    return Sessions(database, clock, secrets.token_bytes, SECRET, life_s=LIFE_S)


def token_of(session: Session | None) -> str:
    assert session is not None
    assert session.token is not None
    return session.token


async def test_a_token_finds_its_session(sessions: Sessions) -> None:
    opened = await sessions.open("Ada@Example.com ", SignInMethod.OIDC)
    found = await sessions.find(token_of(opened))
    assert found is not None
    assert (found.id, found.email, found.admin, found.method) == (opened.id, EMAIL, False, SignInMethod.OIDC)
    assert found.token is None
    assert found.form_token == opened.form_token


async def test_no_two_sessions_share_anything(sessions: Sessions) -> None:
    """Whoever planted a cookie before somebody signed in has nothing of what they got then."""
    one, other = [await sessions.open(EMAIL, SignInMethod.LINK) for _ in range(2)]
    assert {one.id, one.form_token, one.token}.isdisjoint({other.id, other.form_token, other.token})


@pytest.mark.parametrize("place", [0, 60, -1])
async def test_a_token_that_was_changed_anywhere_is_none(sessions: Sessions, place: int) -> None:
    token = list(token_of(await sessions.open(EMAIL, SignInMethod.LINK)))
    token[place] = "0" if token[place] != "0" else "1"
    assert await sessions.find("".join(token)) is None


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.b.c", "x" * 5000])
async def test_what_is_no_token_is_none(sessions: Sessions, token: str) -> None:
    assert await sessions.find(token) is None


async def test_anothers_token_is_none(database: Database, clock: SetClock, sessions: Sessions) -> None:
    other = Sessions(database, clock, secrets.token_bytes, b"o" * 32, life_s=LIFE_S)
    assert await sessions.find(token_of(await other.open(EMAIL, SignInMethod.LINK))) is None


async def test_a_session_has_its_time(sessions: Sessions, clock: SetClock) -> None:
    token = token_of(await sessions.open(EMAIL, SignInMethod.LINK))
    for _ in range(LIFE_S // ROTATE_AFTER_S - 1):
        clock.advance(ROTATE_AFTER_S)
        token = token_of(await sessions.find(token))
    clock.advance(ROTATE_AFTER_S)
    assert await sessions.find(token) is None
    await sessions.forget_ended()


async def test_a_secret_is_renewed_and_the_old_one_good_a_little_longer(
    sessions: Sessions, clock: SetClock
) -> None:
    old = token_of(await sessions.open(EMAIL, SignInMethod.LINK))
    clock.advance(ROTATE_AFTER_S)
    new = token_of(await sessions.find(old))
    assert new != old
    clock.advance(OVERLAP_S - 1)
    under_way = await sessions.find(old)
    assert under_way is not None
    assert under_way.token is None
    clock.advance(1)
    assert await sessions.find(old) is None
    assert await sessions.find(new) is not None


async def test_of_two_requests_at_once_one_renews_the_secret(sessions: Sessions, clock: SetClock) -> None:
    old = token_of(await sessions.open(EMAIL, SignInMethod.LINK))
    clock.advance(ROTATE_AFTER_S)
    found = await asyncio.gather(*(sessions.find(old) for _ in range(5)))
    assert all(found)
    assert len([each for each in found if each is not None and each.token is not None]) == 1


async def test_a_session_ends_alone_or_with_all_of_its_person(sessions: Sessions) -> None:
    mine = [await sessions.open(EMAIL, SignInMethod.LINK) for _ in range(3)]
    other = await sessions.open("bob@example.com", SignInMethod.LINK)
    await sessions.end(mine[0].id)
    assert [await sessions.find(token_of(each)) is not None for each in mine] == [False, True, True]
    assert await sessions.end_all("ADA@example.com") == 2
    assert [await sessions.find(token_of(each)) is not None for each in mine] == [False, False, False]
    assert await sessions.find(token_of(other)) is not None


async def test_a_link_opens_one_session(sessions: Sessions) -> None:
    secret = await sessions.make_link(EMAIL, admin=True)
    outcomes = await asyncio.gather(*(sessions.use_link(secret) for _ in range(5)), return_exceptions=True)
    opened = [each for each in outcomes if isinstance(each, Session)]
    assert [(each.email, each.admin, each.method) for each in opened] == [(EMAIL, True, SignInMethod.LINK)]
    refused = [each for each in outcomes if isinstance(each, Unauthorized)]
    assert {each.code for each in refused} == {ErrorCode.LINK_INVALID}


async def test_a_link_has_its_time(sessions: Sessions, clock: SetClock) -> None:
    secret = await sessions.make_link(EMAIL, admin=False)
    clock.advance(LINK_LIFE_S)
    with pytest.raises(Unauthorized):
        await sessions.use_link(secret)


async def test_what_is_over_is_forgotten(sessions: Sessions, clock: SetClock, database: Database) -> None:
    await sessions.open(EMAIL, SignInMethod.LINK)
    await sessions.make_link(EMAIL, admin=False)

    async def kept() -> tuple[int, int]:
        return await database.read(
            lambda tx: (
                tx.exec_driver_sql("SELECT count(*) FROM sessions").scalar_one(),
                tx.exec_driver_sql("SELECT count(*) FROM sign_in_links").scalar_one(),
            )
        )

    await sessions.forget_ended()
    assert await kept() == (1, 1)
    clock.advance(LIFE_S)
    await sessions.forget_ended()
    assert await kept() == (0, 0)


# People


@pytest.fixture
def people(database: Database) -> People:
    return People(database, ("Root@Example.com",))


async def test_a_person_is_what_members_say(database: Database, clock: SetClock, people: People) -> None:
    office = TestOffice(database, clock)
    acme, other = [await office.tenants.create(ACT, name=name) for name in ("acme", "other")]
    await office.tenants.put_member(ACT, acme.id, EMAIL, Role.DEVELOPER)
    ada = await people.find("ADA@example.com")
    assert not ada.admin
    assert [(each.tenant.id, each.role) for each in ada.memberships] == [(acme.id, Role.DEVELOPER)]
    assert (await people.enter(ada, acme.id, Permission.KEYS)).tenant == acme
    with pytest.raises(Forbidden, match="owners"):
        await people.enter(ada, acme.id, Permission.MEMBERS)
    for elsewhere in (other.id, "ten_nobody"):
        with pytest.raises(NotFound, match="not a member"):
            await people.enter(ada, elsewhere, Permission.VIEW)


async def test_an_administrator_may_everything_everywhere(
    database: Database, clock: SetClock, people: People
) -> None:
    tenant = await TestOffice(database, clock).tenants.create(ACT, name="acme")
    for root in (await people.find("root@example.com"), await people.find(EMAIL, admin=True)):
        assert root.admin
        assert (await people.enter(root, tenant.id, Permission.MEMBERS)).role is Role.OWNER
        with pytest.raises(NotFound):
            await people.enter(root, "ten_nobody", Permission.VIEW)


@pytest.mark.parametrize("everywhere", [False, True])
async def test_what_a_session_listens_to_ends_with_it(
    database: Database, clock: SetClock, sessions: Sessions, people: People, *, everywhere: bool
) -> None:
    office = TestOffice(database, clock)
    tenant = await office.tenants.create(ACT, name="choir")
    authenticator = Authenticator(database, clock, lambda _: None)
    callers = SessionCallers(sessions, people, office.keyring, authenticator)
    session = await sessions.open(EMAIL, SignInMethod.LINK, admin=True)
    person = await people.find(EMAIL, admin=True)
    request = Request({"type": "http", "path_params": {"tenant_id": tenant.id}})
    put_visit(request.scope, Visit(person, session.form_token, session.method, session.id))
    assert await callers.is_still_good(request, Scope.READ)
    await (sessions.end_all(EMAIL) if everywhere else sessions.end(session.id))
    assert not await callers.is_still_good(request, Scope.READ)
