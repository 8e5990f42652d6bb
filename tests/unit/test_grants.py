"""K4: whatever is granted, changed and granted on, no key reaches further than its tenant or its maker."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accounts.grants import Grant, excesses, grant_of_key, grant_of_tenant, narrowed
from gateway.families.registry import KINDS
from gateway.model import ALL_SCOPES, ApiKey, Scope, Tenant
from tests.factories import a_key, a_tenant

MODELS = list(KINDS)

some_models = st.none() | st.lists(st.sampled_from(MODELS), unique=True).map(tuple)
some_scopes = st.frozensets(st.sampled_from(list(Scope)), min_size=1)
a_limit = st.none() | st.integers(1, 5)
a_moment = st.none() | st.integers(1, 5)
terms = st.fixed_dictionaries(
    {},
    optional={
        "scopes": some_scopes,
        "allowed_models": some_models,
        "rpm": a_limit,
        "max_queued": a_limit,
        "expires_at_ms": a_moment,
    },
)
#: Who asks: a number picks one of the keys that are there, none is an administrator; and what they ask for.
asked = st.tuples(st.none() | st.integers(0, 20), st.sampled_from(["create", "update"]), terms)


def granted(key: ApiKey, tenant: Tenant, creator: Grant | None) -> ApiKey | None:
    """As `gateway.accounts.keyring` grants: the key, or None when it is refused."""
    if list(excesses(key, grant_of_tenant(tenant), "its tenant's")):
        return None
    if creator is None:
        return key
    return None if list(excesses(key, creator, "its creator's")) else narrowed(key, creator)


def reaches_beyond(key: ApiKey, grant: Grant) -> list[str]:
    """What a key may that the grant may not, said without the code under test."""
    beyond = ["scopes"] if key.scopes - grant.scopes else []
    mine = MODELS if key.allowed_models is None else key.allowed_models
    if grant.allowed_models is not None and not set(mine) <= set(grant.allowed_models):
        beyond.append("allowed_models")
    for name in ("rpm", "max_queued", "expires_at_ms"):
        most, limit = getattr(grant, name), getattr(key, name)
        if most is not None and (limit is None or limit > most):
            beyond.append(name)
    return beyond


def effective(key: ApiKey, tenant: Tenant) -> ApiKey:
    """What a key comes to: whatever it leaves open, its tenant's limits bound at every request."""
    return narrowed(key, grant_of_tenant(tenant))


@settings(max_examples=300, deadline=None)
@given(
    st.builds(lambda models, rpm, queued: (models, rpm, queued), some_models, a_limit, a_limit),
    st.lists(asked, max_size=12),
)
def test_no_chain_of_grants_leads_beyond_the_tenant_or_the_creator(
    limits: tuple[Any, Any, Any], steps: list[tuple[int | None, str, dict[str, Any]]]
) -> None:
    models, rpm, max_queued = limits
    tenant = a_tenant(allowed_models=models, rpm=rpm, max_queued=max_queued)
    keys: list[ApiKey] = []
    for maker, verb, named in steps:
        creator = grant_of_key(keys[maker % len(keys)]) if maker is not None and keys else None
        before = keys[-1] if verb == "update" and keys else a_key(tenant)
        key = granted(replace(before, **named), tenant, creator)
        if key is None:
            continue
        assert reaches_beyond(effective(key, tenant), grant_of_tenant(tenant)) == []
        if creator is not None:
            assert reaches_beyond(key, creator) == []
        keys.append(key)


@given(terms, terms)
def test_nothing_within_the_grant_is_refused(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """The other way round: what reaches no further is granted whole."""
    creator = grant_of_key(a_key(a_tenant(), **theirs))
    key = a_key(a_tenant(), **mine)
    if not reaches_beyond(key, creator):
        assert list(excesses(key, creator, "its creator's")) == []
        assert reaches_beyond(key, grant_of_key(narrowed(key, creator))) == []


@given(terms, terms)
def test_what_is_refused_is_named(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    key, creator = a_key(a_tenant(), **mine), grant_of_key(a_key(a_tenant(), **theirs))
    named = {fault.field for fault in excesses(key, creator, "its creator's")}
    # What is left open asks for nothing: it is bounded silently.
    expected = {name for name in reaches_beyond(key, creator) if getattr(key, name) is not None}
    assert named == {name.removesuffix("_ms") for name in expected}


def test_a_refusal_says_whose_limit_it_is() -> None:
    key = a_key(a_tenant(), rpm=7, allowed_models=("musicgen",))
    told = [fault.detail for fault in excesses(key, Grant(rpm=5, allowed_models=()), "its tenant's")]
    assert told == ["'musicgen' is not one of its tenant's.", "must be at most its tenant's, 5."]


def test_a_tenant_grants_its_own_limits_and_every_scope() -> None:
    tenant = a_tenant(rpm=5, max_queued=7, allowed_models=("musicgen",))
    assert grant_of_tenant(tenant) == Grant(ALL_SCOPES, ("musicgen",), 5, 7)
