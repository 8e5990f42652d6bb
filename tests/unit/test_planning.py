"""From a request to a plan: the model, the takes, the calls, the price; and what cannot be planned."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.lengths import LEAST_OVERLAP_S
from gateway.errors import InvalidRequest
from gateway.families.family import clip_of, place_of
from gateway.families.lyria2 import LYRIA2
from gateway.families.lyria3 import LYRIA3_CLIP, LYRIA3_PRO
from gateway.families.musicgen import MUSICGEN
from gateway.families.registry import FAMILIES, KINDS
from gateway.model import AudioFormat, ModelKind, MusicSpec, Route
from gateway.tasks.catalog import DEFAULT_DURATION_S, Catalog
from gateway.tasks.planning import Plan, format_of, make_plan
from tests.factories import a_deployment

PRICES = {kind: family.traits.list_price_micros for kind, family in FAMILIES.items()}
ALL = tuple(a_deployment(kind, price_micros=PRICES[kind]) for kind in KINDS)
HOSTED = Catalog(tuple(d for d in ALL if d.kind != MUSICGEN))


def plan(
    catalog: Catalog = HOSTED, *, route: Route = Route.STANDARD, model: str | None = None, **spec: Any
) -> Plan:
    return make_plan(catalog, MusicSpec(**{"prompt": "slow piano"} | spec), route, model=model)


def refused(catalog: Catalog = HOSTED, **request: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        plan(catalog, **request)
    return [(field.field, field.code) for field in caught.value.fields]


# Length


@pytest.mark.parametrize(
    ("model", "duration_s", "takes"),
    [
        (LYRIA2, 1, 1), (LYRIA2, 10, 1), (LYRIA2, 30, 1), (LYRIA2, 32, 1), (LYRIA2, 33, 2), (LYRIA2, 60, 2),
        (LYRIA2, 184, 6), (LYRIA2, 185, 6), (LYRIA2, 300, 10),
        (LYRIA3_CLIP, 30, 1), (LYRIA3_CLIP, 32, 2), (LYRIA3_CLIP, 60, 3), (LYRIA3_CLIP, 300, 11),
        (LYRIA3_PRO, 1, 1), (LYRIA3_PRO, 184, 1), (LYRIA3_PRO, 185, 2), (LYRIA3_PRO, 300, 2),
    ],
)  # fmt: skip
def test_as_many_takes_are_joined_as_the_length_needs(model: ModelKind, duration_s: int, takes: int) -> None:
    found = plan(model=model, duration_s=duration_s)
    assert (found.spec.takes, found.spec.duration_s) == (takes, duration_s)
    assert found.price_micros == takes * PRICES[model]


@pytest.mark.parametrize("duration_s", [1, 30, 300])
def test_musicgen_makes_any_length_in_one_take(duration_s: int) -> None:
    found = plan(Catalog(ALL), duration_s=duration_s, sample_count=4, seed=1)
    assert (found.deployment.kind, found.spec.takes, found.calls) == (MUSICGEN, 1, 1)


@given(kind=st.sampled_from(KINDS), duration_s=st.integers(1, 300), samples=st.integers(1, 4))
def test_the_takes_reach_the_length_and_none_is_too_many(
    kind: ModelKind, duration_s: int, samples: int
) -> None:
    found = plan(Catalog(ALL), model=kind, duration_s=duration_s, sample_count=samples)
    take_s, takes = FAMILIES[kind].traits.longest_s, found.spec.takes
    assert takes * take_s - (takes - 1) * LEAST_OVERLAP_S >= duration_s
    assert takes == 1 or (takes - 1) * take_s - (takes - 2) * LEAST_OVERLAP_S < duration_s
    assert found.price_micros == samples * takes * PRICES[kind]


@given(kind=st.sampled_from([LYRIA2, MUSICGEN]), duration_s=st.integers(1, 300), samples=st.integers(1, 4))
def test_every_take_has_a_seed_of_its_own_that_follows_the_one_before(
    kind: ModelKind, duration_s: int, samples: int
) -> None:
    found = plan(Catalog(ALL), model=kind, duration_s=duration_s, sample_count=samples, seed=2**32 - 2)
    calls = FAMILIES[kind].calls(found.spec, range(samples * found.spec.takes))
    assert len(calls) == found.calls
    seeds = [(call.seed + place) % 2**32 for call in calls for place in range(len(call.takes))]
    assert seeds == [(2**32 - 2 + take) % 2**32 for take in range(samples * found.spec.takes)]
    places = [
        (clip_of(found.spec, take), place_of(found.spec, take)) for call in calls for take in call.takes
    ]
    assert sorted(places) == [(clip, place) for clip in range(samples) for place in range(found.spec.takes)]


def test_calls_without_a_seed_make_as_much_as_a_call_may() -> None:
    assert plan(model=LYRIA2, duration_s=60, sample_count=4).calls == 2
    assert plan(model=LYRIA2, duration_s=60, sample_count=4, seed=1).calls == 8
    assert plan(model=LYRIA3_CLIP, duration_s=30, sample_count=4).calls == 4


def test_the_standard_route_has_a_default_length() -> None:
    assert plan().spec.duration_s == DEFAULT_DURATION_S


def test_the_lyria_route_leaves_the_length_to_the_model() -> None:
    found = plan(route=Route.LYRIA)
    assert (found.deployment.kind, found.spec.duration_s, found.spec.takes) == (LYRIA2, None, 1)


# The choice


@pytest.mark.parametrize(
    ("duration_s", "chosen"), [(30, LYRIA3_CLIP), (32, LYRIA2), (33, LYRIA3_PRO), (184, LYRIA3_PRO)]
)
def test_what_is_cheapest_for_the_length_is_chosen(duration_s: int, chosen: ModelKind) -> None:
    """At 32 s Lyria 2 needs one take of $0.06, a Clip two of $0.04 and Pro one of $0.08."""
    assert plan(duration_s=duration_s).deployment.kind == chosen


@pytest.mark.parametrize("wish", [{"seed": 7}, {"negative_prompt": "drums"}])
def test_only_what_can_do_it_is_chosen(wish: dict[str, Any]) -> None:
    assert plan(**wish).deployment.kind == LYRIA2


@pytest.mark.parametrize(
    ("prompt", "chosen"), [("静かなピアノ曲を", LYRIA3_CLIP), ("잔잔한 피아노", LYRIA3_CLIP)]
)
def test_what_reads_the_language_is_chosen(prompt: str, chosen: ModelKind) -> None:
    order = Catalog(HOSTED.deployments, (LYRIA2, LYRIA3_CLIP))
    assert plan(order, prompt=prompt).deployment.kind == chosen


def test_a_model_that_is_broken_is_passed_over_while_another_can() -> None:
    def chosen(*broken: ModelKind, **spec: Any) -> ModelKind:
        return make_plan(
            HOSTED, MusicSpec("slow piano", **spec), Route.STANDARD, broken=broken
        ).deployment.kind

    assert chosen() == LYRIA3_CLIP
    assert chosen(LYRIA3_CLIP) == LYRIA2
    assert chosen(LYRIA2, seed=7) == LYRIA2
    assert chosen(*KINDS) == LYRIA3_CLIP


def test_a_model_is_broken_when_all_its_deployments_are() -> None:
    two = (a_deployment(LYRIA2, name="us"), a_deployment(LYRIA2, name="eu"), a_deployment(MUSICGEN))
    for broken, kind in (({"us"}, LYRIA2), ({"us", "eu"}, MUSICGEN)):
        spec = MusicSpec("slow piano")
        found = make_plan(Catalog(two, (LYRIA2, MUSICGEN)), spec, Route.STANDARD, broken=broken)
        assert found.deployment.kind == kind


def test_a_named_model_is_taken_at_its_name() -> None:
    found = make_plan(HOSTED, MusicSpec("x"), Route.STANDARD, model=LYRIA2, broken=[LYRIA2])
    assert found.deployment.kind == LYRIA2


def test_a_named_order_is_kept() -> None:
    order = Catalog(ALL, (LYRIA2, MUSICGEN))
    assert plan(order).deployment.kind == LYRIA2
    assert plan(order, model="lyria-3-clip-preview").deployment.kind == LYRIA3_CLIP


# What cannot be planned


def test_a_wish_that_the_named_model_cannot_grant_is_told_by_its_field() -> None:
    asked = {"model": LYRIA3_PRO, "seed": 1, "negative_prompt": "drums"}
    assert refused(**asked) == [
        ("seed", "unsupported_by_model"),
        ("negative_prompt", "unsupported_by_model"),
    ]


@pytest.mark.parametrize("prompt", ["Спокойное пианино", "بيانو هادئ", "静かなピアノ"])
def test_a_language_that_is_certainly_not_read_is_refused_before_it_is_paid_for(prompt: str) -> None:
    assert refused(model=LYRIA2, prompt=prompt) == [("prompt", "language_unsupported")]


@pytest.mark.parametrize("prompt", ["ein ruhiges Klavier", "90s lo-fi", "1234 !?", "calm пиано piano"])
def test_where_it_is_not_certain_the_model_is_asked(prompt: str) -> None:
    assert plan(model=LYRIA2, prompt=prompt).deployment.kind == LYRIA2


def test_a_wish_that_no_model_here_can_grant_is_refused() -> None:
    only_clip = Catalog(tuple(d for d in ALL if d.kind == LYRIA3_CLIP))
    assert refused(only_clip, seed=3) == [("seed", "unsupported_by_model")]


# Formats


def test_without_a_format_the_audio_stays_as_the_model_makes_it() -> None:
    assert format_of(LYRIA2, MusicSpec("x")) is AudioFormat.WAV
    assert format_of(LYRIA3_CLIP, MusicSpec("x")) is AudioFormat.MP3
    assert plan(audio_format=AudioFormat.OGG).audio_format is AudioFormat.OGG


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"audio_format": AudioFormat.FLAC, "bitrate_kbps": 128}, "not_for_format"),
        ({"bitrate_kbps": 128, "model": LYRIA2}, "not_for_format"),
        ({"audio_format": AudioFormat.MP3, "bitrate_kbps": 100}, "unknown_value"),
    ],
)
def test_a_bit_rate_that_the_format_has_not_is_refused(spec: dict[str, Any], code: str) -> None:
    assert refused(**spec) == [("bitrateKbps", code)]


def test_a_bit_rate_that_it_has_is_kept() -> None:
    assert plan(bitrate_kbps=320).spec.bitrate_kbps == 320
