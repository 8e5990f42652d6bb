"""A presented key becomes a principal, or a refusal: one that tells nothing, unless the secret was right."""

import ast
import asyncio
import inspect
import secrets

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.accounts import authentication, keys
from gateway.accounts.authentication import CACHE_TTL_S, Authenticator
from gateway.accounts.keys import checksum
from gateway.db import accounts
from gateway.db.engine import Database
from gateway.errors import ErrorCode, Unauthorized
from gateway.model import KeyMode, RetiredSecret, TenantStatus
from tests.clock import SetClock
from tests.databases import Pause, Store
from tests.factories import ACT, NOW_MS, a_caller, keep_tenant
from tests.office import TestOffice


@pytest.fixture
def authenticator(database: Database, clock: SetClock) -> Authenticator:
    return Authenticator(database, clock, lambda _: None)


async def refused(authenticator: Authenticator, presented: str | None) -> str:
    with pytest.raises(Unauthorized) as caught:
        await authenticator.authenticate(presented)
    return caught.value.detail


def with_other_secret(text: str) -> str:
    body = text[:-6]
    body = body[:-1] + ("a" if body[-1] != "a" else "b")
    return body + checksum(body)


def with_other_id(text: str) -> str:
    body = text[:-6].replace(text[8:20], "abcdefghijkl")
    return body + checksum(body)


class CountedReads:
    """Counts the reads of a database."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        read = database.read

        async def counted(function):
            self.count += 1
            return await read(function)

        monkeypatch.setattr(database, "read", counted)


async def test_a_key_tells_who_calls(authenticator: Authenticator, database: Database) -> None:
    principal, text = await a_caller(database)
    assert await authenticator.authenticate(text) == principal
    assert await authenticator.authenticate(text) == principal


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"revoked_at_ms": 1}, ErrorCode.KEY_REVOKED),
        ({"expires_at_ms": NOW_MS}, ErrorCode.KEY_EXPIRED),
        ({"disabled_at_ms": 1}, ErrorCode.KEY_DISABLED),
        ({"revoked_at_ms": 1, "expires_at_ms": 1, "disabled_at_ms": 1}, ErrorCode.KEY_REVOKED),
    ],
)
async def test_whoever_has_the_secret_is_told_why_the_key_no_longer_works(
    authenticator: Authenticator, database: Database, changes: dict[str, int], code: ErrorCode
) -> None:
    """One code for each state (K10), and none of them without the secret."""
    _, text = await a_caller(database, **changes)
    with pytest.raises(Unauthorized) as caught:
        await authenticator.authenticate(text)
    assert caught.value.code is code
    assert await refused(authenticator, with_other_secret(text)) == await refused(authenticator, None)


async def test_a_replaced_secret_opens_until_the_stated_moment(
    authenticator: Authenticator, database: Database, clock: SetClock
) -> None:
    principal, new = await a_caller(database)
    old = keys.mint_again(principal.key_id, secrets.choice, KeyMode.LIVE)
    retired = RetiredSecret(old.sha256, principal.key_id, NOW_MS, clock.now_ms() + 1000)
    await database.write(lambda tx: accounts.retire_secret(tx, retired))
    assert await authenticator.authenticate(old.text) == await authenticator.authenticate(new) == principal
    clock.advance(0.999)
    assert await authenticator.authenticate(old.text) == principal
    clock.advance(0.001)
    assert await refused(authenticator, old.text) == await refused(authenticator, None)
    assert await authenticator.authenticate(new) == principal


async def test_every_refusal_says_the_same(authenticator: Authenticator, database: Database) -> None:
    _, text = await a_caller(database)
    mistyped = text[:30] + ("x" if text[30] != "x" else "y") + text[31:]
    in_the_other_mode = text[:-6].replace("mg_live_", "mg_test_")
    presented = [None, "", "x", mistyped, with_other_id(text), with_other_secret(text)]
    presented.append(in_the_other_mode + checksum(in_the_other_mode))
    assert len({await refused(authenticator, each) for each in presented}) == 1


async def test_the_right_id_with_anothers_secret_is_refused(
    authenticator: Authenticator, database: Database
) -> None:
    _, first = await a_caller(database)
    _, second = await a_caller(database)
    body = first[:21] + second[21:53]
    await refused(authenticator, body + checksum(body))
    await authenticator.authenticate(first)
    await refused(authenticator, body + checksum(body))


async def test_a_mistyped_key_costs_no_query(
    authenticator: Authenticator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = await a_caller(database)
    reads = CountedReads(database, monkeypatch)
    await refused(authenticator, text[:-1] + ("0" if text[-1] != "0" else "1"))
    assert reads.count == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(presented=st.text() | st.text(min_size=59, max_size=59))
async def test_no_text_at_all_breaks_it(authenticator: Authenticator, presented: str) -> None:
    await refused(authenticator, presented)


async def test_what_was_read_is_believed_for_two_seconds(
    authenticator: Authenticator, database: Database, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = await a_caller(database)
    reads = CountedReads(database, monkeypatch)
    for _ in range(5):
        await authenticator.authenticate(text)
    assert reads.count == 1
    clock.advance(CACHE_TTL_S)
    await authenticator.authenticate(text)
    assert reads.count == 2


async def test_a_secret_that_another_process_has_just_made_opens_at_once(
    authenticator: Authenticator, database: Database, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered of the key is older than the secret, so it is no reason to refuse it."""
    principal, text = await a_caller(database)
    await authenticator.authenticate(text)
    rotated = await TestOffice(database, clock).keyring.rotate(ACT, principal.key_id, overlap_s=0)
    assert await authenticator.authenticate(rotated.text) == principal
    await refused(authenticator, text)


async def test_a_wrong_secret_of_a_key_that_is_remembered_is_looked_up_once(
    authenticator: Authenticator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = await a_caller(database)
    await authenticator.authenticate(text)
    reads = CountedReads(database, monkeypatch)
    for _ in range(5):
        await refused(authenticator, with_other_secret(text))
    assert reads.count == 1


async def test_revocation_by_another_process_holds_within_two_seconds(
    authenticator: Authenticator, database: Database, store: Store, clock: SetClock
) -> None:
    _, text = await a_caller(database)
    await authenticator.authenticate(text)
    await store.execute("UPDATE api_keys SET revoked_at_ms = 1")
    clock.advance(CACHE_TTL_S)
    await refused(authenticator, text)


async def test_two_seconds_are_not_those_of_a_clock_that_jumps(
    authenticator: Authenticator, database: Database, clock: SetClock
) -> None:
    principal, text = await a_caller(database)
    await authenticator.authenticate(text)
    await database.write(lambda tx: accounts.revoke_key(tx, principal.key_id, now_ms=1))
    clock.advance(CACHE_TTL_S)
    clock._now_ms -= 3_600_000
    await refused(authenticator, text)


async def test_a_key_made_after_it_was_refused_works_within_two_seconds(
    authenticator: Authenticator, database: Database, clock: SetClock
) -> None:
    principal, text = await a_caller(database)
    await database.write(lambda tx: tx.exec_driver_sql("UPDATE api_keys SET id = 'later'"))
    await refused(authenticator, text)
    await database.write(lambda tx: tx.exec_driver_sql(f"UPDATE api_keys SET id = '{principal.key_id}'"))
    clock.advance(CACHE_TTL_S)
    assert await authenticator.authenticate(text) == principal


async def test_a_key_that_is_forgotten_is_read_anew(authenticator: Authenticator, database: Database) -> None:
    principal, text = await a_caller(database)
    await authenticator.authenticate(text)
    await database.write(lambda tx: accounts.revoke_key(tx, principal.key_id, now_ms=1))
    authenticator.forget(principal.key_id)
    await refused(authenticator, text)


async def test_forgetting_what_was_never_known_is_fine(authenticator: Authenticator) -> None:
    authenticator.forget("nobody")


async def test_a_row_read_before_it_was_forgotten_is_not_remembered(
    authenticator: Authenticator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revoked here while another request was reading the key: the next one must not get in by that."""
    principal, text = await a_caller(database)
    get_keys = authenticator._rows._fetch
    pause = Pause()

    def slow(tx, ids):
        found = get_keys(tx, ids)
        pause.wait(tx)
        return found

    monkeypatch.setattr(authenticator._rows, "_fetch", slow)
    early = asyncio.create_task(authenticator.authenticate(text))
    await pause.entered.wait()
    await database.write(lambda tx: accounts.revoke_key(tx, principal.key_id, now_ms=1))
    authenticator.forget(principal.key_id)
    pause.end()
    assert await early == principal  # it came before the revocation
    await refused(authenticator, text)


async def test_a_key_expires_to_the_millisecond_whatever_is_remembered(
    authenticator: Authenticator, database: Database, clock: SetClock
) -> None:
    principal, text = await a_caller(database, expires_at_ms=clock.now_ms() + 1000)
    clock.advance(0.999)
    assert await authenticator.authenticate(text) == principal
    clock.advance(0.001)
    await refused(authenticator, text)


async def test_a_suspended_tenant_may_still_look(authenticator: Authenticator, database: Database) -> None:
    """What was made and paid for stays theirs; admission refuses them more."""
    tenant = await keep_tenant(database, status=TenantStatus.SUSPENDED)
    principal, text = await a_caller(database, tenant)
    assert await authenticator.authenticate(text) == principal


async def test_what_is_remembered_is_bounded(
    authenticator: Authenticator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_CACHE_SIZE", 3)
    callers = [await a_caller(database) for _ in range(6)]
    for principal, text in callers * 2:
        assert await authenticator.authenticate(text) == principal
        await refused(authenticator, with_other_id(text))
    assert len(authenticator._cache) <= 3
    assert len(authenticator._well_formed) <= 3


async def test_no_secret_is_remembered(authenticator: Authenticator, database: Database) -> None:
    _, text = await a_caller(database)
    await authenticator.authenticate(text)
    remembered = repr(authenticator._cache) + repr(authenticator._well_formed)
    assert text not in remembered
    assert text[21:53] not in remembered


def test_hashes_are_compared_in_constant_time() -> None:
    """Nothing derived from the stored hash is compared in any other way."""
    tree = ast.parse(inspect.getsource(authentication))
    comparisons = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    assert not [text for text in comparisons if "sha256" in text or "expected" in text]
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert "hmac.compare_digest(candidate.sha256, expected)" in calls
