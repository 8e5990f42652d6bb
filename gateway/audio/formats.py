"""Audio formats as callers and browsers know them. Cheap to import: requests are checked against it."""

from collections.abc import Mapping

from gateway.model import AudioFormat

#: Constant rates of MP3; of the others what the encoder aims at. WAV and FLAC have no choice.
BITRATES_KBPS: Mapping[AudioFormat, tuple[int, ...]] = {
    AudioFormat.MP3: (64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    AudioFormat.OGG: (80, 96, 112, 128, 160, 192, 224, 256, 320),
    AudioFormat.OPUS: (32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256),
}
DEFAULT_BITRATE_KBPS: Mapping[AudioFormat, int] = {
    AudioFormat.MP3: 192,
    AudioFormat.OGG: 160,
    AudioFormat.OPUS: 128,
}
MIME_TYPES: Mapping[AudioFormat, str] = {
    AudioFormat.WAV: "audio/wav",
    AudioFormat.FLAC: "audio/flac",
    AudioFormat.MP3: "audio/mpeg",
    AudioFormat.OGG: "audio/ogg",
    AudioFormat.OPUS: "audio/ogg; codecs=opus",
}
