"""The JSON body of an answer, as a stream: its size is known before, its audio is encoded on the way.

A four-clip answer is 33 MB of base64; only the clips themselves (shared with the studio's cache) are held.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pybase64

from gateway.emulator.faults import Fault
from gateway.emulator.music.wav import HEADER_BYTES

#: A multiple of three, so that pieces encoded one by one join up: 64 KiB once encoded.
_PIECE_BYTES = 49_152

_NOT_AUDIO = b"This is a text. It says nothing of music, and no player will play it.\n" * 1000


class Encoding(StrEnum):
    """What a model's audio comes as."""

    WAV = "wav"
    MP3 = "mp3"


@dataclass(frozen=True, slots=True)
class Clip:
    """One composed clip: a whole file, the seed it came from, and where it was put aside."""

    audio: bytes
    seed: int
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class AudioText:
    """The text of one clip inside a JSON string, encoded piece by piece."""

    data: bytes
    escaped: bool = False
    spoiled: bool = False

    def __len__(self) -> int:
        plain = -(-len(self.data) // 3) * 4
        if not self.escaped:
            return plain
        return sum(len(block) for block in self.blocks())

    def blocks(self) -> Iterator[bytes]:
        spoiled_at = len(self.data) // 2 // _PIECE_BYTES * _PIECE_BYTES if self.spoiled else -1
        for start in range(0, len(self.data), _PIECE_BYTES):
            text = pybase64.b64encode(self.data[start : start + _PIECE_BYTES])
            if start == spoiled_at:
                text = b"!*#~" + text[4:]
            yield text.replace(b"/", b"\\/").replace(b"+", b"\\u002b") if self.escaped else text


@dataclass(frozen=True, slots=True)
class AnswerBody:
    """The body in order. ``size_bytes`` goes into Content-Length."""

    parts: tuple[bytes | AudioText, ...]
    size_bytes: int

    def blocks(self, chunk_bytes: int | None = None) -> Iterator[bytes]:
        """The body, in natural pieces or in chunks of exactly ``chunk_bytes`` (the last may be less)."""
        whole = self._limited(self._natural())
        return whole if chunk_bytes is None else _rechunked(whole, chunk_bytes)

    def _natural(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, AudioText):
                yield from part.blocks()
            else:
                yield part

    def _limited(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        left = self.size_bytes
        for block in blocks:
            if left <= 0:
                return
            yield block[:left]
            left -= len(block)


def spoiled_body(parts: Sequence[bytes | AudioText], fault: Fault) -> AnswerBody:
    """The parts as a body, or half of it, as ``fault`` says."""
    size_bytes = sum(len(part) for part in parts)
    return AnswerBody(tuple(parts), size_bytes // 2 if fault.truncate_json else size_bytes)


def spoiled_audio(audio: bytes, fault: Fault) -> bytes:
    """The audio, or what ``fault`` has in its place."""
    if fault.not_audio:
        return _NOT_AUDIO
    if fault.short_wav:
        return audio[: HEADER_BYTES + (len(audio) - HEADER_BYTES) // 2]
    return audio


def _rechunked(blocks: Iterator[bytes], chunk_bytes: int) -> Iterator[bytes]:
    held = bytearray()
    for block in blocks:
        held += block
        whole = len(held) - len(held) % chunk_bytes
        for start in range(0, whole, chunk_bytes):
            yield bytes(held[start : start + chunk_bytes])
        del held[:whole]
    if held:
        yield bytes(held)
