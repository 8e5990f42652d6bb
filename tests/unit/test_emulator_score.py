"""What is written down before it sounds: harmony, form, tune and accompaniment."""

from itertools import pairwise

import numpy as np
import pytest

from gateway.emulator.music.composer import write_score
from gateway.emulator.music.form import Bar, Section, shape
from gateway.emulator.music.grooves import bar_of_drums
from gateway.emulator.music.plan import Plan, make_plan
from gateway.emulator.music.theory import Key, chord_on, lead_voices
from gateway.emulator.music.voices import VOICES

PROMPTS = (
    "deep house",
    "a viennese waltz",
    "jazz with saxophone",
    "metal",
    "solo piano in A minor",
    "ambient",
    "pop",
)


def planned(prompt: str) -> Plan:
    return make_plan(prompt, "", np.random.default_rng(3))


def bars_of(prompt: str, count: int) -> list[Bar]:
    return shape(planned(prompt), count, np.random.default_rng(3))


def test_a_scale_goes_up_through_its_octaves():
    key = Key(0, "major")
    assert [key.pitch(step) for step in range(8)] == [60, 62, 64, 65, 67, 69, 71, 72]
    assert key.pitch(-1) == 59
    assert key.nearest_step(64.2) == 2


def test_chords_are_thirds_on_a_step_of_the_scale():
    assert chord_on(Key(0, "major"), 0, 3).classes == (0, 4, 7)
    assert chord_on(Key(9, "minor"), 0, 4).classes == (9, 0, 4, 7)


def test_the_dominant_in_minor_has_its_leading_note():
    assert 8 in chord_on(Key(9, "minor"), 4, 3).classes


def test_voices_move_little_and_say_the_whole_chord():
    key = Key(2, "major")
    chords = [chord_on(key, root, 4) for root in (0, 5, 3, 4, 1, 0)]
    voicings = lead_voices(chords, centre=60)
    for chord, pitches in zip(chords, voicings, strict=True):
        assert {pitch % 12 for pitch in pitches} == set(chord.classes)
        assert list(pitches) == sorted(pitches)
    moves = [abs(a - b) for one, two in pairwise(voicings) for a, b in zip(one, two, strict=True)]
    assert sum(moves) / len(moves) < 3


def sections_of(count: int) -> str:
    return " ".join(f"{bar.section.value}{bar.in_phrase}" for bar in bars_of("pop", count))


def test_sixteen_bars_are_a_a_b_a():
    firsts = [bar.section.value for bar in bars_of("pop", 16) if bar.first]
    assert firsts == ["A", "A", "B", "A", "end"]


def test_what_four_does_not_divide_is_an_introduction():
    assert sections_of(6) == "intro0 intro1 A0 A1 A2 A3 end0"


def test_no_bars_are_one_last_chord():
    assert sections_of(0) == "end0"


@pytest.mark.parametrize("count", range(60))
def test_every_bar_is_there_once_and_in_order(count):
    bars = bars_of("folk", count)
    assert [bar.index for bar in bars] == list(range(count + 1))
    assert bars[-1].section is Section.END
    assert all(0 <= bar.energy <= 1 for bar in bars)


def test_the_bridge_is_fuller_than_the_verse_and_the_introduction_thinner():
    bars = bars_of("pop", 18)
    energy = {bar.section: bar.energy for bar in reversed(bars)}
    assert energy[Section.INTRO] < energy[Section.VERSE] < energy[Section.BRIDGE]


def test_a_piece_ends_at_home():
    assert bars_of("rock", 11)[-1].chord.root == 0


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_score_stays_within_its_bars_and_playable_pitches(prompt):
    plan = planned(prompt)
    seconds = 32.8
    score = write_score(plan, seconds, np.random.default_rng(1))
    assert set(score.parts) == set(plan.parts)
    end = seconds / 60 * plan.bpm
    for notes in score.parts.values():
        assert notes
        assert all(0 <= note.at < end and note.length > 0 and 0 < note.force <= 1.2 for note in notes)
        assert all(24 <= note.pitch <= 108 for note in notes)
    assert all(0 <= beat.at < end for beat in score.drums)
    assert bool(score.drums) is (plan.groove is not None)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_tune_keeps_to_its_range_and_mostly_to_its_key(prompt):
    plan = planned(prompt)
    tune = write_score(plan, 32.8, np.random.default_rng(1)).parts["lead"]
    centre = VOICES[plan.parts["lead"]].centre
    assert all(abs(note.pitch - centre) <= 16 for note in tune)
    scale = {plan.key.pitch(step) % 12 for step in range(7)}
    assert sum(note.pitch % 12 in scale for note in tune) / len(tune) > 0.85


def test_the_tune_comes_back():
    """Bars one and three of a phrase share their rhythm, and so do the first phrase and the last."""
    plan = planned("pop, 120 bpm")
    tune = write_score(plan, 16 * 2 + 1.9, np.random.default_rng(5)).parts["lead"]

    def rhythm(bar: int) -> set[float]:
        return {note.at - bar * 4 for note in tune if bar * 4 <= note.at < bar * 4 + 4}

    assert rhythm(0) == rhythm(2) == rhythm(12) != set()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_tune_ends_on_the_tonic(prompt):
    plan = planned(prompt)
    tune = write_score(plan, 32.8, np.random.default_rng(1)).parts["lead"]
    assert tune[-1].pitch % 12 == plan.key.tonic


def test_the_bass_plays_the_root_on_the_first_beat():
    plan = planned("rock")
    chance = np.random.default_rng(2)
    score = write_score(plan, 30.0, chance)
    bars = shape(plan, int((30.0 - 1.8) / (240 / plan.bpm)), np.random.default_rng(2))
    roots = {bar.index * 4: plan.key.pitch(bar.chord.root) % 12 for bar in bars}
    downbeats = [note for note in score.parts["bass"] if note.at in roots]
    assert downbeats
    assert all(note.pitch % 12 == roots[note.at] for note in downbeats)


def test_drums_are_light_when_quiet_and_full_when_loud():
    def struck(loudness):
        hits = bar_of_drums(
            "rock", beats=4, loudness=loudness, fill=False, crash=False, chance=np.random.default_rng(1)
        )
        return {hit.drum for hit in hits}

    assert "snare" not in struck(0.3)
    assert "snare" in struck(0.8)


def test_a_fill_ends_the_bar_and_a_cymbal_starts_it():
    hits = bar_of_drums("rock", beats=4, loudness=0.9, fill=True, crash=True, chance=np.random.default_rng(1))
    plain = bar_of_drums(
        "rock", beats=4, loudness=0.9, fill=False, crash=False, chance=np.random.default_rng(1)
    )
    assert {(hit.drum, hit.step) for hit in hits if hit.step >= 12} != {
        (hit.drum, hit.step) for hit in plain if hit.step >= 12
    }
    assert ("crash", 0) in {(hit.drum, hit.step) for hit in hits}


def test_patterns_fit_a_bar_of_three():
    hits = bar_of_drums(
        "house", beats=3, loudness=0.9, fill=True, crash=False, chance=np.random.default_rng(1)
    )
    assert max(hit.step for hit in hits) < 12
