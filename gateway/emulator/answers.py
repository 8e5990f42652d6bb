"""The JSON body of an answer, as a stream: its size is known before, its audio is encoded on the way.

A four-clip answer is 33 MB of base64; only the clips themselves (shared with the studio's cache) are held.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pybase64

from gateway.emulator.faults import Fault
from gateway.emulator.music.wav import HEADER_BYTES
from gateway.emulator.vertex import PredictRequest, Surface, recitation

#: A multiple of three, so that pieces encoded one by one join up: 64 KiB once encoded.
_PIECE_BYTES = 49_152

_LYRIA_DEPLOYED_ID = "7020022002200220022"
_MUSICGEN_DEPLOYED_ID = "5050505050505050505"

_NOT_AUDIO = b"This is a text. It says nothing of music, and no player will play it.\n" * 1000


@dataclass(frozen=True, slots=True)
class Clip:
    """One composed clip: a whole WAV file, and the seed it came from."""

    wav: bytes
    seed: int


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


def build_answer(request: PredictRequest, entries: Sequence[Clip | None], fault: Fault) -> AnswerBody:
    """The answer to ``request``, spoiled as ``fault`` says. An entry of None becomes an error object."""
    head, separator, tail = _frame(request, fault)
    parts: list[bytes | AudioText] = [head]
    for index, clip in enumerate(entries):
        if index:
            parts.append(separator)
        if clip is None:
            parts.append(json.dumps(recitation().body()).encode())
        else:
            parts.extend(_prediction(request, clip, fault, spoiled=fault.bad_base64 and index == 0))
    parts.append(tail)
    size_bytes = sum(len(part) for part in parts)
    return AnswerBody(tuple(parts), size_bytes // 2 if fault.truncate_json else size_bytes)


def _prediction(
    request: PredictRequest, clip: Clip, fault: Fault, *, spoiled: bool
) -> Iterator[bytes | AudioText]:
    name = "audioContent"
    if fault.wrong_field:
        name = "bytesBase64Encoded"
    if fault.unknown_field:
        name = "soundData"
    seed = f', "seed": {clip.seed}' if request.surface is Surface.MUSICGEN else ""
    audio = AudioText(_audio(clip.wav, fault), escaped=fault.escaped, spoiled=spoiled)
    if fault.whitespace:
        yield f'\r\n{{\t"mimeType"  :\n"audio\\/wav"{seed}  ,"{name}"\t:\r\n\n  "'.encode()
        yield audio
        yield b'"\n\t }  '
    else:
        yield f'    {{\n      "{name}": "'.encode()
        yield audio
        yield f'",\n      "mimeType": "audio/wav"{seed}\n    }}'.encode()


def _audio(wav: bytes, fault: Fault) -> bytes:
    if fault.not_audio:
        return _NOT_AUDIO
    if fault.short_wav:
        return wav[: HEADER_BYTES + (len(wav) - HEADER_BYTES) // 2]
    return wav


def _frame(request: PredictRequest, fault: Fault) -> tuple[bytes, bytes, bytes]:
    """What stands before, between and after the predictions."""
    about = json.dumps(_about(request), indent=2)[1:-1].strip("\n")
    if fault.no_predictions:
        return b"{\n", b"", f"{about}\n}}\n".encode()
    if fault.whitespace:
        return f'\n {{{about}\t,\n\n"predictions"\r\n: \t['.encode(), b"\t ,\n", b"\n\n]\t}\n \n"
    return b'{\n  "predictions": [\n', b",\n", f"\n  ],\n{about}\n}}\n".encode()


def _about(request: PredictRequest) -> dict[str, Any]:
    if request.surface is Surface.LYRIA:
        return {
            "deployedModelId": _LYRIA_DEPLOYED_ID,
            "model": request.resource,
            "modelDisplayName": "Lyria 2",
        }
    project = request.resource.rsplit("/endpoints/", 1)[0]
    return {
        "deployedModelId": _MUSICGEN_DEPLOYED_ID,
        "model": f"{project}/models/musicgen",
        "modelDisplayName": "musicgen",
        "modelVersionId": "1",
    }


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
