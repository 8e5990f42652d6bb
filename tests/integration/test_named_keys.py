"""I6: a key whose answer was lost is asked for again, by the name that its request was given."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.accounts import keys
from gateway.accounts.grants import Grant
from gateway.accounts.keyring import Made
from gateway.errors import Conflict, ErrorCode, InvalidRequest, NotFound
from gateway.model import KeyMode, KeyState, Place, Scope, Tenant
from tests.clock import SetClock
from tests.factories import ACT, NOW_MS
from tests.office import TestOffice


async def made(office: TestOffice, tenant: Tenant, request_name: str = "n", **terms: Any) -> Made:
    return await office.keyring.create_named(ACT, tenant.id, request_name, **{"name": "worker", **terms})


async def test_the_same_request_gives_the_same_key_and_text(
    office: TestOffice, tenant: Tenant, clock: SetClock
) -> None:
    first = await made(office, tenant, scopes=frozenset({Scope.READ}), rpm=5, expires_at_ms=NOW_MS + 10**9)
    clock.advance(3600)
    again = await made(office, tenant, scopes=frozenset({Scope.READ}), rpm=5, expires_at_ms=NOW_MS + 10**9)
    assert again == replace(first, repeated=True)
    assert await office.keyring.list(tenant.id) == (first.key,)
    assert [act.action for act in await office.acts()] == ["tenant.create", "key.create"]


async def test_its_text_is_a_key_like_any_other(office: TestOffice, tenant: Tenant) -> None:
    each = await made(office, tenant)
    assert keys.parse(each.text) == keys.PresentedKey(each.key.id, each.key.sha256, KeyMode.LIVE)
    assert each.key.rotated_at_ms is None


async def test_names_are_told_apart_and_belong_to_a_tenant(office: TestOffice, tenant: Tenant) -> None:
    other = await office.tenants.create(ACT, name="other")
    all_made = [
        await made(office, tenant),
        await made(office, tenant, "m"),
        await made(office, other),
        Made(*await office.keyring.create(ACT, tenant.id, name="worker")),
    ]
    assert len({each.key.id for each in all_made}) == len({each.text[-38:] for each in all_made}) == 4


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"rpm": 7}, {"tags": ("x",)}, {"mode": KeyMode.TEST}], ids=str
)
async def test_another_request_of_the_same_name_is_refused(
    office: TestOffice, tenant: Tenant, change: dict[str, Any]
) -> None:
    await made(office, tenant)
    with pytest.raises(Conflict) as caught:
        await made(office, tenant, **change)
    assert caught.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert len(await office.keyring.list(tenant.id)) == 1


async def test_once_rotated_the_first_text_is_gone(office: TestOffice, tenant: Tenant) -> None:
    first = await made(office, tenant)
    rotated = await office.keyring.rotate(ACT, first.key.id, overlap_s=60, name="n")
    assert rotated.text != first.text
    assert (await office.keyring.rotate(ACT, first.key.id, overlap_s=60, name="n")).text == rotated.text
    with pytest.raises(Conflict, match="rotated since") as caught:
        await made(office, tenant)
    assert caught.value.code is ErrorCode.CONFLICT


async def test_what_became_of_the_key_meanwhile_is_told(office: TestOffice, tenant: Tenant) -> None:
    first = await made(office, tenant)
    await office.keyring.update(ACT, first.key.id, rpm=3)
    await office.keyring.revoke(ACT, first.key.id)
    again = await made(office, tenant)
    assert (again.text, again.key.rpm) == (first.text, 3)
    assert again.key.state_at(NOW_MS) is KeyState.REVOKED


async def test_a_refusal_leaves_the_name_free(office: TestOffice) -> None:
    tenant = await office.tenants.create(ACT, name="small", rpm=5)
    with pytest.raises(InvalidRequest):
        await made(office, tenant, rpm=6)
    assert not (await made(office, tenant, rpm=5)).repeated


async def test_a_key_made_by_name_is_bounded_as_its_creator_is(office: TestOffice, tenant: Tenant) -> None:
    first = await made(office, tenant, creator=Grant(rpm=5))
    assert first.key.rpm == 5
    assert (await made(office, tenant, creator=Grant(rpm=5))).key == first.key


async def test_fifty_at_once_make_one(office: TestOffice, tenant: Tenant) -> None:
    """I3."""
    found = await asyncio.gather(*(made(office, tenant) for _ in range(50)))
    assert len({each.text for each in found}) == 1
    assert sum(not each.repeated for each in found) == 1


@pytest.mark.parametrize("name", ["", "n" * 256])
async def test_a_name_has_a_length(office: TestOffice, tenant: Tenant, name: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255"):
        await made(office, tenant, name)


async def test_a_key_needs_a_tenant(office: TestOffice, tenant: Tenant) -> None:
    with pytest.raises(NotFound):
        await made(office, replace(tenant, id="ten_x"))


# Lists


async def test_keys_are_listed_in_pages_and_by_state(
    office: TestOffice, tenant: Tenant, clock: SetClock
) -> None:
    states = {}
    for number in range(8):
        key, _ = await office.keyring.create(
            ACT, tenant.id, name=str(number), expires_at_ms=NOW_MS + 1000 if number % 4 == 0 else None
        )
        if number % 4 == 1:
            await office.keyring.disable(ACT, key.id)
        if number % 4 == 2:
            await office.keyring.revoke(ACT, key.id)
        states[key.id] = (KeyState.EXPIRED, KeyState.DISABLED, KeyState.REVOKED, KeyState.ACTIVE)[number % 4]
    clock.advance(1)
    seen = []
    while page := await office.keyring.list(
        None, after=Place(seen[-1].created_at_ms, seen[-1].id) if seen else None, limit=3
    ):
        seen += page
    assert {key.id: key.state_at(clock.now_ms()) for key in seen} == states
    assert len(seen) == 8
    for state in KeyState:
        found = await office.keyring.list(tenant.id, state=state)
        assert {key.id for key in found} == {each for each, its in states.items() if its is state}
