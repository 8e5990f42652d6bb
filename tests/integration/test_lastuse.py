"""When a key was used last: noted with each request, written together, never going back."""

import pytest

from gateway.accounts.authentication import Authenticator
from gateway.accounts.lastuse import LastUse
from gateway.db import accounts
from gateway.errors import Unauthorized, Unavailable
from tests.clock import SetClock
from tests.factories import NOW_MS, a_caller, keep_key


async def last_used(database, key_id: str) -> int | None:
    return (await database.read(lambda tx: accounts.get_key(tx, key_id))).last_used_at_ms


async def test_a_good_key_is_noted_and_a_bad_one_is_not(database, clock: SetClock) -> None:
    use = LastUse(database, clock)
    authenticator = Authenticator(database, clock, use.note)
    principal, text = await a_caller(database)
    stopped, stopped_text = await a_caller(database, revoked_at_ms=1)
    await authenticator.authenticate(text)
    clock.advance(5)
    await authenticator.authenticate(text)
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(stopped_text)
    assert await last_used(database, principal.key_id) is None
    await use.flush()
    assert await last_used(database, principal.key_id) == NOW_MS + 5000
    assert await last_used(database, stopped.key_id) is None


async def test_uses_are_written_together(database, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    use = LastUse(database, clock)
    made = [await keep_key(database) for _ in range(50)]
    writes = []
    write = database.write

    async def counted(function):
        writes.append(function)
        return await write(function)

    monkeypatch.setattr(database, "write", counted)
    for key in made * 3:
        use.note(key.id)
    await use.flush()
    await use.flush()
    assert len(writes) == 1
    assert {await last_used(database, key.id) for key in made} == {NOW_MS}


async def test_an_instance_whose_clock_is_behind_changes_nothing(database, clock: SetClock) -> None:
    key = await keep_key(database)
    ahead, behind = LastUse(database, clock), LastUse(database, SetClock(NOW_MS - 60_000))
    ahead.note(key.id)
    behind.note(key.id)
    await ahead.flush()
    await behind.flush()
    assert await last_used(database, key.id) == NOW_MS


async def test_notes_outlive_a_database_that_is_away(
    database, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = LastUse(database, clock)
    first, second = await keep_key(database), await keep_key(database)
    use.note(first.id)

    async def away(function):
        use.note(second.id)
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(database, "write", away)
        with pytest.raises(Unavailable):
            await use.flush()
    await use.flush()
    assert await last_used(database, first.id) == await last_used(database, second.id) == NOW_MS


async def test_what_is_noted_is_bounded(database, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.accounts.lastuse._MOST", 3)
    use = LastUse(database, clock)
    made = [await keep_key(database) for _ in range(5)]
    for key in made:
        use.note(key.id)
    use.note(made[0].id)
    await use.flush()
    assert [await last_used(database, key.id) is None for key in made] == [False] * 3 + [True] * 2
