"""What an operator does with keys: bounds, states, and rotations that can be repeated."""

from dataclasses import replace

import pytest

from gateway.accounts import keys
from gateway.accounts.authentication import Authenticator
from gateway.accounts.grants import Grant
from gateway.accounts.keyring import LONGEST_OVERLAP_S
from gateway.errors import Conflict, ErrorCode, NotFound, Unauthorized
from gateway.model import ApiKey, KeyMode, KeyState, Scope, Tenant
from tests.clock import SetClock
from tests.databases import Store
from tests.factories import ACT, NOW_MS
from tests.office import TestOffice, faults

DAY_S = 86_400


@pytest.fixture
def authenticator(office: TestOffice) -> Authenticator:
    return Authenticator(office.database, office.clock, lambda _: None)


async def opens(authenticator: Authenticator, text: str) -> bool:
    """Whether the text is a good key now, whatever was remembered."""
    parsed = keys.parse(text)
    assert parsed is not None
    authenticator.forget(parsed.public_id)
    try:
        await authenticator.authenticate(text)
    except Unauthorized:
        return False
    return True


async def test_a_key_is_kept_as_it_was_made_and_without_its_secret(
    office: TestOffice, tenant: Tenant
) -> None:
    terms = {
        "owner": "ada@example.com",
        "tags": ("ci", "spring"),
        "scopes": frozenset({Scope.READ}),
        "allowed_models": ("lyria-002",),
        "rpm": 30,
        "max_queued": 3,
        "expires_at_ms": NOW_MS + 1,
    }
    key, text = await office.keyring.create(ACT, tenant.id, name=" laptop ", **terms)
    assert key == ApiKey(
        key.id, tenant.id, "laptop", keys.hash_key(text), NOW_MS, created_by=ACT.actor, **terms
    )
    assert keys.parse(text) == keys.PresentedKey(key.id, key.sha256, KeyMode.LIVE)
    assert await office.keyring.list(None) == (key,)
    assert await office.keyring.get(key.id) == key


async def test_the_secret_is_nowhere_in_the_database(
    office: TestOffice, tenant: Tenant, store: Store
) -> None:
    key, made = await office.keyring.create(ACT, tenant.id, name="laptop")
    rotated = await office.keyring.rotate(ACT, key.id, overlap_s=60, name="spring")
    kept = await store.contents()
    assert any(rotated.key.sha256.encode() in content for content in kept)
    for text in (made, rotated.text):
        secret = text.rsplit("_", 1)[1]
        for part in (text, secret, secret[: keys.SECRET_LENGTH], secret[:16], secret[-16:]):
            assert not any(part.encode() in content for content in kept)


async def test_keys_are_listed_of_all_or_of_one_tenant(office: TestOffice, tenant: Tenant) -> None:
    other = await office.tenants.create(ACT, name="other")
    own = [(await office.keyring.create(ACT, tenant.id, name="k"))[0] for _ in range(2)]
    others = [(await office.keyring.create(ACT, other.id, name="k"))[0]]
    assert set(await office.keyring.list(tenant.id)) == set(own)
    assert set(await office.keyring.list(None)) == {*own, *others}
    with pytest.raises(NotFound):
        await office.keyring.list("nobody")


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"name": " "}, "name"),
        ({"owner": "x" * 101}, "owner"),
        ({"owner": "two\nlines"}, "owner"),
        ({"tags": ("",)}, "tags"),
        ({"tags": tuple(map(str, range(21)))}, "tags"),
        ({"scopes": frozenset()}, "scopes"),
        ({"allowed_models": ("gpt-7",)}, "allowed_models"),
        ({"rpm": 0}, "rpm"),
        ({"max_queued": -1}, "max_queued"),
        ({"expires_at_ms": NOW_MS}, "expires_at"),
    ],
)
async def test_terms_that_make_no_sense_are_refused(
    office: TestOffice, tenant: Tenant, terms: dict, field: str
) -> None:
    assert await faults(office.keyring.create(ACT, tenant.id, **{"name": "k", **terms})) == {field}
    key, _ = await office.keyring.create(ACT, tenant.id, name="k")
    assert await faults(office.keyring.update(ACT, key.id, **terms)) == {field}
    assert await office.keyring.list(None) == (key,)


# Bounds (K4)


async def test_a_key_cannot_go_beyond_its_tenant(office: TestOffice) -> None:
    tenant = await office.tenants.create(
        ACT, name="acme", rpm=10, max_queued=5, allowed_models=("lyria-002",)
    )
    wide = {"rpm": 11, "max_queued": 6, "allowed_models": ("lyria-002", "musicgen")}
    expected = {"rpm", "max_queued", "allowed_models"}
    assert await faults(office.keyring.create(ACT, tenant.id, name="k", **wide)) == expected
    key, _ = await office.keyring.create(ACT, tenant.id, name="k", rpm=10, max_queued=5)
    assert await faults(office.keyring.update(ACT, key.id, **wide)) == expected
    assert await office.keyring.get(key.id) == key


async def test_a_key_cannot_go_beyond_its_creator_and_inherits_what_it_leaves_open(
    office: TestOffice, tenant: Tenant
) -> None:
    creator = Grant(frozenset({Scope.READ}), ("lyria-002",), 10, 5, NOW_MS + 1000)
    wide = {
        "scopes": frozenset(Scope),
        "allowed_models": ("musicgen",),
        "rpm": 11,
        "max_queued": 6,
        "expires_at_ms": NOW_MS + 1001,
    }
    asked = office.keyring.create(ACT, tenant.id, name="k", creator=creator, **wide)
    assert await faults(asked) == {"scopes", "allowed_models", "rpm", "max_queued", "expires_at"}
    key, _ = await office.keyring.create(
        ACT, tenant.id, name="k", creator=creator, scopes=frozenset({Scope.READ})
    )
    assert (key.allowed_models, key.rpm, key.max_queued, key.expires_at_ms) == (
        ("lyria-002",),
        10,
        5,
        NOW_MS + 1000,
    )


# States


async def test_a_key_is_disabled_and_enabled(
    office: TestOffice, tenant: Tenant, authenticator: Authenticator, clock: SetClock
) -> None:
    key, text = await office.keyring.create(ACT, tenant.id, name="k")
    disabled = await office.keyring.disable(ACT, key.id)
    assert disabled.state_at(NOW_MS) is KeyState.DISABLED
    assert not await opens(authenticator, text)
    clock.advance(5)
    assert await office.keyring.disable(ACT, key.id) == disabled
    assert await office.keyring.enable(ACT, key.id) == key
    assert await opens(authenticator, text)
    assert office.forgotten == [key.id] * 3


async def test_a_key_is_revoked_once_and_for_good(
    office: TestOffice, tenant: Tenant, clock: SetClock
) -> None:
    key, _ = await office.keyring.create(ACT, tenant.id, name="k")
    other, _ = await office.keyring.create(ACT, tenant.id, name="k")
    clock.advance(5)
    assert await office.keyring.revoke(ACT, key.id)
    clock.advance(5)
    assert not await office.keyring.revoke(ACT, key.id)
    assert (await office.keyring.get(key.id)).revoked_at_ms == NOW_MS + 5000
    assert await office.keyring.get(other.id) == other
    for again in (
        office.keyring.enable(ACT, key.id),
        office.keyring.disable(ACT, key.id),
        office.keyring.update(ACT, key.id, name="new"),
        office.keyring.rotate(ACT, key.id, overlap_s=0),
    ):
        with pytest.raises(Conflict, match="revoked"):
            await again


async def test_an_expired_key_can_be_given_more_time(
    office: TestOffice, tenant: Tenant, authenticator: Authenticator, clock: SetClock
) -> None:
    key, text = await office.keyring.create(ACT, tenant.id, name="k", expires_at_ms=NOW_MS + 1000)
    clock.advance(1)
    assert not await opens(authenticator, text)
    with pytest.raises(Conflict, match="expired"):
        await office.keyring.rotate(ACT, key.id, overlap_s=0)
    await office.keyring.update(ACT, key.id, expires_at_ms=NOW_MS + 9000)
    assert await opens(authenticator, text)
    await office.keyring.update(ACT, key.id, expires_at_ms=None)
    clock.advance(9)
    assert await opens(authenticator, text)


async def test_another_tenants_key_is_nobodys(office: TestOffice, tenant: Tenant) -> None:
    other = await office.tenants.create(ACT, name="other")
    key, _ = await office.keyring.create(ACT, tenant.id, name="k")
    for whose, key_id in ((other.id, key.id), (None, "nobody")):
        for awaitable in (
            office.keyring.get(key_id, tenant_id=whose),
            office.keyring.update(ACT, key_id, tenant_id=whose, name="theirs"),
            office.keyring.disable(ACT, key_id, tenant_id=whose),
            office.keyring.enable(ACT, key_id, tenant_id=whose),
            office.keyring.revoke(ACT, key_id, tenant_id=whose),
            office.keyring.rotate(ACT, key_id, overlap_s=0, tenant_id=whose),
        ):
            with pytest.raises(NotFound, match="gateway key list") as caught:
                await awaitable
            assert caught.value.code is ErrorCode.NOT_FOUND
    assert await office.keyring.get(key.id, tenant_id=tenant.id) == key


# Rotation (K1, K2, K5)


async def test_both_secrets_open_until_the_stated_moment_under_one_id(
    office: TestOffice, tenant: Tenant, authenticator: Authenticator, clock: SetClock
) -> None:
    key, old = await office.keyring.create(ACT, tenant.id, name="k", mode=KeyMode.TEST)
    rotated = await office.keyring.rotate(ACT, key.id, overlap_s=DAY_S)
    assert rotated.key.id == key.id
    assert rotated.old_until_ms == NOW_MS + DAY_S * 1000
    assert rotated.text.startswith(f"mg_test_{key.id}_")
    clock.advance(DAY_S - 0.001)
    assert await opens(authenticator, old)
    clock.advance(0.001)
    assert not await opens(authenticator, old)
    assert await opens(authenticator, rotated.text)


async def test_without_an_overlap_the_old_secret_goes_at_once(
    office: TestOffice, tenant: Tenant, authenticator: Authenticator
) -> None:
    key, old = await office.keyring.create(ACT, tenant.id, name="k")
    rotated = await office.keyring.rotate(ACT, key.id, overlap_s=0)
    assert rotated.old_until_ms == NOW_MS
    assert not await opens(authenticator, old)
    assert await opens(authenticator, rotated.text)


async def test_a_named_rotation_repeated_gives_the_same_secret(
    office: TestOffice, tenant: Tenant, authenticator: Authenticator, clock: SetClock
) -> None:
    """Its first answer was lost: nothing that works is cut off, and nothing is left that nobody has."""
    key, old = await office.keyring.create(ACT, tenant.id, name="k")
    first = await office.keyring.rotate(ACT, key.id, overlap_s=60, name="spring")
    clock.advance(30)
    again = await office.keyring.rotate(ACT, key.id, overlap_s=3600, name="spring")
    assert again == replace(first, repeated=True)
    assert await opens(authenticator, old)
    assert await opens(authenticator, again.text)
    clock.advance(30)
    assert not await opens(authenticator, old)
    assert await office.keyring.rotate(ACT, key.id, overlap_s=60, name="spring") == again
    assert [entry.action for entry in await office.acts()].count("key.rotate") == 1


async def test_unnamed_rotations_give_another_secret_each_and_cut_nothing_off(
    office: TestOffice, tenant: Tenant, authenticator: Authenticator, clock: SetClock
) -> None:
    key, first = await office.keyring.create(ACT, tenant.id, name="k")
    second = (await office.keyring.rotate(ACT, key.id, overlap_s=60)).text
    clock.advance(10)
    third = (await office.keyring.rotate(ACT, key.id, overlap_s=60)).text
    assert [await opens(authenticator, text) for text in (first, second, third)] == [True] * 3
    clock.advance(50)
    assert [await opens(authenticator, text) for text in (first, second, third)] == [False, True, True]


async def test_a_rotation_that_another_followed_cannot_be_repeated(
    office: TestOffice, tenant: Tenant
) -> None:
    key, _ = await office.keyring.create(ACT, tenant.id, name="k")
    await office.keyring.rotate(ACT, key.id, overlap_s=60, name="spring")
    summer = await office.keyring.rotate(ACT, key.id, overlap_s=60, name="summer")
    with pytest.raises(Conflict, match="came after"):
        await office.keyring.rotate(ACT, key.id, overlap_s=60, name="spring")
    again = await office.keyring.rotate(ACT, key.id, overlap_s=60, name="summer")
    assert again == replace(summer, repeated=True)


async def test_one_name_gives_each_key_a_secret_of_its_own(office: TestOffice, tenant: Tenant) -> None:
    made = [(await office.keyring.create(ACT, tenant.id, name="k"))[0] for _ in range(2)]
    texts = [(await office.keyring.rotate(ACT, key.id, overlap_s=0, name="spring")).text for key in made]
    assert texts[0][-38:] != texts[1][-38:]


async def test_a_replaced_secret_never_outlives_its_key(
    office: TestOffice, tenant: Tenant, authenticator: Authenticator, clock: SetClock
) -> None:
    key, old = await office.keyring.create(ACT, tenant.id, name="k", expires_at_ms=NOW_MS + 5000)
    rotated = await office.keyring.rotate(ACT, key.id, overlap_s=60)
    assert rotated.old_until_ms == NOW_MS + 5000
    await office.keyring.update(ACT, key.id, expires_at_ms=None)
    clock.advance(5)
    assert not await opens(authenticator, old)


async def test_revoking_ends_every_secret(
    office: TestOffice, tenant: Tenant, authenticator: Authenticator
) -> None:
    key, old = await office.keyring.create(ACT, tenant.id, name="k")
    new = (await office.keyring.rotate(ACT, key.id, overlap_s=60)).text
    await office.keyring.revoke(ACT, key.id)
    assert [await opens(authenticator, text) for text in (old, new)] == [False, False]


async def test_a_disabled_key_can_be_rotated_before_it_is_enabled(
    office: TestOffice, tenant: Tenant, authenticator: Authenticator
) -> None:
    key, old = await office.keyring.create(ACT, tenant.id, name="k")
    await office.keyring.disable(ACT, key.id)
    new = (await office.keyring.rotate(ACT, key.id, overlap_s=0)).text
    assert not await opens(authenticator, new)
    await office.keyring.enable(ACT, key.id)
    assert [await opens(authenticator, text) for text in (old, new)] == [False, True]


@pytest.mark.parametrize(
    ("overlap_s", "name", "field"),
    [
        (-1, None, "overlap_s"),
        (LONGEST_OVERLAP_S + 1, None, "overlap_s"),
        (0, "", "Idempotency-Key"),
        (0, "x" * 256, "Idempotency-Key"),
    ],
)
async def test_a_rotation_that_makes_no_sense_changes_nothing(
    office: TestOffice, tenant: Tenant, overlap_s: int, name: str | None, field: str
) -> None:
    key, _ = await office.keyring.create(ACT, tenant.id, name="k")
    assert await faults(office.keyring.rotate(ACT, key.id, overlap_s=overlap_s, name=name)) == {field}
    assert await office.keyring.get(key.id) == key


async def test_secrets_that_open_nothing_any_more_are_dropped(
    office: TestOffice, tenant: Tenant, clock: SetClock
) -> None:
    key, _ = await office.keyring.create(ACT, tenant.id, name="k")
    for _ in range(5):
        await office.keyring.rotate(ACT, key.id, overlap_s=10)
        clock.advance(11)
    count = "SELECT count(*) FROM retired_secrets"
    assert await office.database.read(lambda tx: tx.exec_driver_sql(count).scalar_one()) == 1


# What the log keeps


async def test_acts_are_logged_without_a_secret_or_its_hash(office: TestOffice, tenant: Tenant) -> None:
    key, text = await office.keyring.create(ACT, tenant.id, name="k", rpm=5)
    await office.keyring.update(ACT, key.id, rpm=None, tags=("ci",))
    rotated = await office.keyring.rotate(ACT, key.id, overlap_s=60, name="spring")
    await office.keyring.disable(ACT, key.id)
    await office.keyring.enable(ACT, key.id)
    await office.keyring.revoke(ACT, key.id)
    acts = (await office.acts())[1:]
    assert [entry.action for entry in acts] == [
        "key.create",
        "key.update",
        "key.rotate",
        "key.disable",
        "key.enable",
        "key.revoke",
    ]
    assert {(entry.tenant_id, entry.target, entry.act) for entry in acts} == {(tenant.id, key.id, ACT)}
    assert (acts[1].before, acts[1].after) == ({"rpm": 5, "tags": []}, {"rpm": None, "tags": ["ci"]})
    assert acts[2].after == {"rotated_at_ms": NOW_MS, "old_until_ms": NOW_MS + 60_000}
    told = repr(acts)
    for secret in (text, rotated.text, key.sha256, rotated.key.sha256, "spring"):
        assert secret not in told
