"""From takes to the file that was asked for: every format, length and loudness, decoded by somebody else."""

import math
from contextlib import ExitStack

import numpy as np
import pyloudnorm
import pytest

from gateway.audio.formats import BITRATES_KBPS, DEFAULT_BITRATE_KBPS
from gateway.audio.lengths import SLACK_S, enough, takes_for
from gateway.audio.produce import Product, Recipe, TooShort, produce
from gateway.audio.sound import Undecodable
from gateway.model import AudioFormat
from tests.soundness import Samples, a_file, content_of, decoded, encoded, flux, loudness_between, music, tone

MUSIC = music(1)
PIECE = decoded(MUSIC)[0]


def made(*takes: bytes, **recipe) -> tuple[Product, bytes]:
    """The product, and the file."""
    with ExitStack() as stack:
        fds = [stack.enter_context(a_file(take)) for take in takes]
        out = stack.enter_context(a_file())
        product = produce(fds, Recipe(recipe.pop("audio_format", None), **recipe), out)
        return product, content_of(fds[0] if product.untouched else out)


def steps(product: Product) -> list[str]:
    return [step.kind for step in product.steps]


# What need not be touched


@pytest.mark.parametrize("recipe", [{}, {"duration_s": 12}, {"audio_format": AudioFormat.WAV}])
def test_what_is_as_it_was_asked_for_stays_to_the_byte(recipe) -> None:
    product, content = made(MUSIC, **recipe)
    assert (product.untouched, content, product.steps) == (True, MUSIC, ())
    assert (product.facts.frames, product.facts.mime_type) == (12 * 48_000, "audio/wav")


def test_an_mp3_keeps_its_tag_when_nothing_has_to_change() -> None:
    song = b"ID3\x04\x00\x00\x00\x00\x17\x76" + bytes(3062) + encoded(tone(1.0, 44_100), 44_100, "MP3")
    product, content = made(song, audio_format=AudioFormat.MP3, duration_s=1)
    assert (product.untouched, content) == (True, song)


def test_it_is_measured_all_the_same() -> None:
    product, _ = made(MUSIC)
    other = pyloudnorm.Meter(48_000).integrated_loudness(PIECE.astype(np.float64))
    assert product.loudness_lufs == pytest.approx(other, abs=0.1)
    assert product.peak_dbfs == pytest.approx(20 * math.log10(np.abs(PIECE).max()), abs=0.01)
    assert len(product.waveform) == 256
    assert max(product.waveform) == round(np.abs(PIECE).max() * 255)


# Length


@pytest.mark.parametrize("audio_format", AudioFormat)
@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000])
def test_every_format_is_exactly_as_long_as_asked(audio_format: AudioFormat, rate_hz: int) -> None:
    product, content = made(encoded(tone(2.4, rate_hz), rate_hz), audio_format=audio_format, duration_s=2)
    samples, found_hz = decoded(content)
    assert (
        found_hz == product.facts.sample_rate_hz == (48_000 if audio_format is AudioFormat.OPUS else rate_hz)
    )
    assert len(samples) == product.facts.frames == 2 * found_hz
    assert samples.shape[1] == product.facts.channels == 2


def test_what_is_cut_fades_out_and_is_otherwise_the_same() -> None:
    product, content = made(MUSIC, duration_s=10)
    samples, _ = decoded(content)
    fade = 2_400
    assert np.array_equal(samples[:-fade], PIECE[: 10 * 48_000 - fade])
    assert np.abs(samples[-1]).max() == 0
    assert steps(product) == ["trim", "encode"]


@pytest.mark.parametrize("missing_s", [0.001, 0.3, SLACK_S])
def test_what_is_a_little_short_fades_into_silence(missing_s: float) -> None:
    short = PIECE[: round((4 - missing_s) * 48_000)]
    product, content = made(encoded(short), duration_s=4)
    samples, _ = decoded(content)
    assert len(samples) == 4 * 48_000
    assert np.abs(samples[len(short) - 1 :]).max() == 0
    assert np.array_equal(samples[: len(short) - 2_400], decoded(encoded(short))[0][: len(short) - 2_400])
    assert steps(product) == ["pad", "encode"]


def test_what_is_shorter_than_silence_may_make_up_for_is_told() -> None:
    with pytest.raises(TooShort) as caught:
        made(encoded(PIECE[: 3 * 48_000]), duration_s=4)
    assert caught.value.seconds == pytest.approx(3.0)


def test_silence_has_no_loudness_and_no_peak() -> None:
    product, _ = made(encoded(np.zeros((48_000, 1), dtype=np.float32)), audio_format=AudioFormat.FLAC)
    assert (product.loudness_lufs, product.peak_dbfs) == (None, None)
    assert set(product.waveform) == {0}


@pytest.mark.parametrize("frames", [1, 10, 5_000])
def test_very_short_sounds_are_sounds(frames: int) -> None:
    product, content = made(encoded(PIECE[:frames]), audio_format=AudioFormat.FLAC)
    assert len(decoded(content)[0]) == product.facts.frames == frames
    assert 1 <= len(product.waveform) <= 256


# Formats


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_lossless_formats_lose_nothing(subtype: str) -> None:
    source = encoded(PIECE, subtype=subtype)
    _, content = made(source, audio_format=AudioFormat.FLAC)
    difference = np.abs(decoded(content)[0] - decoded(source)[0]).max()
    assert difference <= (0 if subtype == "PCM_16" else 2**-23)


@pytest.mark.parametrize("kbps", BITRATES_KBPS[AudioFormat.MP3])
def test_an_mp3_has_the_rate_that_was_asked_for(kbps: int) -> None:
    _, content = made(MUSIC, audio_format=AudioFormat.MP3, bitrate_kbps=kbps)
    assert len(content) * 8 / 12_000 == pytest.approx(kbps, rel=0.02)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kbps", [32, 64, 128, 256])
def test_opus_is_near_the_rate_that_was_asked_for(kbps: int, channels: int) -> None:
    source = encoded(PIECE[:, :channels])
    _, content = made(source, audio_format=AudioFormat.OPUS, bitrate_kbps=kbps)
    assert len(content) * 8 / 12_000 == pytest.approx(kbps, rel=0.5)


def test_higher_rates_make_larger_files() -> None:
    for audio_format in (AudioFormat.OGG, AudioFormat.OPUS):
        rates = BITRATES_KBPS[audio_format]
        sizes = [len(made(MUSIC, audio_format=audio_format, bitrate_kbps=kbps)[1]) for kbps in rates[::3]]
        assert sizes == sorted(set(sizes))


def test_every_format_that_has_rates_has_a_usual_one() -> None:
    assert BITRATES_KBPS.keys() == DEFAULT_BITRATE_KBPS.keys()
    assert all(DEFAULT_BITRATE_KBPS[each] in rates for each, rates in BITRATES_KBPS.items())


def test_a_rate_alone_makes_an_mp3_anew() -> None:
    song = encoded(tone(4.0, 44_100), 44_100, "MP3")
    product, content = made(song, bitrate_kbps=128)
    assert (product.facts.format, steps(product)) == (AudioFormat.MP3, ["encode"])
    assert len(content) * 8 / 4_000 == pytest.approx(128, rel=0.05)


def test_resampling_keeps_the_sound() -> None:
    source = tone(1.0, 32_000, 1, hz=440, dbfs=-12)
    product, content = made(encoded(source, 32_000), audio_format=AudioFormat.OPUS, bitrate_kbps=128)
    samples, rate_hz = decoded(content)
    spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples))))
    assert np.argmax(spectrum) * rate_hz / len(samples) == pytest.approx(440, abs=1.5)
    assert steps(product) == ["resample", "encode"]


# Loudness


@pytest.mark.parametrize("target", [-30.0, -23.0, -18.0])
def test_it_is_made_as_loud_as_asked(target: float) -> None:
    product, content = made(MUSIC, loudness_lufs=target)
    assert loudness_between(*decoded(content), 0, 12) == pytest.approx(target, abs=0.2)
    assert product.loudness_lufs == pytest.approx(target, abs=0.05)


def test_it_is_not_made_so_loud_that_it_would_be_cut_off() -> None:
    product, content = made(MUSIC, loudness_lufs=-6.0)
    assert np.abs(decoded(content)[0]).max() == pytest.approx(10 ** (-1 / 20), abs=0.001)
    (normalise,) = [step.render() for step in product.steps if step.kind == "normalise"]
    assert normalise["to_lufs"] == pytest.approx(product.loudness_lufs, abs=0.05)
    assert normalise["to_lufs"] < -6.0


def test_silence_is_not_made_louder() -> None:
    product, _ = made(encoded(np.zeros((48_000, 2), dtype=np.float32)), loudness_lufs=-14.0)
    assert steps(product) == ["normalise", "encode"]
    assert product.peak_dbfs is None


# Joins


TAKES = [music(seed, 10.0) for seed in range(3)]


@pytest.mark.parametrize(("count", "duration_s"), [(2, 11), (2, 15), (2, 19), (3, 22), (3, 28)])
def test_takes_are_joined_to_exactly_the_length(count: int, duration_s: int) -> None:
    product, content = made(*TAKES[:count], duration_s=duration_s)
    samples, rate_hz = decoded(content)
    assert len(samples) == product.facts.frames == duration_s * rate_hz
    (join,) = [step.render() for step in product.steps if step.kind == "join"]
    assert (join["takes"], len(join["at_s"]), len(join["overlap_s"])) == (count, count - 1, count - 1)
    assert all(overlap >= 0.5 for overlap in join["overlap_s"])


@pytest.mark.parametrize("prompt", ["slow piano with soft strings", "driving techno, 128 bpm", "lo-fi drums"])
@pytest.mark.parametrize("first", [0, 2, 4])
def test_no_seam_is_heard(prompt: str, first: int) -> None:
    """No step above the clip's own 99th percentile of spectral flux, and no jump of loudness.

    The loudness of what is heard across a seam is held to that of the music on its two sides: it lies
    within a loudness unit of what both have, three seconds to each.
    """
    takes = [music(first + number, 10.0, prompt) for number in range(2)]
    product, content = made(*takes, duration_s=17)
    samples, rate_hz = decoded(content)
    (join,) = [step.render() for step in product.steps if step.kind == "join"]
    (at_s,), (overlap_s,) = join["at_s"], join["overlap_s"]
    changes = flux(samples, rate_hz)
    for moment_s in (at_s, at_s + overlap_s):
        window = round(moment_s / 0.02)
        assert changes[window - 2 : window + 2].max() <= np.percentile(changes, 99)
    before = loudness_between(samples, rate_hz, at_s - 3, at_s)
    after = loudness_between(samples, rate_hz, at_s + overlap_s, at_s + overlap_s + 3)
    across = loudness_between(samples, rate_hz, at_s - 1, at_s + overlap_s + 1)
    assert min(before, after) - 1 <= across <= max(before, after) + 1


def test_takes_of_different_loudness_are_brought_to_one() -> None:
    quiet = encoded(PIECE * 0.5)
    product, content = made(MUSIC, quiet, duration_s=22)
    samples, rate_hz = decoded(content)
    first = loudness_between(samples, rate_hz, 1, 9)
    second = loudness_between(samples, rate_hz, 13, 21)
    assert first == pytest.approx(second, abs=1.0)
    assert np.abs(samples).max() <= 1.0
    assert product.peak_dbfs is not None


def test_loud_takes_do_not_go_beyond_full_scale() -> None:
    loud = encoded(tone(10, dbfs=-0.2))
    _, content = made(loud, encoded(tone(10, dbfs=-6, hz=700)), duration_s=18)
    samples, _ = decoded(content)
    assert (np.abs(samples) < 1.0).mean() > 0.999


def test_steady_tones_are_crossed_without_a_dip() -> None:
    noise = np.random.default_rng(1).standard_normal((480_000 * 2, 1)).astype(np.float32) * 0.1
    samples, rate_hz = decoded(made(encoded(noise[:480_000]), encoded(noise[480_000:]), duration_s=19)[1])
    power = [
        float(np.square(samples[at : at + 2_400]).mean()) for at in range(0, len(samples) - 4_800, 2_400)
    ]
    assert min(power) > 0.8 * float(np.median(power))
    assert max(power) < 1.25 * float(np.median(power))
    assert rate_hz == 48_000


def test_takes_that_differ_in_kind_are_not_joined() -> None:
    with pytest.raises(Undecodable, match="differ"):
        made(MUSIC, encoded(tone(10, 44_100), 44_100), duration_s=20)


def test_takes_that_are_not_long_enough_together_are_told() -> None:
    with pytest.raises(TooShort):
        made(*TAKES[:2], duration_s=24)


def test_a_broken_take_among_good_ones_is_told() -> None:
    with pytest.raises(Undecodable):
        made(TAKES[0], b"no sound at all, but long enough to be looked at", duration_s=15)


def test_a_piece_joined_from_short_takes_is_whole() -> None:
    bits = [encoded(PIECE[at : at + 96_000]) for at in range(0, 480_000, 96_000)]
    samples: Samples = decoded(made(*bits, duration_s=7)[1])[0]
    assert len(samples) == 7 * 48_000


# How many takes


@pytest.mark.parametrize(
    ("take_s", "duration_s", "takes"),
    [(32.8, 32, 1), (32.8, 33, 2), (32.8, 300, 10), (30, 30, 1), (184, 300, 2)],
)
def test_as_many_takes_as_the_length_needs(take_s: float, duration_s: int, takes: int) -> None:
    assert takes_for(take_s, duration_s) == takes
    assert enough([take_s] * takes, duration_s)


def test_takes_are_enough_that_are_short_by_what_silence_makes_up_for() -> None:
    assert enough([29.6], 30)
    assert not enough([29.4], 30)
    assert not enough([], 1)
    assert not enough([10.0, 10.0], 21)
