"""The audio itself, measured: length, level, silence, colour, tempo, and that it repeats."""

import io
import wave
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gateway.emulator.music.composer import Order, compose, plan_for
from gateway.emulator.music.drumkit import KITS, strike
from gateway.emulator.music.mixing import driven, place, pumped, with_echo
from gateway.emulator.music.synth import good_length, hz_of, noise, ring, spectrum, swell
from gateway.emulator.music.voices import VOICES, play
from gateway.emulator.music.wav import wav_bytes

RATE_HZ = 24_000
PROMPTS = (
    "calm ambient pads for meditation",
    "lo-fi hip hop with rhodes",
    "deep house, 124 bpm",
    "a viennese waltz with violin",
    "epic orchestral trailer with choir and taiko",
    "heavy metal, 160 bpm",
    "solo piano, sad",
    "chiptune",
)


def order(
    prompt="folk song", *, negative_prompt="", seed=1, seconds=12.0, rate_hz=RATE_HZ, channels=2
) -> Order:
    return Order(prompt, negative_prompt, seed, round(seconds * rate_hz), rate_hz, channels)


def samples(clip: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(clip)) as file:
        assert file.getsampwidth() == 2
        raw = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return raw.reshape(-1, file.getnchannels()).T / 32768


def decibels(value: float) -> float:
    return 20 * float(np.log10(value))


def centroid_hz(sound: np.ndarray) -> float:
    size = np.abs(np.fft.rfft(sound.mean(axis=0)))
    return float((size * np.fft.rfftfreq(sound.shape[1], 1 / RATE_HZ)).sum() / size.sum())


def measured_bpm(sound: np.ndarray, near_bpm: float) -> float:
    """The tempo by the autocorrelation of onsets, within eight per cent of ``near_bpm``."""
    hop = 120
    frames = sound.shape[1] // hop
    blocks = sound.mean(axis=0)[: frames * hop].reshape(frames, hop)
    bins = np.abs(np.fft.rfft(blocks * np.hanning(hop), axis=1))
    onsets = np.maximum(np.diff(np.log1p(50 * bins), axis=0), 0).sum(axis=1)
    onsets = onsets - onsets.mean()
    beat = 60 / near_bpm * RATE_HZ / hop
    lags = np.arange(int(beat * 4 / 1.08), int(beat * 4 * 1.08))  # whole bars of four: fine steps
    strength = [float(np.dot(onsets[:-lag], onsets[lag:])) for lag in lags]
    return 60 * 4 / (lags[int(np.argmax(strength))] * hop / RATE_HZ)


@pytest.mark.parametrize("frames", [1, 2, 77, 4801, 24_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_clip_has_exactly_the_frames_that_were_asked_for(frames, channels):
    with wave.open(
        io.BytesIO(compose(Order("techno, vinyl lofi", "", 1, frames, RATE_HZ, channels)))
    ) as file:
        assert (file.getnframes(), file.getnchannels(), file.getframerate()) == (frames, channels, RATE_HZ)


def test_the_same_order_gives_the_same_bytes():
    assert compose(order()) == compose(order())


def test_threads_do_not_change_a_clip():
    with ThreadPoolExecutor(2) as pool:
        clips = list(pool.map(compose, [order("trance with choir", seconds=6)] * 4))
    assert len(set(clips)) == 1


@pytest.mark.parametrize("other", [order(seed=2), order("folk songs"), order(negative_prompt="violin")])
def test_another_seed_prompt_or_negative_prompt_gives_other_bytes(other):
    assert compose(order()) != compose(other)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_level_peak_and_silence_are_those_of_music(prompt):
    sound = samples(compose(order(prompt, seconds=14)))
    assert -24 < decibels(np.sqrt(np.mean(sound**2))) < -12
    assert decibels(np.abs(sound).max()) <= -0.99
    assert abs(sound.mean()) < 1e-3
    tenth = RATE_HZ // 10
    blocks = sound.mean(axis=0)[: sound.shape[1] // tenth * tenth].reshape(-1, tenth)
    quiet = "".join("." if level < 1e-3 else "#" for level in np.sqrt((blocks**2).mean(axis=1)))
    assert "." * 10 not in quiet


def test_a_clip_fades_out():
    sound = samples(compose(order("rock", seconds=14)))
    end = np.sqrt(np.mean(sound[:, -RATE_HZ // 20 :] ** 2))
    assert end < 0.1 * np.sqrt(np.mean(sound**2))


def test_prompts_differ_in_colour():
    dark = centroid_hz(samples(compose(order("dark ambient drone"))))
    bright = centroid_hz(samples(compose(order("bright chiptune"))))
    assert bright > 1.5 * dark


def test_stereo_is_wide_but_holds_together():
    left, right = samples(compose(order("synthwave")))
    assert 0.2 < np.corrcoef(left, right)[0, 1] < 0.99


@pytest.mark.parametrize("prompt", ["techno 131 bpm", "house 122 bpm", "rock 116 bpm", "chiptune 140 bpm"])
def test_the_tempo_that_is_heard_is_the_one_that_was_chosen(prompt):
    asked = order(prompt, seconds=24, channels=1)
    bpm = plan_for(asked).bpm
    assert measured_bpm(samples(compose(asked)), bpm) == pytest.approx(bpm, rel=0.01)


@pytest.mark.parametrize("name", VOICES)
def test_every_instrument_sounds_at_its_pitch(name):
    voice = VOICES[name]
    sound = play(
        voice, voice.centre, 1.0, hard=False, rate_hz=RATE_HZ, channels=2, chance=np.random.default_rng(1)
    )
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() < 1.0
    assert np.abs(sound[:, -1]).max() < 1e-3
    bins = np.abs(np.fft.rfft(sound[0], RATE_HZ * 4))
    hz = hz_of(voice.centre)
    near = bins[round(hz * 4 * 0.985) : round(hz * 4 * 1.015) + 1].max()
    assert near > 0.1 * bins.max()


@pytest.mark.parametrize("kit", KITS)
def test_every_drum_sounds_and_ends(kit):
    for drum in KITS[kit].values():
        sound = strike(drum, RATE_HZ, np.random.default_rng(1))
        assert 0.05 < np.abs(sound).max() <= 0.51
        assert abs(sound[-1]) < 1e-3


def test_a_ringing_partial_is_a_decaying_sine():
    tone = spectrum(np.array([440.0]), np.array([1.0]), np.array([3.0]))
    sound = ring(tone, np.array([[-np.pi / 2]]), 5000, RATE_HZ)[0]
    time = np.arange(5000) / RATE_HZ
    assert np.allclose(sound, np.sin(2 * np.pi * 440 * time) * np.exp(-3 * time), atol=1e-4)


def test_a_rising_partial_comes_in_late():
    tone = spectrum(np.array([440.0]), np.array([1.0]), 0.0, 0.05)
    sound = np.abs(ring(tone, np.array([[0.0]]), 9600, RATE_HZ)[0])
    assert sound[:100].max() < 0.2
    assert sound[-200:].max() > 0.9


def test_partials_beyond_hearing_are_left_out():
    tones = spectrum(np.array([440.0, 11_900.0, 880.0]), np.array([1.0, 1.0, 1e-9]))
    assert list(tones.audible(RATE_HZ).hz) == [440.0]


def test_noise_keeps_to_its_band():
    sound = noise(RATE_HZ, 2000, 4000, RATE_HZ, np.random.default_rng(1))
    power = np.abs(np.fft.rfft(sound)) ** 2
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    assert power[(hz > 1500) & (hz < 5000)].sum() > 0.85 * power.sum()


def test_an_envelope_starts_and_ends_in_silence():
    curve = swell(2400, 0.02, 0.05, 0.05, RATE_HZ)
    assert curve[0] == 0
    assert curve[-1] == 0
    assert curve.max() == pytest.approx(1.0, abs=0.01)


def test_panning_keeps_power_and_what_is_late_is_cut():
    buffer = np.zeros((2, 100), np.float32)
    place(buffer, np.ones((1, 50), np.float32), 80, 1.0, -1.0)
    assert buffer[0, 80:] == pytest.approx(2**0.5)
    assert buffer[1] == pytest.approx(0)
    place(buffer, np.ones((1, 50), np.float32), 100, 1.0, 0.0)


def test_echoes_change_sides_and_grow_softer():
    part = np.zeros((2, 40), np.float32)
    part[0, 0] = 1
    echoed = with_echo(part, 10, 0.5)
    assert echoed[1, 10] == 0.5
    assert echoed[0, 20] == 0.25
    assert np.array_equal(with_echo(part, 50, 0.5), part)


def test_pumping_ducks_at_the_kick_and_recovers():
    ducked = pumped(np.ones((1, RATE_HZ), np.float32), [0], RATE_HZ, 0.6)[0]
    assert ducked[0] == pytest.approx(0.4)
    assert ducked[-1] == 1


def test_overdrive_of_silence_is_silence():
    assert not driven(np.zeros((1, 1000), np.float32), 2.0, RATE_HZ).any()


@pytest.mark.parametrize("frames", [1, 2, 97, 4801, 99_991])
def test_good_lengths_are_long_enough_and_have_small_factors(frames):
    length = good_length(frames)
    assert frames <= length <= 2 * frames
    for factor in (2, 3, 5):
        while length % factor == 0:
            length //= factor
    assert length == 1


def test_what_is_too_loud_for_a_file_is_clipped():
    assert samples(wav_bytes(np.array([[2.0, -2.0]]), RATE_HZ)).tolist() == [[32767 / 32768, -32767 / 32768]]
