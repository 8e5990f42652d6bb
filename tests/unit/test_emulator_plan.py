"""Words become a plan: style, tempo, key, and who plays."""

import numpy as np
import pytest

from gateway.emulator.music import grooves, plan, vocabulary
from gateway.emulator.music.accompaniment import BASS_LINES, COMPINGS
from gateway.emulator.music.drumkit import KITS
from gateway.emulator.music.plan import Plan, make_plan, split_wishes
from gateway.emulator.music.styles_acoustic import ACOUSTIC
from gateway.emulator.music.styles_electronic import ELECTRONIC
from gateway.emulator.music.theory import BRIDGES, MODES, VERSES
from gateway.emulator.music.voices import VOICES

STYLES = (*ELECTRONIC, *ACOUSTIC)


def planned(prompt: str, negative_prompt: str = "", seed: int = 1) -> Plan:
    return make_plan(prompt, negative_prompt, np.random.default_rng(seed))


def voices(prompt: str, negative_prompt: str = "", seed: int = 1) -> set[str]:
    return set(planned(prompt, negative_prompt, seed).parts.values())


@pytest.mark.parametrize(
    ("prompt", "style"),
    [
        ("Deep house for a late night club", "house"),
        ("lo-fi beats to study to", "lo-fi"),
        ("a Viennese waltz", "waltz"),
        ("smoky jazz in a small bar", "jazz"),
        ("epic film score for a battle", "cinematic"),
        ("liquid drum and bass", "drum and bass"),
        ("thrash metal", "metal"),
        ("8-bit adventure", "chiptune"),
        ("music box lullaby", "lullaby"),
        ("electric guitar riffs", "rock"),
        ("violin and cello", "cinematic"),
    ],
)
def test_words_choose_the_style(prompt, style):
    assert planned(prompt).style.name == style


def test_a_prompt_that_names_nothing_still_gets_a_style_by_its_seed():
    assert len({planned("something nice", seed=seed).style.name for seed in range(30)}) > 2


def test_the_same_words_and_chance_give_the_same_plan():
    assert planned("warm jazz") == planned("warm jazz")


@pytest.mark.parametrize(
    ("prompt", "bpm"), [("techno, 133 BPM", 133), ("bpm: 72 jazz", 72), ("90-bpm song", 90)]
)
def test_a_tempo_in_numbers_is_taken(prompt, bpm):
    assert planned(prompt).bpm == bpm


@pytest.mark.parametrize(("prompt", "bpm"), [("999 bpm noise", 200), ("10 bpm drone", 40)])
def test_an_impossible_tempo_is_brought_into_range(prompt, bpm):
    assert planned(prompt).bpm == bpm


def test_tempo_words_move_the_tempo():
    plain = planned("folk song").bpm
    assert planned("very slow folk song").bpm < plain < planned("very fast folk song").bpm
    assert planned("allegro for strings").bpm == 132


def test_what_should_not_be_fast_is_slower():
    assert planned("folk song", "fast").bpm < planned("folk song").bpm


@pytest.mark.parametrize(
    ("prompt", "tonic", "mode"),
    [
        ("a song in C minor", 0, "minor"),
        ("piece in F# major", 6, "major"),
        ("something in Bb dorian", 10, "dorian"),
        ("E-flat major sonata", 3, "major"),
        ("g sharp phrygian", 8, "phrygian"),
    ],
)
def test_a_key_by_name_is_taken(prompt, tonic, mode):
    key = planned(prompt).key
    assert (key.tonic, key.mode) == (tonic, mode)


@pytest.mark.parametrize(
    ("prompt", "modes"),
    [
        ("a sad song", {"minor"}),
        ("happy tune", {"major"}),
        ("dreamy", {"lydian", "major"}),
        ("flamenco", {"phrygian"}),
    ],
)
def test_moods_choose_the_mode(prompt, modes):
    assert {planned(prompt, seed=seed).key.mode for seed in range(8)} <= modes


def test_unwanted_moods_turn_the_mode():
    assert planned("sad piano", "sad, dark").key.mode == "major"
    assert planned("happy ukulele", "happy").key.mode == "minor"


def test_named_instruments_play():
    assert {"piano", "cello"} <= voices("piano and cello duet")
    assert {"saxophone", "upright_bass"} <= voices("jazz with saxophone and double bass")
    assert "electric_piano" in voices("a mellow Rhodes, electric piano")


def test_a_longer_name_hides_the_shorter_one_inside_it():
    parts = voices("classical guitar serenade")
    assert "nylon_guitar" in parts
    assert "steel_guitar" not in parts


def test_a_plural_names_the_instrument_too():
    assert "violin" in voices("two violins")


@pytest.mark.parametrize("seed", range(6))
def test_unwanted_instruments_do_not_play(seed):
    assert not voices("folk song", "guitar", seed) & set(vocabulary.FAMILIES["guitar"])
    assert not voices("epic orchestral", "strings, choir", seed) & {
        "strings",
        "violin",
        "choir",
        "contrabass",
    }
    assert not voices("solo piano", "piano", seed) & set(vocabulary.FAMILIES["piano"])


@pytest.mark.parametrize("prompt", ["house without drums", "rock with no drums"])
def test_wishes_may_be_negative_within_the_prompt(prompt):
    assert planned(prompt).groove is None


def test_a_prompt_is_split_into_what_is_wanted_and_what_is_not():
    wanted, unwanted = split_wishes("Jazz, no drums, without piano please")
    assert "drums" not in wanted
    assert "drums" in unwanted
    assert "piano" in unwanted


def test_negative_words_leave_out_drums_bass_and_tune():
    quiet = planned("rock", "drums, bass, melody")
    assert quiet.groove is None
    assert not {"bass", "lead"} & set(quiet.parts)
    assert quiet.parts


def test_a_solo_is_one_instrument_without_drums():
    alone = planned("a flute solo")
    assert set(alone.parts.values()) == {"flute"}
    assert alone.groove is None
    assert planned("solo guitar").parts.keys() == {"lead", "comp"}


def test_a_guitar_solo_does_not_send_the_band_home():
    band = planned("rock with a guitar solo")
    assert band.parts["lead"] == "lead_guitar"
    assert band.groove == "rock"


def test_percussion_by_name_joins_a_style_without_drums():
    assert planned("ambient with taiko").groove == "cinematic"
    assert planned("ambient").groove is None


def test_three_four_makes_any_style_a_waltz():
    jazz = planned("jazz in 3/4")
    assert (jazz.style.name, jazz.beats, jazz.comping, jazz.bass_line) == ("jazz", 3, "waltz", "waltz")


def test_loudness_density_and_room_follow_the_words():
    assert planned("calm folk").loudness < planned("folk").loudness < planned("powerful folk").loudness
    assert planned("sparse folk").density < planned("folk").density < planned("busy folk").density
    assert (
        planned("dry folk").reverb_level
        < planned("folk").reverb_level
        < planned("folk in a cathedral").reverb_level
    )
    assert planned("folk in a cathedral", "reverb").reverb_level < planned("folk").reverb_level


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_every_style_names_things_that_exist(style):
    for role in plan.ROLES:
        assert set(getattr(style, role)) <= set(VOICES)
    assert set(style.comping) <= set(COMPINGS)
    assert set(style.bass_line) <= set(BASS_LINES)
    assert set(style.groove) <= set(grooves.GROOVES)
    assert style.kit in KITS
    assert set(style.modes) <= set(MODES)
    assert style.bpm[0] <= style.bpm[1]


def test_every_word_names_things_that_exist():
    assert {voice for voice, _ in vocabulary.INSTRUMENTS.values()} <= set(VOICES)
    assert {role for _, roles in vocabulary.INSTRUMENTS.values() for role in roles} <= set(plan.ROLES)
    assert {voice for family in vocabulary.FAMILIES.values() for voice in family} <= set(VOICES)
    assert {groove for groove, _ in vocabulary.PERCUSSION.values()} <= set(grooves.GROOVES)
    assert {kit for _, kit in vocabulary.PERCUSSION.values()} <= set(KITS)
    assert (
        {mode for _, modes in vocabulary.MOOD_MODES for mode in modes}
        <= set(MODES)
        == set(VERSES)
        == set(BRIDGES)
    )
    assert {voice for voices in plan._SUBSTITUTES.values() for voice in voices} <= set(VOICES)


def test_every_drum_in_every_groove_is_in_every_kit():
    struck = {drum for forms in grooves.GROOVES.values() for form in forms for drum in form}
    struck |= {drum for fill in grooves._FILLS for drum in fill}
    assert all(struck <= set(kit) for kit in KITS.values())
