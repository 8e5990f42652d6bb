"""Does a WAV hold as much sound as its header says? What reads it would quietly take less.

Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" (RIFF, WAVE).
"""

import os
import struct

_HEAD_BYTES = 64 << 10
_RIFF_BYTES, _CHUNK_BYTES = 12, 8
#: Writers that cannot seek back leave 0, 0xFFFFFFFF or nearly 2 GiB where the length belongs.
_STREAMED_FROM_BYTES = 0x7FFF_0000


def missing_bytes(fd: int) -> int:
    """How many bytes of sound a WAV claims beyond its end; 0 also where the header leaves that open."""
    head, size_bytes, at = os.pread(fd, _HEAD_BYTES, 0), os.fstat(fd).st_size, _RIFF_BYTES
    while at + _CHUNK_BYTES <= len(head):
        name, length = struct.unpack_from("<4sI", head, at)
        at += _CHUNK_BYTES
        if name == b"data":
            open_ended = length == 0 or length >= _STREAMED_FROM_BYTES
            return 0 if open_ended else max(0, at + length - size_bytes)
        at += length + length % 2
    return 0
