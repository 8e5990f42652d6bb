"""Foretelling starts: beside the policy played out slowly, and what is said of seconds."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.db.lines import TAG_STEP
from gateway.tasks.forecast import Forecast, Line, QueuePlace, Run, Scene

NOW_TAG = 5 * TAG_STEP
DURATIONS_S = (4.0, 6.0)


def a_line(tenant_id: str = "a", waiting: int = 1, **changes: object) -> Line:
    return replace(Line(tenant_id, waiting, NOW_TAG, 0), **changes)


def order(scene: Scene, **options: int) -> str:
    """Whose tasks start, in their order: a letter each."""
    forecast = Forecast(scene, **options)
    places = {
        forecast.place(line.tenant_id, number).position: line.tenant_id
        for line in scene.lines
        for number in range(1, line.waiting + 1)
    }
    return "".join(places[position] for position in sorted(places))


def starts_in_s(scene: Scene, tenant_id: str = "a") -> list[float | None]:
    forecast = Forecast(scene)
    (line,) = (line for line in scene.lines if line.tenant_id == tenant_id)
    return [forecast.place(tenant_id, number).starts_in_s for number in range(1, line.waiting + 1)]


# The order


def test_lines_that_are_equal_take_turns() -> None:
    assert order(Scene((a_line("a", 3), a_line("b", 3)), seats=1)) == "ababab"


def test_a_line_has_turns_by_its_weight() -> None:
    lines = (a_line("a", 6, weight=3), a_line("b", 2))
    assert order(Scene(lines, seats=1)) == "abaaabaa"


def test_who_runs_least_for_its_weight_comes_first_whatever_the_tags() -> None:
    lines = (a_line("a", 2, next_tag=0), a_line("b", 2))
    running = (Run("a", 3.0), Run("a", 2.0), Run("c", 1.0))
    assert order(Scene(lines, running, seats=4, durations_s=DURATIONS_S)) == "baab"


def test_a_tenant_at_its_limit_is_passed_over() -> None:
    lines = (a_line("a", 2, most=1), a_line("b", 3, next_tag=NOW_TAG + 9 * TAG_STEP))
    running = (Run("a", 0.0), Run("c", 1.0), Run("d", 2.0))
    assert order(Scene(lines, running, seats=3, durations_s=DURATIONS_S)) == "bbaba"


def test_what_a_tenant_runs_in_another_queue_counts_until_it_ends() -> None:
    lines = (a_line("a", 2), a_line("b", 4, next_tag=NOW_TAG + 1))
    lasting = (replace(lines[0], elsewhere=2), lines[1])
    assert order(Scene(lasting, seats=2)) == "bbbbaa"
    ending = (Run("a", 0.0, seated=False), Run("a", 0.0, seated=False))
    assert order(Scene(lines, ending, seats=2)) == "bbabab"


def test_who_may_start_nothing_comes_after_all_others_and_nobody_knows_when() -> None:
    scene = Scene((a_line("a", 2, most=0), a_line("b", 3)), seats=1, durations_s=DURATIONS_S)
    forecast = Forecast(scene)
    assert forecast.place("a", 2) == QueuePlace(5, None)
    assert forecast.place("b", 3) == QueuePlace(3, 10.0)


def test_a_task_that_came_after_the_look_follows_at_the_distance_of_those_before_it() -> None:
    forecast = Forecast(Scene((a_line("a", 2), a_line("b", 9)), seats=1, durations_s=DURATIONS_S))
    assert [forecast.place("a", number).position for number in (1, 2, 3, 4)] == [1, 3, 5, 7]
    assert Forecast(Scene((a_line("a", 1),), seats=1)).place("a", 3).position == 3


# Seconds


def test_nothing_is_said_of_seconds_while_no_duration_or_no_seat_is_known() -> None:
    assert starts_in_s(Scene((a_line(),), seats=1)) == [None]
    assert starts_in_s(Scene((a_line(),), durations_s=DURATIONS_S)) == [None]


def test_a_free_seat_is_taken_at_once_and_the_next_after_a_usual_duration() -> None:
    scene = Scene((a_line("a", 5),), seats=2, durations_s=DURATIONS_S)
    assert starts_in_s(scene) == [0.0, 0.0, 5.0, 5.0, 10.0]


def test_what_runs_has_left_what_longer_ones_had() -> None:
    scene = Scene((a_line("a", 2),), (Run("b", 1.0),), seats=1, durations_s=DURATIONS_S)
    assert starts_in_s(scene) == [4.0, 9.0]
    assert starts_in_s(replace(scene, running=(Run("b", 5.0),))) == [1.0, 6.0]


def test_what_outlasts_all_that_is_known_is_taken_to_go_on_as_long_again() -> None:
    scene = Scene((a_line(),), (Run("b", 16.0),), seats=1, durations_s=DURATIONS_S)
    assert starts_in_s(scene) == [10.0]


def test_nothing_starts_before_the_deployments_open() -> None:
    scene = Scene((a_line("a", 2),), (Run("b", 1.0),), seats=1, durations_s=DURATIONS_S, opens_in_s=30.0)
    assert starts_in_s(scene) == [30.0, 35.0]


def test_no_more_start_in_a_minute_than_may() -> None:
    scene = Scene((a_line("a", 4),), seats=9, durations_s=DURATIONS_S, rpm=6, started=4)
    assert starts_in_s(scene) == [0.0, 0.0, 10.0, 20.0]


def test_a_tenant_at_its_limit_waits_longer_than_its_position_says() -> None:
    scene = Scene((a_line("a", 3, most=1),), seats=8, durations_s=DURATIONS_S)
    assert starts_in_s(scene) == [0.0, 5.0, 10.0]


# Beside the policy, played out


def play(scene: Scene) -> Iterator[tuple[str, float]]:
    """Each start, as the policy has it, and its second: simple, and slow."""
    lines = {line.tenant_id: line for line in scene.lines}
    waiting = {line.tenant_id: line.waiting for line in scene.lines}
    tags = {line.tenant_id: line.next_tag for line in scene.lines}
    runs = Counter({line.tenant_id: line.elsewhere for line in scene.lines})
    runs.update(run.tenant_id for run in scene.running)
    durations_s = scene.durations_s
    ends = [
        (fmean([d - run.at_it_s for d in durations_s if d > run.at_it_s]), run.tenant_id, run.seated)
        for run in scene.running
    ]
    now_s = scene.opens_in_s
    while True:
        ready = [t for t in lines if waiting[t] and (lines[t].most is None or runs[t] < lines[t].most)]
        if ready and sum(seated for _, _, seated in ends) < scene.seats:
            chosen = min(ready, key=lambda t: (runs[t] / lines[t].weight, tags[t], lines[t].since_ms, t))
            tags[chosen] += TAG_STEP // lines[chosen].weight
            waiting[chosen] -= 1
            runs[chosen] += 1
            ends.append((now_s + fmean(durations_s), chosen, True))
            yield chosen, now_s
        elif ends:
            # Of two that end at once the one that began first: the order of the list.
            end = min(ends, key=lambda end: end[0])
            ends.remove(end)
            now_s = max(now_s, end[0])
            runs[end[1]] -= 1
        else:
            return


@st.composite
def scenes(draw: st.DrawFn, *, settled: bool = False) -> Scene:
    """With ``settled``, tags are as the policy leaves them: each within a start of its own of the others."""
    weights = st.integers(1, draw(st.sampled_from([1, 3, 12])))
    tenants = [f"t{number:02}" for number in range(draw(st.integers(1, 40 if settled else 12)))]
    lines = []
    for tenant_id in tenants:
        weight = draw(weights)
        ahead = draw(st.integers(0, TAG_STEP // weight if settled else 9 * TAG_STEP))
        most = draw(st.sampled_from([None, None, 1, 2, 5] if settled else [None, None, 0, 1, 3]))
        elsewhere = 0 if settled else draw(st.integers(0, 2))
        since_ms = draw(st.integers(0, 1))
        line = Line(tenant_id, draw(st.integers(1, 60)), NOW_TAG + ahead, since_ms, weight, most, elsewhere)
        lines.append(line)
    seats = draw(st.integers(1, 40 if settled else 12))
    seated = st.just(True) if settled else st.booleans()
    runs = st.builds(Run, st.sampled_from([*tenants, "another"]), st.floats(0.0, 4.9), seated)
    running = draw(st.lists(runs, max_size=seats))
    durations_s = (*draw(st.lists(st.floats(1.0, 9.0), max_size=5)), 5.0)
    opens_in_s = 0.0 if settled else draw(st.sampled_from([0.0, 2.5, 60.0]))
    return Scene(tuple(lines), tuple(running), seats, durations_s, opens_in_s)


@given(scenes())
@settings(max_examples=200)
def test_the_next_thousand_starts_are_those_of_the_policy(scene: Scene) -> None:
    forecast, counts = Forecast(scene), Counter[str]()
    for before, (tenant_id, at_s) in enumerate(play(scene)):
        counts[tenant_id] += 1
        place = forecast.place(tenant_id, counts[tenant_id])
        assert (place.position, place.starts_in_s) == (before + 1, pytest.approx(at_s))
    for line in scene.lines:
        if counts[line.tenant_id] < line.waiting:
            assert forecast.place(line.tenant_id, line.waiting).starts_in_s is None


@given(scenes(settled=True))
@settings(max_examples=100)
def test_later_ones_are_right_within_an_eighth_and_a_round(scene: Scene) -> None:
    """A round is a start of every line on every seat: what weights and seats, being whole, may shift."""
    a_round = len(scene.lines) + scene.seats
    forecast, counts = Forecast(scene, exact=2 * a_round), Counter[str]()
    for before, (tenant_id, _) in enumerate(play(scene)):
        counts[tenant_id] += 1
        place = forecast.place(tenant_id, counts[tenant_id])
        assert abs(place.position - (before + 1)) <= a_round + before / 8


@given(scenes(), st.data())
def test_a_place_is_the_same_whoever_asked_before(scene: Scene, data: st.DataObject) -> None:
    asked = [(line.tenant_id, number) for line in scene.lines for number in (1, line.waiting)]
    first, second = Forecast(scene, exact=50), Forecast(scene, exact=50)
    told = {each: first.place(*each) for each in asked}
    for each in data.draw(st.permutations(asked)):
        assert second.place(*each) == told[each]


def test_a_line_that_is_alone_is_counted_exactly_however_long_it_is() -> None:
    forecast = Forecast(Scene((a_line("a", 5000),), seats=4, durations_s=DURATIONS_S))
    for number in (1000, 1001, 4999, 5000, 6000):
        place = forecast.place("a", number)
        assert place.position == number
        assert place.starts_in_s == pytest.approx((number - 1) / 4 * 5.0, abs=5.0)


def test_a_place_far_behind_a_thousand_lines_is_found_without_playing_all_before_it() -> None:
    lines = tuple(a_line(f"t{i:03}", 100, weight=1 + i % 3, next_tag=NOW_TAG + i) for i in range(1000))
    scene = Scene(lines, seats=8, durations_s=DURATIONS_S)
    forecast = Forecast(scene)
    place = forecast.place("t999", 100)
    assert 95_000 < place.position <= 100_000
    assert place.starts_in_s == pytest.approx(place.position / 8 * 5.0, rel=0.01)
