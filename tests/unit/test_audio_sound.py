"""What is taken for sound and what is not, whatever it claims to be."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audio.sniffing import HEAD_BYTES, sniff
from gateway.audio.sound import MAX_CHANNELS, Undecodable, open_sound
from gateway.audio.survey import look_at
from gateway.model import AudioFormat
from tests.soundness import a_file, encoded, tone

CORPUS = Path(__file__).parent.parent / "corpus" / "audio"
SHORT = tone(0.5)
FILES = {
    AudioFormat.WAV: encoded(SHORT),
    AudioFormat.FLAC: encoded(SHORT, fmt="FLAC"),
    AudioFormat.MP3: encoded(SHORT, fmt="MP3"),
    AudioFormat.OGG: encoded(SHORT, fmt="OGG", subtype="VORBIS"),
    AudioFormat.OPUS: encoded(SHORT, fmt="OGG", subtype="OPUS"),
}
TAG = b"ID3\x04\x00\x00\x00\x00\x17\x76" + b"GEOB" + bytes(3058)


def facts_of(content: bytes):
    with a_file(content) as fd, open_sound(fd) as reader:
        return look_at(reader).facts


def why_not(content: bytes) -> str:
    with pytest.raises(Undecodable) as caught:
        facts_of(content)
    return str(caught.value)


@pytest.mark.parametrize("audio_format", AudioFormat)
def test_every_format_is_known_by_its_first_bytes_and_read_to_its_end(audio_format: AudioFormat) -> None:
    content = FILES[audio_format]
    assert sniff(content[:HEAD_BYTES]) is audio_format
    facts = facts_of(content)
    assert (facts.format, facts.sample_rate_hz, facts.channels) == (audio_format, 48_000, 2)
    assert facts.frames == len(SHORT)
    assert facts.duration_s == 0.5


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32), ("FLOAT", 32)])
def test_wavs_of_every_depth_are_read(subtype: str, bits: int) -> None:
    assert facts_of(encoded(SHORT, subtype=subtype)).bits == bits


def test_what_has_a_tag_in_front_is_still_an_mp3() -> None:
    content = TAG + FILES[AudioFormat.MP3]
    assert sniff(content[:HEAD_BYTES]) is AudioFormat.MP3
    assert facts_of(content).frames == len(SHORT)


def test_a_wav_whose_writer_left_the_length_open_is_read_to_its_end() -> None:
    content = bytearray(FILES[AudioFormat.WAV])
    for unknown in (0xFFFFFFFF, 0x7FFFFFFF):
        struct.pack_into("<I", content, 40, unknown)
        assert facts_of(bytes(content)).frames == len(SHORT)


def test_a_wav_that_is_shorter_than_it_claims_is_refused() -> None:
    content = FILES[AudioFormat.WAV]
    assert why_not(content[: len(content) // 2]) == "it lacks 48022 bytes of the sound that its header claims"
    padded = content[:12] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + content[12:]
    assert facts_of(padded).frames == len(SHORT)
    assert "lacks 1 bytes" in why_not(padded[:-1])


@pytest.mark.parametrize(
    "content", [b"", b"x", b"<!DOCTYPE html>" * 100, b"This is a text." * 100, bytes(range(1, 60))]
)
def test_what_does_not_begin_like_audio_is_refused(content: bytes) -> None:
    assert sniff(content[:HEAD_BYTES]) is None
    assert why_not(content) == "it does not begin like any audio"


@pytest.mark.parametrize(
    "content",
    [
        b"RIFF\x24\0\0\0WAVE",
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(16) + b"data\0\0\0\0",
        b"fLaC" + bytes(100),
        b"OggS" + bytes(100),
        b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(500),
        b"\xff\xfb" + b"noise" * 300,
    ],
)
def test_what_only_begins_like_audio_is_refused(content: bytes) -> None:
    assert why_not(content)


def test_sound_of_no_length_is_refused() -> None:
    assert why_not(encoded(SHORT[:0]))


def test_more_channels_than_anybody_listens_with_are_refused() -> None:
    assert why_not(encoded(tone(0.1, channels=MAX_CHANNELS + 1))) == "it has 3 channels"


@pytest.mark.parametrize("rate_hz", [7_999, 192_001])
def test_odd_sample_rates_are_refused(rate_hz: int) -> None:
    assert why_not(encoded(SHORT, rate_hz)) == f"its sample rate is {rate_hz} Hz"


def test_other_encodings_are_refused() -> None:
    assert why_not(encoded(SHORT, subtype="ULAW")) == "it is WAV with ULAW"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(value: float) -> None:
    samples = SHORT.copy()
    samples[1000] = value
    assert why_not(encoded(samples, subtype="FLOAT")) == "some of its samples are no numbers"


def test_a_small_file_that_would_play_for_days_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.audio.sound.LONGEST_S", 2)
    silence = np.zeros((48_000 * 4, 2), dtype=np.float32)
    assert why_not(encoded(silence, fmt="FLAC")) == "it is longer than 2 s"


# Whatever comes, it is sound or it is not: nothing crashes, hangs, or is taken for more than it is.


def survives(content: bytes) -> None:
    try:
        facts = facts_of(content)
    except Undecodable:
        return
    assert 1 <= facts.channels <= MAX_CHANNELS
    assert 0 < facts.duration_s < 3600


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_damage_to_a_file_does_any_harm(data: st.DataObject) -> None:
    content = bytearray(FILES[data.draw(st.sampled_from(AudioFormat))])
    for _ in range(data.draw(st.integers(1, 8))):
        # Headers are where lies tell most.
        at = data.draw(st.integers(0, min(200, len(content) - 1)) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    survives(bytes(content[: data.draw(st.integers(0, len(content)))]))


@settings(max_examples=100, deadline=None)
@given(
    start=st.sampled_from([b"RIFF", b"fLaC", b"OggS", b"ID3", b"\xff\xfb\x90\x00"]),
    size=st.binary(min_size=4, max_size=4),
    rest=st.binary(max_size=300),
)
def test_no_made_up_header_does_any_harm(start: bytes, size: bytes, rest: bytes) -> None:
    survives(start + size + rest)
    survives(b"RIFF" + size + b"WAVEfmt \x10\0\0\0" + rest)


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_was_hostile_once_does_no_harm(path: Path) -> None:
    survives(path.read_bytes())
