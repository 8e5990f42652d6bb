"""Is it a WAV, and what is in it? Answered while it streams by, from its first bytes and its length.

Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" (RIFF, WAVE) and "Multiple Channel
Audio Data and WAVE Files" (WAVE_FORMAT_EXTENSIBLE). Accepted: PCM of 16, 24 or 32 bits, and 32-bit float.
"""

import struct
from dataclasses import dataclass

#: The sound must begin within this many bytes; tags and padding before it fit many times over.
HEADER_LIMIT_BYTES = 64 << 10
MAX_CHANNELS = 32
MIN_SAMPLE_RATE_HZ = 1_000
MAX_SAMPLE_RATE_HZ = 768_000

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_BITS = {_PCM: (16, 24, 32), _FLOAT: (32,)}
_BYTE_BITS = 8
#: What follows the two format bytes in the SubFormat GUID of every wave format.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_RIFF_BYTES, _CHUNK_BYTES, _FMT_BYTES, _EXTENSIBLE_BYTES = 12, 8, 16, 40
#: Writers that cannot seek back leave 0, 0xFFFFFFFF or nearly 2 GiB where the length belongs.
_STREAMED_FROM_BYTES = 0x7FFF_0000


class WavError(ValueError):
    """Not a WAV that we take; the text says why."""


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What is in a WAV. A frame is one sample of every channel."""

    sample_rate_hz: int
    channels: int
    bits_per_sample: int
    frames: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class WavHeader:
    """Everything before the sound. ``data_bytes`` is None when a streaming writer left the length open."""

    sample_rate_hz: int
    channels: int
    bits_per_sample: int
    is_float: bool
    data_offset: int
    data_bytes: int | None

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits_per_sample // _BYTE_BITS

    @classmethod
    def parse(cls, head: bytes) -> "WavHeader | None":
        """The header at the start of ``head``, or None while more bytes are needed. Raises `WavError`."""
        if not _could_begin(head):
            raise WavError("it does not begin with RIFF....WAVE")
        fmt: tuple[int, int, int, bool] | None = None
        at = _RIFF_BYTES
        while len(head) >= at + _CHUNK_BYTES:
            name, size = struct.unpack_from("<4sI", head, at)
            at += _CHUNK_BYTES
            if name == b"data":
                if fmt is None:
                    raise WavError("its sound comes before its format")
                return cls(*fmt, data_offset=at, data_bytes=_data_bytes(size))
            if at + size > HEADER_LIMIT_BYTES:
                raise WavError(f"its sound does not begin within {HEADER_LIMIT_BYTES} bytes")
            if name == b"fmt " and len(head) >= at + size:
                if fmt is not None:
                    raise WavError("it has two formats")
                fmt = _parse_format(head[at : at + size])
            at += size + size % 2
        return None


class WavProbe:
    """Feed it a file's bytes in order, then `finish`. Holds the header only."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._header: WavHeader | None = None
        self._fed_bytes = 0

    @property
    def header(self) -> WavHeader | None:
        """Known once the sound has begun."""
        return self._header

    def feed(self, block: bytes) -> None:
        """Raises `WavError` as soon as the bytes cannot be a WAV."""
        self._fed_bytes += len(block)
        if self._header is not None:
            return
        self._head += block[: HEADER_LIMIT_BYTES + _CHUNK_BYTES]
        self._header = WavHeader.parse(bytes(self._head))
        if self._header is not None:
            self._head.clear()

    def finish(self) -> AudioFacts:
        """The file's end. Raises `WavError` when it has no sound, or less than its header claims."""
        header = self._header
        if header is None:
            raise WavError("it ends within its header")
        present_bytes = self._fed_bytes - header.data_offset
        if header.data_bytes is not None and present_bytes < header.data_bytes:
            raise WavError(
                f"it has {present_bytes} bytes of sound where its header claims {header.data_bytes}"
            )
        # Whole frames only; chunks after the sound are not sound.
        sound_bytes = present_bytes if header.data_bytes is None else header.data_bytes
        frames = sound_bytes // header.frame_bytes
        if frames == 0:
            raise WavError("it has no sound")
        return AudioFacts(
            sample_rate_hz=header.sample_rate_hz,
            channels=header.channels,
            bits_per_sample=header.bits_per_sample,
            frames=frames,
            duration_s=frames / header.sample_rate_hz,
        )


def _could_begin(head: bytes) -> bool:
    return b"RIFF".startswith(head[:4]) and b"WAVE".startswith(head[8:12])


def _data_bytes(size: int) -> int | None:
    return None if size == 0 or size >= _STREAMED_FROM_BYTES else size


def _parse_format(body: bytes) -> tuple[int, int, int, bool]:
    """Sample rate, channels, bits per sample, and whether samples are floats."""
    if len(body) < _FMT_BYTES:
        raise WavError("its format chunk is too short")
    tag, channels, rate_hz, _byte_rate, frame_bytes, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE:
        if len(body) < _EXTENSIBLE_BYTES or body[26:_EXTENSIBLE_BYTES] != _GUID_TAIL:
            raise WavError("its extended format is malformed")
        (tag,) = struct.unpack_from("<H", body, 24)
    if tag not in _BITS:
        raise WavError(f"its encoding {tag:#06x} is neither PCM nor float")
    if bits not in _BITS[tag]:
        raise WavError(f"its samples have {bits} bits")
    if not 1 <= channels <= MAX_CHANNELS:
        raise WavError(f"it has {channels} channels")
    if not MIN_SAMPLE_RATE_HZ <= rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise WavError(f"its sample rate is {rate_hz} Hz")
    if frame_bytes != channels * bits // _BYTE_BITS:
        raise WavError(f"its frames of {frame_bytes} bytes do not fit {channels} channels of {bits} bits")
    return rate_hz, channels, bits, tag == _FLOAT
