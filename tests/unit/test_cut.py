"""A WAV cut to a length while it streams by. What was cut is read back by libsndfile, not by ourselves."""

import io
import random
import struct
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tasks.cut import FADE_S, WavCutter
from gateway.tasks.wav import AudioFacts, WavError

FORMATS = ["PCM_16", "PCM_24", "PCM_32", "FLOAT"]


@dataclass(frozen=True)
class Sound:
    """Noise that is never near silence, so that a fade shows."""

    seconds: float = 3.0
    rate_hz: int = 8000
    channels: int = 2
    subtype: str = "PCM_16"

    @property
    def samples(self) -> np.ndarray:
        rng = np.random.default_rng(1)
        shape = (round(self.seconds * self.rate_hz), self.channels)
        return rng.uniform(0.5, 0.9, shape) * rng.choice([-1, 1], shape)

    def wav(self) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, self.samples, self.rate_hz, format="WAV", subtype=self.subtype)
        return file.getvalue()


def cut(wav: bytes, duration_s: int | None, block_bytes: int = 4096) -> tuple[bytes, AudioFacts]:
    cutter = WavCutter(duration_s)
    kept = [cutter.feed(wav[at : at + block_bytes]) for at in range(0, len(wav), block_bytes)]
    tail, facts = cutter.finish()
    return b"".join(kept) + tail, facts


def read(wav: bytes) -> tuple[np.ndarray, int]:
    samples, rate_hz = soundfile.read(io.BytesIO(wav), always_2d=True)
    return samples, rate_hz


def open_ended(wav: bytes, size: int = 0xFFFFFFFF) -> bytes:
    """The same as a writer leaves it that cannot seek back to fill in lengths."""
    at = wav.index(b"data") + 4
    return wav[:4] + struct.pack("<I", size) + wav[8:at] + struct.pack("<I", size) + wav[at + 4 :]


@pytest.mark.parametrize("subtype", FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_cut_has_exactly_the_length_asked_for(subtype: str, channels: int) -> None:
    sound = Sound(subtype=subtype, channels=channels)
    kept, facts = cut(sound.wav(), 2)
    samples, rate_hz = read(kept)
    assert samples.shape == (2 * rate_hz, channels)
    assert facts.duration_s == 2.0
    assert facts.frames == 2 * rate_hz
    assert (facts.sample_rate_hz, facts.channels) == (rate_hz, channels)


@pytest.mark.parametrize("subtype", FORMATS)
def test_only_the_last_fifty_milliseconds_are_changed(subtype: str) -> None:
    sound = Sound(subtype=subtype)
    before, rate_hz = read(sound.wav())
    after, _ = read(cut(sound.wav(), 2)[0])
    fade = round(FADE_S * rate_hz)
    assert np.array_equal(after[:-fade], before[: 2 * rate_hz - fade])
    ratio = after[-fade:] / before[2 * rate_hz - fade : 2 * rate_hz]
    expected = 1 - (np.arange(fade) + 1) / fade
    assert np.allclose(ratio, expected[:, None], atol=1e-3)
    assert np.all(after[-1] == 0)


@pytest.mark.parametrize("subtype", FORMATS)
def test_the_loudest_samples_do_not_overflow(subtype: str) -> None:
    file = io.BytesIO()
    loud = np.tile([[1.0, -1.0], [-1.0, 1.0]], (8000, 1))
    soundfile.write(file, loud, 8000, format="WAV", subtype=subtype)
    samples, _ = read(cut(file.getvalue(), 1)[0])
    assert np.max(np.abs(np.diff(np.abs(samples[-400:, 0])))) < 0.01  # falls evenly, never wraps around


@pytest.mark.parametrize("duration_s", [None, 3, 4, 300])
def test_what_is_no_longer_than_asked_is_not_touched(duration_s: int | None) -> None:
    wav = Sound().wav()
    kept, facts = cut(wav, duration_s)
    assert kept == wav
    assert facts.duration_s == 3.0


def test_what_follows_the_sound_stays_when_nothing_is_cut() -> None:
    wav = Sound().wav() + b"LIST\x04\x00\x00\x00abcd"
    assert cut(wav, 3)[0] == wav


def test_what_follows_the_sound_goes_when_it_is_cut() -> None:
    wav = Sound().wav()
    assert cut(wav + b"LIST\x04\x00\x00\x00abcd", 2) == cut(wav, 2)


def test_the_lengths_in_the_header_are_those_of_the_file() -> None:
    kept, _ = cut(Sound().wav(), 2)
    assert struct.unpack_from("<I", kept, 4) == (len(kept) - 8,)
    at = kept.index(b"data")
    assert struct.unpack_from("<I", kept, at + 4) == (len(kept) - at - 8,)


def test_an_odd_length_is_padded_as_riff_wants_it() -> None:
    sound = Sound(rate_hz=11_025, channels=1, subtype="PCM_24")
    kept, _ = cut(sound.wav(), 1)
    assert len(kept) % 2 == 0
    assert struct.unpack_from("<I", kept, 4) == (len(kept) - 8,)
    assert read(kept)[0].shape == (11_025, 1)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_sound_of_open_length_is_cut(size: int) -> None:
    sound = Sound()
    kept, facts = cut(open_ended(sound.wav(), size), 2)
    closed, _ = cut(sound.wav(), 2)
    assert facts.duration_s == 2.0
    assert kept[kept.index(b"data") + 8 :] == closed[closed.index(b"data") + 8 :]


@pytest.mark.parametrize("seconds", [0.001, 2.96, 2.999, 3.0])
def test_a_sound_of_open_length_that_was_short_enough_is_not_touched(seconds: float) -> None:
    wav = open_ended(Sound(seconds=seconds).wav())
    kept, facts = cut(wav, 3)
    assert kept == wav
    assert facts.duration_s == pytest.approx(seconds, abs=1e-3)


def test_half_a_frame_too_much_is_no_reason_to_cut() -> None:
    wav = bytearray(Sound().wav() + b"\x01")
    at = wav.index(b"data") + 4
    struct.pack_into("<I", wav, at, struct.unpack_from("<I", wav, at)[0] + 1)
    assert cut(bytes(wav), 3)[0] == wav


@given(st.integers(1, 5000), st.sampled_from(FORMATS), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_the_size_of_the_blocks_makes_no_difference(block_bytes: int, subtype: str, duration_s: int) -> None:
    wav = Sound(seconds=2.5, rate_hz=1000, subtype=subtype).wav()
    assert cut(wav, duration_s, block_bytes) == cut(wav, duration_s, len(wav))


def test_one_byte_at_a_time_will_do() -> None:
    wav = Sound(seconds=1.5, rate_hz=1000).wav()
    assert cut(wav, 1, 1) == cut(wav, 1)


def test_nothing_comes_out_before_it_is_known_to_be_a_wav() -> None:
    wav = Sound().wav()
    cutter = WavCutter(2)
    assert cutter.feed(wav[:30]) == b""
    assert cutter.feed(wav[30:60]).startswith(b"RIFF")


def test_little_is_held_back() -> None:
    """Memory stays bounded: at most the fade waits inside."""
    wav = Sound(seconds=3.0, rate_hz=48_000).wav()
    cutter = WavCutter(2)
    out = sum(len(cutter.feed(wav[at : at + 65_536])) for at in range(0, len(wav), 65_536))
    tail, _ = cutter.finish()
    assert len(tail) == round(FADE_S * 48_000) * 4
    assert out + len(tail) == len(cut(wav, 2)[0])


@pytest.mark.parametrize("block", [b"<html>", b"RIFF\x00\x00\x00\x00JUNK", random.Random(1).randbytes(99)])
def test_what_is_no_wav_is_refused_at_once(block: bytes) -> None:
    with pytest.raises(WavError):
        WavCutter(2).feed(block)


@pytest.mark.parametrize("duration_s", [None, 1, 2, 300])
def test_a_wav_that_ends_early_is_refused(duration_s: int | None) -> None:
    with pytest.raises(WavError, match="claims"):
        cut(Sound().wav()[:-1], duration_s)


@pytest.mark.parametrize("wav", [b"", b"RIFF", Sound().wav()[:44]])
def test_a_wav_without_sound_is_refused(wav: bytes) -> None:
    with pytest.raises(WavError):
        cut(wav, 2)
