"""A WAV cut to a length while it streams by: its header rewritten, its last 50 ms faded out.

Nothing is touched, not a byte, when the audio is no longer than asked.
"""

import struct
from collections.abc import Sequence
from dataclasses import replace

from gateway.tasks.wav import AudioFacts, WavError, WavHeader, WavProbe

FADE_S = 0.05
_RIFF_SIZE_AT = 4
_CHUNK_HEAD_BYTES = 8


class WavCutter:
    """Feed it a WAV; what it returns is the WAV to keep. ``duration_s`` None keeps it whole."""

    def __init__(self, duration_s: int | None) -> None:
        self._duration_s = duration_s
        self._probe = WavProbe()
        self._head = bytearray()
        self._header: WavHeader | None = None
        self._keep_bytes: int | None = None
        self._passed_bytes = 0
        self._tail = bytearray()

    def feed(self, block: bytes) -> bytes:
        """What can be kept so far. Raises `WavError` as soon as the bytes cannot be a WAV."""
        self._probe.feed(block)
        if self._header is None:
            self._head += block
            self._header = self._probe.header
            return b"" if self._header is None else self._begin(self._header)
        return block if self._keep_bytes is None else self._cut(self._header, block)

    def finish(self) -> tuple[bytes, AudioFacts]:
        """The rest, and what is in the WAV that was kept. Raises `WavError` when it is not whole."""
        facts = self._probe.finish()
        header = self._header
        if header is None or self._keep_bytes is None:
            return b"", facts
        if facts.frames * header.frame_bytes <= self._keep_bytes:
            # The header had left the length open, and there was no more than was asked for after all.
            return bytes(self._tail), facts
        frames = self._keep_bytes // header.frame_bytes
        tail = _faded(bytes(self._tail), header)
        if header.data_bytes is not None and self._keep_bytes % 2:
            tail += b"\0"  # RIFF pads chunks to even lengths
        return tail, replace(facts, frames=frames, duration_s=frames / facts.sample_rate_hz)

    def _begin(self, header: WavHeader) -> bytes:
        head, sound = self._head[: header.data_offset], bytes(self._head[header.data_offset :])
        self._head = bytearray()
        if self._duration_s is not None:
            wanted_bytes = self._duration_s * header.sample_rate_hz * header.frame_bytes
            if header.data_bytes is None or _whole_frames(header.data_bytes, header) > wanted_bytes:
                self._keep_bytes = wanted_bytes
        if self._keep_bytes is None:
            return bytes(head) + sound
        if header.data_bytes is not None:
            riff_bytes = header.data_offset - _CHUNK_HEAD_BYTES + self._keep_bytes
            struct.pack_into("<I", head, _RIFF_SIZE_AT, riff_bytes + self._keep_bytes % 2)
            struct.pack_into("<I", head, header.data_offset - 4, self._keep_bytes)
        return bytes(head) + self._cut(header, sound)

    def _cut(self, header: WavHeader, block: bytes) -> bytes:
        if self._keep_bytes is None:  # pragma: no cover - the callers have looked
            raise WavError("nothing is to be cut")
        fade_frames = min(round(FADE_S * header.sample_rate_hz), self._keep_bytes // header.frame_bytes)
        plain_bytes = self._keep_bytes - fade_frames * header.frame_bytes
        left = block[: self._keep_bytes - self._passed_bytes - len(self._tail)]
        plain = left[: max(0, plain_bytes - self._passed_bytes)]
        self._passed_bytes += len(plain)
        self._tail += left[len(plain) :]
        return plain


def _whole_frames(size_bytes: int, header: WavHeader) -> int:
    return size_bytes - size_bytes % header.frame_bytes


def _faded(sound: bytes, header: WavHeader) -> bytes:
    """The sound, falling evenly to silence over its whole length."""
    frames = len(sound) // header.frame_bytes
    sound = sound[: frames * header.frame_bytes]
    if header.is_float:
        floats = struct.unpack(f"<{len(sound) // 4}f", sound)
        return struct.pack(f"<{len(floats)}f", *_falling(floats, header.channels, frames))
    width = header.bits_per_sample // 8
    samples = [
        int.from_bytes(sound[at : at + width], "little", signed=True) for at in range(0, len(sound), width)
    ]
    faded = _falling(samples, header.channels, frames)
    return b"".join(round(sample).to_bytes(width, "little", signed=True) for sample in faded)


def _falling(samples: Sequence[float], channels: int, frames: int) -> list[float]:
    return [sample * (1 - (at // channels + 1) / frames) for at, sample in enumerate(samples)]
