"""Integrated loudness, against the tones of EBU Tech 3341 and somebody else's reading of EBU R128."""

import math

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audio.loudness import HOP_S, LoudnessMeter
from tests.soundness import Samples, decoded, music, tone


def measured(samples: Samples, rate_hz: int = 48_000, block_frames: int = 48_000) -> float | None:
    meter = LoudnessMeter(rate_hz, samples.shape[1])
    for at in range(0, len(samples), block_frames):
        meter.feed(samples[at : at + block_frames])
    return meter.integrated_lufs()


# EBU Tech 3341, table 1: the tones and what a meter must say of them, within 0.1 LU.
@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([(20, -23)], -23),
        ([(20, -33)], -33),
        ([(10, -36), (60, -23), (10, -36)], -23),
        ([(10, -72), (10, -36), (60, -23), (10, -36), (10, -72)], -23),
        ([(20, -26), (20.1, -20), (20, -26)], -23),
    ],
)
def test_the_tones_of_the_ebu_are_as_loud_as_they_should_be(levels, expected: float) -> None:
    samples = np.concatenate([tone(seconds, dbfs=dbfs) for seconds, dbfs in levels])
    assert measured(samples) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_music_is_as_loud_as_another_meter_says(rate_hz: int, channels: int) -> None:
    samples = decoded(music(3))[0][:, :channels]
    other = pyloudnorm.Meter(rate_hz).integrated_loudness(samples.astype(np.float64))
    assert measured(samples, rate_hz) == pytest.approx(other, abs=0.1)


@settings(max_examples=25, deadline=None)
@given(block_frames=st.integers(1_000, 200_000))
def test_it_does_not_matter_how_the_sound_is_cut_up(block_frames: int) -> None:
    samples = tone(3.3, dbfs=-18)
    assert measured(samples, block_frames=block_frames) == pytest.approx(measured(samples), abs=1e-3)


@pytest.mark.parametrize("seconds", [0.02, 0.16, 0.18, 0.5, 1.2, 1.3])
def test_a_sound_is_as_loud_when_nothing_follows_as_before_silence(seconds: float) -> None:
    alone, followed = LoudnessMeter(48_000, 2), LoudnessMeter(48_000, 2)
    sound = decoded(music(3))[0][: round(seconds * 48_000)]
    alone.feed(sound)
    followed.feed(np.concatenate([sound, np.zeros((4 * 48_000, 2), dtype=np.float32)]))
    hops = alone.levels()
    assert len(hops) == round(seconds / HOP_S)
    assert hops == pytest.approx(followed.levels()[: len(hops)], rel=1e-3, abs=1e-9)


def test_of_silence_and_of_a_moment_nothing_can_be_said() -> None:
    assert measured(np.zeros((96_000, 2), dtype=np.float32)) is None
    assert measured(tone(0.39)) is None
    assert measured(tone(0.41)) is not None
    assert LoudnessMeter(48_000, 2).integrated_lufs() is None


def test_the_peak_is_the_highest_sample_of_either_sign() -> None:
    meter = LoudnessMeter(48_000, 1)
    meter.feed(np.array([[0.1], [-0.5], [0.25]], dtype=np.float32))
    meter.feed(np.zeros((0, 1), dtype=np.float32))
    assert meter.peak_dbfs() == pytest.approx(20 * math.log10(0.5), abs=1e-4)
    assert LoudnessMeter(48_000, 1).peak_dbfs() is None
