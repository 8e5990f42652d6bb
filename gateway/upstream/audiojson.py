"""A JSON answer with audio in it, read as it arrives, the audio never held.

RFC 8259 says what JSON is and RFC 4648 §4 what base64 is. Strings under the audio fields are decoded piece
by piece; a short placeholder string takes the place of each, and the little that remains, the *residue*, is
parsed by an ordinary JSON parser once the answer ends. A string literal replaced by a string literal leaves
a document valid or invalid as it was, so that parser is the judge of everything outside the audio.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import orjson
import pybase64

RESIDUE_LIMIT_BYTES = 1 << 20
#: Deeper than any answer of Google's, and a bound on what a hostile one can make us remember.
MAX_DEPTH = 128

_BOM = b"\xef\xbb\xbf"
_QUOTE, _BACKSLASH, _PAD = b'"', b"\\", ord("=")
_DISCARDED = b'"@discarded"'
_TYPE = b"type"
#: "\u002b": the longest escape. Fewer characters than this after a backslash may be an unfinished one.
_ESCAPE_LENGTH = 6
_QUAD = 4

_STRUCTURE = re.compile(rb'[{}\[\]:,"]')
#: As far as a string goes without an unescaped quote; stops before a lone backslash at the end.
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
#: The same, but only over whole, valid escapes.
_STRICT_STRING = re.compile(rb'[^"\\]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\]*+)*+')


class AudioJsonError(ValueError):
    """The document as a whole cannot be used."""


class Truncated(AudioJsonError):
    """The document ended early; what came before may be whole."""


@dataclass(frozen=True, slots=True)
class ClipStarted:
    """An audio string begins. ``position`` is its object's place in the nearest array, None outside any."""

    number: int
    position: int | None


@dataclass(frozen=True, slots=True)
class ClipEnded:
    """The audio string ended and all of it was base64."""

    number: int


@dataclass(frozen=True, slots=True)
class ClipFailed:
    """The audio string is not base64; the rest of it is skipped, other clips are not harmed."""

    number: int
    reason: str


#: ``bytes`` are decoded audio of the clip that started last.
Event = ClipStarted | bytes | ClipEnded | ClipFailed


class _Where(Enum):
    STRUCTURE = auto()
    STRING = auto()  # kept in the residue
    AUDIO = auto()
    SKIPPED = auto()  # a second audio string of one object, or the rest of a broken one


@dataclass(slots=True)
class _Container:
    is_object: bool
    elements_before: int = 0  # commas so far
    has_audio: bool = False
    item_type: bytes | None = None  # what it says of itself, once it has


class _NotBase64(Exception):
    pass


class AudioJson:
    """Feed it chunks of any size, then `finish`. Not to be used again after an `AudioJsonError`.

    Of two audio strings in one object the first is the clip; the other is skipped unread, and so is one in an
    object that has said to be of another type than ``item_type``.
    """

    def __init__(
        self,
        audio_fields: Collection[str],
        item_type: str | None = None,
        residue_limit_bytes: int = RESIDUE_LIMIT_BYTES,
        max_depth: int = MAX_DEPTH,
    ) -> None:
        self._audio_fields = frozenset(field.encode() for field in audio_fields)
        self._item_type = None if item_type is None else item_type.encode()
        # A key may be spelt wholly in escapes, and is never longer than that.
        self._longest_key_bytes = max(map(len, {*self._audio_fields, _TYPE})) * _ESCAPE_LENGTH
        self._residue_limit_bytes = residue_limit_bytes
        self._max_depth = max_depth
        self._residue = bytearray()
        self._where = _Where.STRUCTURE
        self._containers: list[_Container] = []
        self._key_expected = False
        self._key_start: int | None = None  # where in the residue the key now being read begins
        self._key = b""
        self._audio_value_next = False  # the last thing read was an audio field's name and its colon
        self._type_value_next = False  # the same of a type's
        self._type_start: int | None = None  # where in the residue the type now being read begins
        self._clips = 0
        self._held = b""  # an escape cut in two by a chunk's end
        self._quad = b""  # up to three base64 characters short of a group
        self._padded = False
        self._failure: AudioJsonError | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """What this chunk brought, in order.

        Raises `AudioJsonError` when the document is past saving; events that came before the trouble are
        returned first, so what is delivered does not depend on how the document was cut into chunks.
        """
        if self._failure:
            raise self._failure
        events: list[Event] = []
        try:
            self._read(chunk, events)
        except AudioJsonError as error:
            self._failure = error
            if not events:
                raise
        return events

    def finish(self) -> Any:
        """The document with ``"@clip:N"`` where audio was. Raises `AudioJsonError`, `Truncated` if cut."""
        if self._failure:
            raise self._failure
        if self._where is not _Where.STRUCTURE or self._containers:
            raise Truncated("the answer ends in the middle")
        document = bytes(self._residue.removeprefix(_BOM))
        if not document.strip():
            raise Truncated("the answer is empty")
        try:
            return orjson.loads(document)
        except orjson.JSONDecodeError as error:
            raise AudioJsonError(f"the answer is not JSON: {error.msg}") from None

    def _read(self, chunk: bytes, events: list[Event]) -> None:
        if self._held:
            chunk, self._held = self._held + chunk, b""
        at, end = 0, len(chunk)
        while at < end:
            if self._where is _Where.AUDIO:
                at = self._read_audio(chunk, at, events)
            elif self._where is _Where.STRUCTURE:
                at = self._read_structure(chunk, at, events)
            elif self._where is _Where.STRING:
                at = self._read_string(chunk, at)
            else:
                at = self._skip_string(chunk, at)

    # Outside audio: residue, and just enough structure to know a key from a value.

    def _keep(self, piece: bytes) -> None:
        if len(self._residue) + len(piece) > self._residue_limit_bytes:
            raise AudioJsonError(f"the answer has more than {self._residue_limit_bytes} bytes besides audio")
        self._residue += piece

    def _read_structure(self, chunk: bytes, at: int, events: list[Event]) -> int:
        for token in _STRUCTURE.finditer(chunk, at):
            start = token.start()
            if chunk[start : start + 1] != _QUOTE:
                self._track(token[0])
                continue
            self._keep(chunk[at:start])
            self._begin_string(events)
            return start + 1
        self._keep(chunk[at:])
        return len(chunk)

    def _track(self, token: bytes) -> None:
        self._audio_value_next = self._type_value_next = False
        if token in b"{[":
            if len(self._containers) >= self._max_depth:
                raise AudioJsonError(f"the answer is nested deeper than {self._max_depth}")
            self._containers.append(_Container(is_object=token == b"{"))
            self._key_expected = token == b"{"
        elif token in b"}]":
            if not self._containers or self._containers.pop().is_object != (token == b"}"):
                raise AudioJsonError(f"the answer is not JSON: unexpected {token.decode()!r}")
            self._key_expected = False
        elif token == b",":
            if self._containers:
                self._containers[-1].elements_before += 1
                self._key_expected = self._containers[-1].is_object
        else:
            self._audio_value_next = self._key in self._audio_fields
            self._type_value_next = self._key == _TYPE
        self._key = b""

    def _begin_string(self, events: list[Event]) -> None:
        if self._audio_value_next and self._containers:
            self._audio_value_next = False
            self._begin_audio(self._containers[-1], events)
            return
        self._keep(_QUOTE)
        self._key_start = len(self._residue) if self._key_expected else None
        self._type_start = len(self._residue) if self._type_value_next else None
        self._key_expected = self._type_value_next = False
        self._where = _Where.STRING

    def _begin_audio(self, holder: _Container, events: list[Event]) -> None:
        if holder.has_audio or (self._item_type and holder.item_type not in {None, self._item_type}):
            self._keep(_DISCARDED)
            self._where = _Where.SKIPPED
            return
        holder.has_audio = True
        self._keep(b'"@clip:%d"' % self._clips)
        self._where = _Where.AUDIO
        self._quad, self._padded = b"", False
        arrays = (container for container in reversed(self._containers) if not container.is_object)
        nearest = next(arrays, None)
        events.append(ClipStarted(self._clips, nearest.elements_before if nearest else None))
        self._clips += 1

    def _read_string(self, chunk: bytes, at: int) -> int:
        stop = self._string_stop(chunk, at)
        self._keep(chunk[at:stop])
        if chunk[stop : stop + 1] != _QUOTE:
            self._held = chunk[stop:]
            return len(chunk)
        if self._key_start is not None:
            self._key = self._unescaped_key(self._key_start)
        elif self._type_start is not None and self._containers:
            self._containers[-1].item_type = self._unescaped_key(self._type_start)
        self._keep(_QUOTE)
        self._where = _Where.STRUCTURE
        return stop + 1

    def _unescaped_key(self, start: int) -> bytes:
        if len(self._residue) - start > self._longest_key_bytes:
            return b""
        key = bytes(self._residue[start:])
        if _BACKSLASH not in key:
            return key
        try:
            return str(orjson.loads(_QUOTE + key + _QUOTE)).encode()
        except orjson.JSONDecodeError:
            return b""  # `finish` will say so

    def _skip_string(self, chunk: bytes, at: int) -> int:
        stop = self._string_stop(chunk, at)
        if chunk[stop : stop + 1] != _QUOTE:
            self._held = chunk[stop:]
            return len(chunk)
        self._where = _Where.STRUCTURE
        return stop + 1

    @staticmethod
    def _string_stop(chunk: bytes, at: int) -> int:
        """Where the string ends: at its quote, at a lone backslash that ends the chunk, or with the chunk."""
        quote = chunk.find(_QUOTE, at)
        stop = len(chunk) if quote < 0 else quote
        if chunk.find(_BACKSLASH, at, stop) < 0:
            return stop
        match = _STRING.match(chunk, at)
        return match.end() if match else at

    # Audio: two searches and one decoding per chunk, whatever its size.

    def _read_audio(self, chunk: bytes, at: int, events: list[Event]) -> int:
        try:
            stop = self._read_piece(chunk, at, events)
            if chunk[stop : stop + 1] != _QUOTE:
                return len(chunk)
            self._check_whole()
        except _NotBase64 as error:
            events.append(ClipFailed(self._clips - 1, str(error)))
            self._held = b""
            self._where = _Where.SKIPPED
            return at
        events.append(ClipEnded(self._clips - 1))
        self._where = _Where.STRUCTURE
        return stop + 1

    def _read_piece(self, chunk: bytes, at: int, events: list[Event]) -> int:
        quote = chunk.find(_QUOTE, at)
        stop = len(chunk) if quote < 0 else quote
        if chunk.find(_BACKSLASH, at, stop) >= 0:
            return self._read_escaped(chunk, at, events)
        self._decode(memoryview(chunk)[at:stop], events)
        return stop

    def _read_escaped(self, chunk: bytes, at: int, events: list[Event]) -> int:
        match = _STRICT_STRING.match(chunk, at)
        stop = match.end() if match else at
        if chunk[stop : stop + 1] == _BACKSLASH:
            if len(chunk) - stop >= _ESCAPE_LENGTH:
                raise _NotBase64("it has a malformed escape")
            self._held = chunk[stop:]
        try:
            text = orjson.loads(_QUOTE + chunk[at:stop] + _QUOTE).encode("ascii")
        except ValueError:
            raise _NotBase64("it has a character outside the alphabet") from None
        self._decode(memoryview(text), events)
        return stop

    def _decode(self, piece: memoryview, events: list[Event]) -> None:
        if self._quad:
            missing = _QUAD - len(self._quad)
            self._quad += bytes(piece[:missing])
            if len(self._quad) < _QUAD:
                return
            self._decode_whole(memoryview(self._quad), events)
            piece = piece[missing:]
        whole_length = len(piece) - len(piece) % _QUAD
        self._decode_whole(piece[:whole_length], events)
        self._quad = bytes(piece[whole_length:])

    def _decode_whole(self, piece: memoryview, events: list[Event]) -> None:
        if not piece:
            return
        if self._padded:
            raise _NotBase64("it goes on after its padding")
        try:
            events.append(pybase64.b64decode(piece, validate=True))
        except ValueError:
            raise _NotBase64("it has a character outside the alphabet, or stray padding") from None
        self._padded = piece[-1] == _PAD

    def _check_whole(self) -> None:
        if self._quad:
            raise _NotBase64("its length is not a multiple of four")
