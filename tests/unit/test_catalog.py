"""Which model serves a request, and whether it can."""

import pytest

from gateway.errors import ErrorCode, InvalidRequest, Unavailable
from gateway.model import ModelKind, MusicSpec, Route
from gateway.tasks.catalog import DEFAULT_DURATION_S, LYRIA2_LONGEST_S, Catalog, fit
from tests.factories import a_deployment

LYRIA = a_deployment(ModelKind.LYRIA2)
MUSICGEN = a_deployment(ModelKind.MUSICGEN)
BOTH = Catalog((MUSICGEN, LYRIA))


@pytest.mark.parametrize(
    ("route", "model", "chosen"),
    [
        (Route.STANDARD, None, MUSICGEN),
        (Route.STANDARD, "lyria-002", LYRIA),
        (Route.STANDARD, "musicgen", MUSICGEN),
        (Route.LYRIA, None, LYRIA),
        (Route.LYRIA, "lyria-002", LYRIA),
    ],
)
def test_a_route_has_its_choice_and_a_name_overrules_it(route: Route, model: str | None, chosen) -> None:
    assert BOTH.choose(route, model) is chosen


def test_without_musicgen_the_standard_route_is_lyrias() -> None:
    assert Catalog((LYRIA,)).choose(Route.STANDARD, None) is LYRIA


@pytest.mark.parametrize("deployments", [(), (MUSICGEN,)])
def test_a_route_without_a_model_is_unavailable(deployments) -> None:
    with pytest.raises(Unavailable, match="GATEWAY_PROJECT") as caught:
        Catalog(deployments).choose(Route.LYRIA, None)
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
        BOTH.choose(route, model)
    (field,) = caught.value.fields
    assert (field.field, field.code) == ("model", "unknown_model")
    assert offered in field.detail


def test_a_model_asked_for_where_there_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="none"):
        Catalog(()).choose(Route.STANDARD, "lyria-002")


def test_a_task_runs_where_its_model_is_now() -> None:
    assert BOTH.of_kind(ModelKind.LYRIA2) == (LYRIA,)
    assert Catalog((MUSICGEN,)).of_kind(ModelKind.LYRIA2) == ()


@pytest.mark.parametrize("deployment", [LYRIA, MUSICGEN])
def test_the_standard_route_has_a_default_length(deployment) -> None:
    assert fit(MusicSpec("x"), Route.STANDARD, deployment).duration_s == DEFAULT_DURATION_S


@pytest.mark.parametrize(
    ("deployment", "duration_s"), [(LYRIA, 1), (LYRIA, LYRIA2_LONGEST_S), (MUSICGEN, 1), (MUSICGEN, 300)]
)
def test_a_length_the_model_can_give_is_kept(deployment, duration_s: int) -> None:
    spec = MusicSpec("x", duration_s=duration_s, seed=3, sample_count=2)
    assert fit(spec, Route.STANDARD, deployment) == spec


@pytest.mark.parametrize("duration_s", [33, 300])
def test_a_length_lyria_cannot_give_is_refused(duration_s: int) -> None:
    with pytest.raises(InvalidRequest, match="at most 32 seconds") as caught:
        fit(MusicSpec("x", duration_s=duration_s), Route.STANDARD, LYRIA)
    (field,) = caught.value.fields
    assert (field.field, field.code) == ("durationSeconds", "too_long_for_model")


def test_the_lyria_route_leaves_the_length_to_the_model() -> None:
    assert fit(MusicSpec("x"), Route.LYRIA, LYRIA).duration_s is None


# Offers


def offered(
    catalog: Catalog, allowed: frozenset[str] | None = None
) -> list[tuple[str, list[tuple[Route, bool]]]]:
    return [
        (offer.deployment.kind.value, [(each.route, each.chosen) for each in offer.routes])
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


def test_several_deployments_of_a_model_are_one_offer() -> None:
    another = a_deployment(ModelKind.LYRIA2, name="another", location="europe-west4")
    (offer,) = Catalog((LYRIA, another)).offers()
    assert offer.deployment is LYRIA


@pytest.mark.parametrize("allowed", [None, frozenset({"lyria-002"}), frozenset({"musicgen"})])
def test_what_is_chosen_is_what_the_offer_says(allowed: frozenset[str] | None) -> None:
    for offer in BOTH.offers(allowed):
        for route in offer.routes:
            assert (BOTH.choose(route.route, None, allowed) is offer.deployment) is route.chosen
