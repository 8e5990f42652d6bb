"""Which models are here, and where they may be asked for."""

import pytest

from gateway.errors import ErrorCode, Forbidden, InvalidRequest, Unavailable
from gateway.families.lyria2 import LYRIA2
from gateway.families.lyria3 import LYRIA3_CLIP, LYRIA3_PRO
from gateway.families.musicgen import MUSICGEN
from gateway.model import Route
from gateway.tasks.catalog import Catalog
from tests.factories import a_deployment

LYRIA = a_deployment(LYRIA2)
OWN = a_deployment(MUSICGEN)
CLIP = a_deployment(LYRIA3_CLIP, price_micros=40_000)
PRO = a_deployment(LYRIA3_PRO, price_micros=80_000)
BOTH = Catalog((OWN, LYRIA))


@pytest.mark.parametrize(
    ("route", "model", "found"),
    [
        (Route.STANDARD, None, (OWN, LYRIA)),
        (Route.STANDARD, "lyria-002", (LYRIA,)),
        (Route.STANDARD, "musicgen", (OWN,)),
        (Route.LYRIA, None, (LYRIA,)),
        (Route.LYRIA, "lyria-002", (LYRIA,)),
    ],
)
def test_a_route_has_its_models_and_a_name_overrules_it(route: Route, model: str | None, found) -> None:
    assert BOTH.candidates(route, model) == found


@pytest.mark.parametrize("deployments", [(), (OWN,)])
def test_a_route_without_a_model_is_unavailable(deployments) -> None:
    with pytest.raises(Unavailable, match="GATEWAY_PROJECT") as caught:
        Catalog(deployments).candidates(Route.LYRIA, None)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert caught.value.retry_after_s == 60


@pytest.mark.parametrize(
    ("route", "model", "offered"),
    [
        (Route.STANDARD, "suno", "choose one of: musicgen, lyria-002"),
        (Route.STANDARD, "", "choose one of: musicgen, lyria-002"),
        (Route.STANDARD, "MusicGen", "choose one of: musicgen, lyria-002"),
        (Route.LYRIA, "musicgen", "choose one of: lyria-002"),
    ],
)
def test_a_model_that_is_not_here_is_refused_with_what_is(route: Route, model: str, offered: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        BOTH.candidates(route, model)
    (field,) = caught.value.fields
    assert (field.field, field.code) == ("model", "unknown_model")
    assert offered in field.detail


def test_a_model_asked_for_where_there_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="none"):
        Catalog(()).candidates(Route.STANDARD, "lyria-002")


def test_of_what_is_not_allowed_nothing_is_found() -> None:
    assert BOTH.candidates(Route.STANDARD, None, frozenset({"lyria-002"})) == (LYRIA,)
    with pytest.raises(Forbidden, match="it may use: musicgen"):
        BOTH.candidates(Route.LYRIA, None, frozenset({"musicgen"}))
    with pytest.raises(Forbidden, match="it may use: no model"):
        BOTH.candidates(Route.LYRIA, None, frozenset())


def test_a_task_runs_where_its_model_is_now() -> None:
    assert BOTH.of_kind(LYRIA2) == (LYRIA,)
    assert Catalog((OWN,)).of_kind(LYRIA2) == ()


# The order


def test_an_endpoint_of_ones_own_comes_before_what_is_cheaper() -> None:
    catalog = Catalog((LYRIA, CLIP, OWN))
    ranked = sorted([LYRIA, CLIP, OWN], key=lambda d: catalog.rank(d.kind, d.price_micros, 1))
    assert ranked == [OWN, CLIP, LYRIA]


def test_of_two_that_cost_the_same_the_one_that_joins_less_comes_first() -> None:
    catalog = Catalog((LYRIA, PRO))
    assert catalog.rank(LYRIA3_PRO, 120_000, 1) < catalog.rank(LYRIA2, 120_000, 2)


def test_a_named_order_is_kept_and_leaves_out_what_it_does_not_name() -> None:
    catalog = Catalog((OWN, CLIP, LYRIA), (LYRIA2, MUSICGEN))
    assert catalog.candidates(Route.STANDARD, None) == (OWN, LYRIA)
    assert catalog.rank(LYRIA2, 1_000_000, 9) < catalog.rank(MUSICGEN, 0, 1)
    assert catalog.candidates(Route.STANDARD, "lyria-3-clip-preview") == (CLIP,)


def test_an_order_without_any_model_that_is_here_leaves_the_route_without_one() -> None:
    with pytest.raises(Unavailable):
        Catalog((LYRIA,), (MUSICGEN,)).candidates(Route.STANDARD, None)


# Offers


def offered(
    catalog: Catalog, allowed: frozenset[str] | None = None
) -> list[tuple[str, list[tuple[Route, bool]]]]:
    return [
        (offer.deployment.kind, [(each.route, each.chosen) for each in offer.routes])
        for offer in catalog.offers(allowed)
    ]


def test_every_model_is_offered_where_it_can_be_asked_for() -> None:
    assert offered(BOTH) == [
        ("musicgen", [(Route.STANDARD, True)]),
        ("lyria-002", [(Route.STANDARD, False), (Route.LYRIA, True)]),
    ]


def test_what_is_not_allowed_is_not_offered_and_another_takes_its_place() -> None:
    both_routes = [(Route.STANDARD, True), (Route.LYRIA, True)]
    assert offered(BOTH, frozenset({"lyria-002"})) == [("lyria-002", both_routes)]
    assert offered(BOTH, frozenset()) == offered(Catalog(())) == []


def test_what_an_order_leaves_out_is_still_offered_by_name() -> None:
    assert offered(Catalog((OWN, LYRIA), (LYRIA2,))) == [
        ("lyria-002", [(Route.STANDARD, True), (Route.LYRIA, True)]),
        ("musicgen", [(Route.STANDARD, False)]),
    ]


def test_several_deployments_of_a_model_are_one_offer() -> None:
    another = a_deployment(LYRIA2, name="another", location="europe-west4")
    (offer,) = Catalog((LYRIA, another)).offers()
    assert offer.deployment is LYRIA


def test_the_standard_route_gives_any_length_and_lyrias_own_the_models() -> None:
    (offer,) = Catalog((LYRIA,)).offers()
    lengths = {each.route: (each.shortest_s, each.longest_s, each.default_s) for each in offer.routes}
    assert lengths == {Route.STANDARD: (1, 300, 30), Route.LYRIA: (32.8, 32.8, 32.8)}
