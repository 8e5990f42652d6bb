"""What a model is to the emulator, and what those behind ``:predict`` have in common."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from gateway.emulator.answers import AnswerBody, AudioText, Clip, Encoding, spoiled_audio, spoiled_body
from gateway.emulator.desk import Settings
from gateway.emulator.faults import Fault
from gateway.emulator.music.composer import Order
from gateway.emulator.vertex import PredictRequest, recitation


class Page(Protocol):
    """One model, or several that differ in a figure. ``encoding`` is what its audio comes as."""

    @property
    def name(self) -> str:
        """As calls, faults and the log have it."""
        ...

    @property
    def encoding(self) -> Encoding: ...

    def read(self, resource: str, body: bytes) -> PredictRequest:
        """Check a request as Google does. Raises `gateway.emulator.vertex.VertexError`."""
        ...

    def order(self, asked: PredictRequest, seed: int, settings: Settings) -> Order:
        """What is to be composed for it."""
        ...

    def answer(
        self,
        asked: PredictRequest,
        entries: Sequence[Clip | None],
        fault: Fault,
        settings: Settings,
        number: int,
    ) -> AnswerBody:
        """The body of a 200, spoiled as ``fault`` says, to call ``number``. An entry of None is an error."""
        ...


def predictions(
    entries: Sequence[Clip | None],
    about: Mapping[str, Any],
    fault: Fault,
    *,
    field: str,
    extras: Sequence[Mapping[str, Any]],
) -> AnswerBody:
    """The answer of a ``:predict`` model: audio under ``field``, and ``extras`` beside each."""
    head, separator, tail = _frame(about, fault)
    parts: list[bytes | AudioText] = [head]
    for index, clip in enumerate(entries):
        if index:
            parts.append(separator)
        if clip is None:
            parts.append(json.dumps(recitation().body()).encode())
        else:
            parts.extend(
                _prediction(clip, field, extras[index], fault, spoiled=fault.bad_base64 and index == 0)
            )
    parts.append(tail)
    return spoiled_body(parts, fault)


def _prediction(
    clip: Clip, field: str, extras: Mapping[str, Any], fault: Fault, *, spoiled: bool
) -> Iterator[bytes | AudioText]:
    if clip.uri is not None:
        named = {"gcsUri": clip.uri, "mimeType": "audio/wav", "sizeBytes": len(clip.audio)}
        yield f"    {json.dumps({**named, **extras})}".encode()
        return
    if fault.wrong_field:
        field = "bytesBase64Encoded" if field == "audioContent" else "audioContent"
    if fault.unknown_field:
        field = "soundData"
    more = "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in extras.items())
    audio = AudioText(spoiled_audio(clip.audio, fault), escaped=fault.escaped, spoiled=spoiled)
    if fault.whitespace:
        yield f'\r\n{{\t"mimeType"  :\n"audio\\/wav"{more}  ,"{field}"\t:\r\n\n  "'.encode()
        yield audio
        yield b'"\n\t }  '
    else:
        yield f'    {{\n      "{field}": "'.encode()
        yield audio
        yield f'",\n      "mimeType": "audio/wav"{more}\n    }}'.encode()


def _frame(about: Mapping[str, Any], fault: Fault) -> tuple[bytes, bytes, bytes]:
    """What stands before, between and after the predictions."""
    text = json.dumps(about, indent=2)[1:-1].strip("\n")
    if fault.no_predictions:
        return b"{\n", b"", f"{text}\n}}\n".encode()
    if fault.whitespace:
        return f'\n {{{text}\t,\n\n"predictions"\r\n: \t['.encode(), b"\t ,\n", b"\n\n]\t}\n \n"
    return b'{\n  "predictions": [\n', b",\n", f"\n  ],\n{text}\n}}\n".encode()
