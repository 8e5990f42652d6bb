"""What administrators may say, and how a moment is read."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.model import BudgetWindow, Scope
from gateway.web.admin.schemas import (
    AdminBody,
    BudgetsBody,
    KeyBody,
    KeyPatch,
    RotationBody,
    TenantBody,
    TenantPatch,
    parse_moment,
)
from gateway.web.schemas import parse_body

# Moments


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-22T11:38:47.747Z", 1_795_347_527_747),
        ("2026-11-22t11:38:47.7479999z", 1_795_347_527_747),
        ("2026-11-22T12:38:47+01:00", 1_795_347_527_000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
    ],
)
def test_a_moment_is_read_in_any_zone(text: str, ms: int) -> None:
    assert parse_moment(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-22",
        "2026-11-22T11:38:47",
        "2026-11-22 11:38:47Z",
        "2026-11-22T11:38Z",
        "2026-11-22T11:38:47+0100",
        "2026-02-30T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T11:38:60Z",
        "20261122T113847Z",
        "٢٠٢٦-11-22T11:38:47Z",
        "9999-12-31T23:59:59-12:00",
        "1795347527",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a moment like"):
        parse_moment(text)


@given(
    st.datetimes(max_value=datetime(9999, 12, 30)),  # noqa: DTZ001 - its zone is put to it below
    st.integers(-23 * 60, 23 * 60),
)
def test_a_moment_comes_back_as_it_was(moment: datetime, offset_min: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_moment(aware.isoformat()) == expected


# Bodies


def test_a_change_says_what_was_named_and_nothing_else() -> None:
    assert parse_body(TenantPatch, {}).terms() == {}
    named = parse_body(TenantPatch, {"rpm": None, "allowed_models": ["musicgen"], "warn_percents": []})
    assert named.terms() == {"rpm": None, "allowed_models": ("musicgen",), "warn_percents": ()}
    key = parse_body(KeyPatch, {"scopes": ["read", "read"], "expires_at": None})
    assert key.terms() == {"scopes": frozenset({Scope.READ}), "expires_at_ms": None}


def test_what_is_made_takes_its_defaults_from_the_services() -> None:
    assert parse_body(TenantBody, {"name": "acme"}).terms() == {"name": "acme"}
    key = parse_body(KeyBody, {"name": "k", "tenant_id": "ten_x", "expires_at": "1970-01-01T00:00:01Z"})
    assert key.terms() == {"name": "k", "expires_at_ms": 1000}
    assert (key.mode, key.tenant_id) == ("live", "ten_x")


def test_budgets_are_of_every_window() -> None:
    limits = parse_body(TenantBody, {"name": "acme", "budgets": {"month_micros": 5}}).budgets.limits()
    assert limits == {BudgetWindow.DAY: None, BudgetWindow.MONTH: 5, BudgetWindow.TOTAL: None}
    assert set(parse_body(BudgetsBody, {}).limits().values()) == {None}


def test_an_overlap_is_a_day_unless_it_is_said() -> None:
    assert parse_body(RotationBody, {}).overlap_s == 86_400
    assert parse_body(RotationBody, {"overlap_s": 0}).overlap_s == 0


@pytest.mark.parametrize("kind", [TenantBody, KeyPatch, BudgetsBody, RotationBody])
def test_unknown_fields_are_refused_by_name(kind: type[AdminBody]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_body(kind, {"rmp": 5})
    assert ("rmp", "unknown_field") in {(fault.field, fault.code) for fault in caught.value.fields}


def test_a_schema_says_nothing_of_defaults_where_null_means_something() -> None:
    """`rpm: null` lifts the limit, no `rpm` leaves it: one default for both would be wrong."""
    for described in TenantPatch.model_json_schema()["properties"].values():
        assert "default" not in described
