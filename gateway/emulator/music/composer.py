"""From an order (words, seed, length) to the bytes of a WAV file."""

import hashlib
from dataclasses import dataclass

import numpy as np

from gateway.emulator.music.wav import wav_bytes


@dataclass(frozen=True, slots=True)
class Order:
    """What to compose. Equal orders give equal bytes. ``frames`` is exact."""

    prompt: str
    negative_prompt: str
    seed: int
    frames: int
    sample_rate_hz: int
    channels: int


def compose(order: Order) -> bytes:
    """A whole WAV file, 16-bit PCM."""
    digest = hashlib.sha256(f"{order.prompt}\0{order.negative_prompt}\0{order.seed}".encode()).digest()
    chance = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))
    time = np.arange(order.frames) / order.sample_rate_hz
    tone = sum(np.sin(2 * np.pi * 220 * 2 ** (chance.integers(0, 12) / 12) * time) for _ in range(3)) / 4
    return wav_bytes(np.tile(tone, (order.channels, 1)), order.sample_rate_hz)
