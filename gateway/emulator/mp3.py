"""A WAV as MP3, 192 kbit/s, with a tag in front that holds a made-up manifest, as Google's songs have one."""

import io
import tempfile

_MANIFEST_BYTES = 3000
#: What libsndfile makes 192 kbit/s of.
_LEVEL = (320 - 192) / (320 - 32)
_SYNC_SAFE_BITS = 7


def mp3_bytes(wav: bytes) -> bytes:
    """The whole file; the same WAV gives the same bytes."""
    # With the first song only: who plays no songs does without.
    import soundfile  # noqa: PLC0415 - see above

    samples, rate_hz = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
    # A file: in memory the library would call back into Python for every write.
    with tempfile.TemporaryFile() as file:
        with soundfile.SoundFile(
            file.fileno(), "w", samplerate=rate_hz, channels=samples.shape[1], format="MP3",
            bitrate_mode="CONSTANT", compression_level=_LEVEL, closefd=False,
        ) as sound:  # fmt: skip
            for at in range(0, len(samples), rate_hz):
                sound.write(samples[at : at + rate_hz])
        file.seek(0)
        return _tag() + file.read()


def _tag() -> bytes:
    """ID3v2.4 with one GEOB frame: encoding, MIME type, file name, description, object."""
    manifest = (b"this is no manifest, only its size " * 100)[:_MANIFEST_BYTES]
    body = b"\0application/x-c2pa-manifest-store\0\0c2pa\0" + manifest
    frame = b"GEOB" + _sync_safe(len(body)) + b"\0\0" + body
    return b"ID3\x04\x00\x00" + _sync_safe(len(frame)) + frame


def _sync_safe(size: int) -> bytes:
    mask = (1 << _SYNC_SAFE_BITS) - 1
    return bytes(size >> shift * _SYNC_SAFE_BITS & mask for shift in (3, 2, 1, 0))
