"""What kind of audio begins so? From the first bytes alone, for the event loop."""

from gateway.model import AudioFormat

#: So many bytes are enough to tell.
HEAD_BYTES = 36

_OGG, _OPUS = b"OggS", b"OpusHead"
_SYNC_MASK = 0xE0
_NO_LAYER = 0x06


def sniff(head: bytes) -> AudioFormat | None:
    """The format of a file that begins with ``head``, None for no audio that we know."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return AudioFormat.WAV
    if head[:4] == b"fLaC":
        return AudioFormat.FLAC
    if head[:4] == _OGG:
        return AudioFormat.OPUS if head[28:36] == _OPUS else AudioFormat.OGG
    if head[:3] == b"ID3":
        return AudioFormat.MP3
    if len(head) > 1 and head[0] == 0xFF and head[1] & _SYNC_MASK == _SYNC_MASK and head[1] & _NO_LAYER:  # noqa: PLR2004
        return AudioFormat.MP3
    return None
