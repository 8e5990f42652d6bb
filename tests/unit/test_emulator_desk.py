"""Settings that may change while the emulator runs, and its rule of recitation."""

import pytest

from gateway.emulator.desk import Desk, SettingRefused, Settings, changed_settings


def test_a_clip_of_lyria_lasts_as_long_as_googles():
    assert Settings().lyria_seconds == 32.8


def test_settings_change_one_by_one():
    changed = changed_settings(Settings(latency_s=2.0), {"lyria_seconds": 1})
    assert changed == Settings(latency_s=2.0, lyria_seconds=1)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"colour": "red"},
        {"latency_s": -1},
        {"latency_s": "1"},
        {"latency_s": True},
        {"lyria_seconds": 0},
        {"lyria_seconds": 301},
        {"default_seed": -1},
        {"default_seed": 1.5},
        {"default_seed": True},
    ],
)
def test_settings_that_make_no_sense_are_refused(document):
    with pytest.raises(SettingRefused):
        changed_settings(Settings(), document)


def test_a_well_known_phrase_is_recited_once_and_then_passes():
    desk = Desk(Settings())
    prompt = "Epic, in the style of Hans Zimmer"
    assert [desk.recites(prompt, None) for _ in range(3)] == [True, False, False]
    assert desk.recites(prompt + "!", None)


def test_a_seed_avoids_recitation():
    desk = Desk(Settings())
    assert not desk.recites("single piano note C major", 5)
    assert desk.recites("single piano note C major", None)


def test_other_prompts_are_never_recited():
    assert not Desk(Settings()).recites("a song of my own", None)


def test_forgetting_calls_forgets_what_was_recited():
    desk = Desk(Settings())
    desk.recites("single piano note C major", None)
    desk.forget_calls()
    assert desk.recites("single piano note C major", None)
