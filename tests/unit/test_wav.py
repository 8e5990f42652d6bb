"""The streaming WAV reader against files built by hand, by the standard library and by libsndfile."""

import io
import struct
import wave

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tasks.wav import AudioFacts, WavError, WavHeader, WavProbe

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
OPEN_SIZES = (0, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFFFFF - 36)


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt(
    tag: int = PCM, channels: int = 2, rate_hz: int = 48_000, bits: int = 16, frame_bytes: int | None = None
) -> bytes:
    frame_bytes = channels * bits // 8 if frame_bytes is None else frame_bytes
    body = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * frame_bytes % 2**32, frame_bytes, bits)
    return chunk(b"fmt ", body)


def extensible(sub_tag: int, bits: int, tail: bytes = GUID_TAIL) -> bytes:
    body = fmt(EXTENSIBLE, bits=bits)[8:] + struct.pack("<HHIH", 22, bits, 3, sub_tag) + tail
    return chunk(b"fmt ", body)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def probe(data: bytes, block_bytes: int | None = None) -> AudioFacts:
    reader = WavProbe()
    for at in range(0, len(data), block_bytes or len(data) or 1):
        reader.feed(data[at : at + (block_bytes or len(data))])
    return reader.finish()


SOUND = bytes(range(40))


@settings(deadline=None)
@given(
    channels=st.integers(1, 8),
    rate_hz=st.sampled_from([8000, 32_000, 44_100, 48_000, 192_000]),
    form=st.sampled_from([(PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32)]),
    frames=st.integers(1, 50),
    before=st.dictionaries(st.sampled_from([b"LIST", b"fact", b"JUNK", b"bext"]), st.binary(max_size=33)),
    after=st.binary(max_size=20),
    block_bytes=st.integers(1, 400),
)  # fmt: skip
def test_facts_are_read_from_any_sound_file_in_any_blocks(
    channels, rate_hz, form, frames, before, after, block_bytes
):
    tag, bits = form
    sound = b"\x55" * (frames * channels * bits // 8)
    extra = [chunk(name, body) for name, body in before.items()]
    data = riff(*extra, fmt(tag, channels, rate_hz, bits), *extra, chunk(b"data", sound)) + after
    assert probe(data, block_bytes) == AudioFacts(rate_hz, channels, bits, frames, frames / rate_hz)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_libsndfile_agrees(subtype, form):
    made = io.BytesIO()
    soundfile.write(made, [[0.1, -0.1]] * 777, 44_100, subtype=subtype, format=form)
    facts = probe(made.getvalue(), 7)
    assert (facts.sample_rate_hz, facts.channels, facts.frames) == (44_100, 2, 777)
    assert facts.duration_s == 777 / 44_100


def test_the_standard_library_agrees():
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 32_000, 0, "NONE", ""))
        file.writeframes(bytes(640))
    assert probe(made.getvalue()) == AudioFacts(32_000, 1, 16, 320, 0.01)


@pytest.mark.parametrize(("tag", "bits"), [(PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32)])
def test_the_extended_format_is_read(tag, bits):
    assert probe(riff(extensible(tag, bits), chunk(b"data", bytes(bits)))).bits_per_sample == bits


@pytest.mark.parametrize("size", OPEN_SIZES)
@pytest.mark.parametrize("block_bytes", [1, 1000])
def test_a_streamed_file_has_the_whole_frames_that_came(size, block_bytes):
    data = riff(fmt(channels=1), chunk(b"data", SOUND + b"\x01", size))[: -len(b"\0")]
    assert probe(data, block_bytes).frames == 20


def test_a_header_is_known_as_soon_as_the_sound_begins():
    data = riff(fmt(), chunk(b"data", SOUND))
    assert WavHeader.parse(data[:43]) is None
    header = WavHeader.parse(data[:44])
    assert header == WavHeader(48_000, 2, 16, is_float=False, data_offset=44, data_bytes=40)
    assert header.frame_bytes == 4


def test_floats_are_told_from_integers():
    header = WavHeader.parse(riff(fmt(FLOAT, bits=32), chunk(b"data", SOUND)))
    assert header is not None
    assert header.is_float


def test_a_probe_tells_its_header_once_it_knows():
    reader = WavProbe()
    assert reader.header is None
    reader.feed(riff(fmt(), chunk(b"data", SOUND)))
    assert reader.header is not None


def test_a_frame_cut_in_two_by_the_header_is_left_out():
    assert probe(riff(fmt(), chunk(b"data", SOUND[:39]))).frames == 9


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "within its header"),
        (b"RIFF", "within its header"),
        (riff(fmt()), "within its header"),
        (riff(fmt())[:30], "within its header"),
        (b"ID3\x04", "RIFF"),
        (b"hello, I am not audio at all, sorry", "RIFF"),
        (b"RIFX" + bytes(40), "RIFF"),
        (b"RIFF\0\0\0\0AVI LIST", "RIFF"),
        (riff(chunk(b"data", SOUND), fmt()), "before its format"),
        (riff(fmt(), fmt(), chunk(b"data", SOUND)), "two formats"),
        (riff(chunk(b"fmt ", bytes(14)), chunk(b"data", SOUND)), "too short"),
        (riff(fmt(tag=2), chunk(b"data", SOUND)), "0x0002"),
        (riff(fmt(tag=0x55), chunk(b"data", SOUND)), "neither PCM nor float"),
        (riff(extensible(7, 16), chunk(b"data", SOUND)), "neither PCM nor float"),
        (riff(extensible(PCM, 16, bytes(14)), chunk(b"data", SOUND)), "extended format"),
        (riff(fmt(EXTENSIBLE), chunk(b"data", SOUND)), "extended format"),
        (riff(fmt(bits=8), chunk(b"data", SOUND)), "8 bits"),
        (riff(fmt(bits=0), chunk(b"data", SOUND)), "0 bits"),
        (riff(fmt(FLOAT, bits=64), chunk(b"data", SOUND)), "64 bits"),
        (riff(fmt(channels=0), chunk(b"data", SOUND)), "0 channels"),
        (riff(fmt(channels=33), chunk(b"data", SOUND)), "33 channels"),
        (riff(fmt(rate_hz=0), chunk(b"data", SOUND)), "0 Hz"),
        (riff(fmt(rate_hz=999), chunk(b"data", SOUND)), "999 Hz"),
        (riff(fmt(rate_hz=4_000_000_000), chunk(b"data", SOUND)), "Hz"),
        (riff(fmt(frame_bytes=3), chunk(b"data", SOUND)), "frames of 3 bytes"),
        (riff(chunk(b"JUNK", bytes(70_000)), fmt(), chunk(b"data", SOUND)), "within 65536 bytes"),
        (riff(chunk(b"LIST", b"", 0xFFFFFFFF)), "within 65536 bytes"),
        (riff(fmt(), chunk(b"data", SOUND, 41)), "40 bytes of sound where its header claims 41"),
        (riff(fmt(), chunk(b"data", b"", 0)), "no sound"),
        (riff(fmt(), chunk(b"data", SOUND[:3])), "no sound"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 5000])
def test_what_is_no_whole_wav_is_refused_with_the_reason(data, why, block_bytes):
    with pytest.raises(WavError, match=why):
        probe(data, block_bytes)


def test_the_reason_is_a_value_error():
    assert issubclass(WavError, ValueError)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=120), block_bytes=st.integers(1, 130))
def test_rubbish_never_raises_anything_else(data, block_bytes):
    for start in (b"", riff(fmt())[:36], b"RIFF\0\0\0\0WAVE"):
        try:
            facts = probe(start + data, block_bytes)
        except WavError:
            continue
        assert facts.frames > 0


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(0, 83))
def test_every_cut_is_noticed(cut):
    with pytest.raises(WavError):
        probe(riff(fmt(), chunk(b"data", SOUND))[:cut])


def test_a_flood_of_empty_chunks_ends():
    reader = WavProbe()
    flood = b"RIFF\0\0\0\0WAVE" + chunk(b"JUNK", b"") * 20_000
    with pytest.raises(WavError, match="within"):
        reader.feed(flood)


def test_memory_does_not_grow_with_the_sound():
    reader = WavProbe()
    reader.feed(riff(fmt(), chunk(b"data", b"", 1 << 24)))
    for _ in range(16):
        reader.feed(bytes(1 << 20))
    assert reader.finish().frames == 1 << 22
    assert len(reader._head) == 0
