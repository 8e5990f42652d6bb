"""From an order (words, seed, length) to the bytes of a WAV file."""

import hashlib
from dataclasses import dataclass

import numpy as np

from gateway.emulator.music.accompaniment import (
    write_arpeggio,
    write_bass,
    write_comping,
    write_drums,
    write_pad,
)
from gateway.emulator.music.form import shape
from gateway.emulator.music.melody import write_melody
from gateway.emulator.music.performance import Performer
from gateway.emulator.music.plan import Plan, make_plan
from gateway.emulator.music.score import Note, Score
from gateway.emulator.music.theory import Chance
from gateway.emulator.music.voices import VOICES
from gateway.emulator.music.wav import wav_bytes

_SECONDS_PER_MINUTE = 60.0
_LEAST_TAIL_S = 1.8


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
    plan = plan_for(order)
    score = write_score(plan, order.frames / order.sample_rate_hz, _chance(order, "score"))
    performer = Performer(
        plan,
        frames=order.frames,
        rate_hz=order.sample_rate_hz,
        channels=order.channels,
        chance=_chance(order, "sound"),
    )
    return wav_bytes(performer.perform(score), order.sample_rate_hz)


def plan_for(order: Order) -> Plan:
    return make_plan(order.prompt, order.negative_prompt, _chance(order, "plan"))


def write_score(plan: Plan, seconds: float, chance: Chance) -> Score:
    """As many whole bars as fit before a last chord, which is left to ring."""
    bar_s = plan.beats * _SECONDS_PER_MINUTE / plan.bpm
    bars = shape(plan, max(0, int((seconds - _LEAST_TAIL_S) / bar_s)), chance)
    parts: dict[str, tuple[Note, ...]] = {}
    for role, voice in plan.parts.items():
        if role == "lead":
            notes = write_melody(plan, bars, VOICES[voice].centre, chance)
        elif role == "comp":
            notes = write_comping(plan, bars, chance)
        elif role == "pad":
            notes = write_pad(plan, bars)
        elif role == "arp":
            notes = write_arpeggio(plan, bars, chance)
        else:
            notes = write_bass(plan, bars, VOICES[voice].centre)
        parts[role] = tuple(notes)
    return Score(parts, tuple(write_drums(plan, bars, chance)))


def _chance(order: Order, purpose: str) -> Chance:
    """A stream of its own for each step, so that a change to one does not disturb the others."""
    words = f"{order.prompt}\0{order.negative_prompt}\0{order.seed}\0{purpose}"
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))
