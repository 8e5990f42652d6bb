"""Audio as a listener would judge it: can it be played, how long is it, is there anything to hear?"""

import io
from dataclasses import dataclass

import httpx
import numpy as np
import soundfile


@dataclass(frozen=True)
class Heard:
    seconds: float
    sample_rate_hz: int
    channels: int
    #: Root mean square of all samples, full scale being 1.
    loudness: float
    file_format: str


def listen(url: str) -> Heard:
    """Download and decode. Raises when it is not there or cannot be played."""
    response = httpx.get(url, timeout=60, trust_env=False).raise_for_status()
    with soundfile.SoundFile(io.BytesIO(response.content)) as sound:
        samples = sound.read(dtype="float32", always_2d=True)
        return Heard(
            seconds=len(samples) / sound.samplerate,
            sample_rate_hz=sound.samplerate,
            channels=sound.channels,
            loudness=float(np.sqrt(np.mean(np.square(samples)))),
            file_format=f"{sound.format} {sound.subtype}",
        )
