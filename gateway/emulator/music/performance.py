"""Playing a score: every note in its voice, every drum of its kit, with the small unevenness of people."""

from collections.abc import Sequence

import numpy as np

from gateway.emulator.music.drumkit import KITS, strike
from gateway.emulator.music.mixing import (
    Desk,
    Finish,
    crackle,
    driven,
    finish,
    place,
    pumped,
    trembling,
    with_echo,
)
from gateway.emulator.music.plan import Plan
from gateway.emulator.music.score import Beat, Note, Score
from gateway.emulator.music.synth import Signal
from gateway.emulator.music.theory import Chance
from gateway.emulator.music.voices import VOICES, play

#: Level, place between left and right, and share of the room, by role.
_PLACES = {
    "lead": (0.62, 0.08, 0.9),
    "comp": (0.48, -0.22, 0.7),
    "pad": (0.32, 0.0, 1.0),
    "arp": (0.42, 0.34, 1.0),
    "bass": (0.9, 0.0, 0.06),
}
_KICK_LEVEL = 0.75
_DRUM_LEVEL = 1.0
_DRUM_ROOM = 0.22
_ROOMLESS_DRUMS = {"kick"}

_ECHOING = {"saw_lead", "square_lead", "synth_pluck", "glass_bells", "lead_guitar", "supersaw", "kalimba"}
_DRIVEN = {"distorted_guitar": 2.6, "lead_guitar": 2.0}
_TREMBLING = {"electric_piano": (4.6, 0.22), "vibraphone": (5.2, 0.25)}

_HARD = 0.8
_UNEVEN_S = 0.005
_STEPS_PER_BEAT = 4


class Performer:
    """Plays one plan at one sample rate. Sounds are made once and used again."""

    def __init__(self, plan: Plan, *, frames: int, rate_hz: int, channels: int, chance: Chance) -> None:
        self._plan = plan
        self._frames = frames
        self._rate_hz = rate_hz
        self._channels = channels
        self._chance = chance
        self._beat_s = 60.0 / plan.bpm

    def perform(self, score: Score) -> Signal:
        """The finished piece, shape (channels, frames)."""
        desk = Desk(self._channels, self._frames, self._rate_hz)
        style = self._plan.style
        kicks = [self._frame(beat.at, 0.0) for beat in score.drums if beat.drum == "kick"]
        for role, notes in score.parts.items():
            part = self._part(role, notes)
            if style.pumping and role != "lead" and kicks:
                part = pumped(part, kicks, self._rate_hz, style.pumping)
            level, _, room = _PLACES[role]
            desk.add(part, level=level, room=room)
        if score.drums:
            self._drums(desk, score.drums)
        if style.vinyl:
            dust = crackle(self._frames, self._rate_hz, self._chance) * np.float32(0.35 * style.vinyl)
            desk.add(np.broadcast_to(dust, desk.dry.shape), level=1.0, room=0.0)
        how = Finish(
            reverb_s=style.reverb_s,
            reverb_level=self._plan.reverb_level,
            dark=style.dark,
            rms_db=-21.5 + 6.5 * self._plan.loudness,
            fade_s=min(2.4, 0.2 * self._frames / self._rate_hz),
        )
        return finish(desk, how, self._chance)

    def _part(self, role: str, notes: Sequence[Note]) -> Signal:
        name = self._plan.parts[role]
        _, pan, _ = _PLACES[role]
        buffer = np.zeros((self._channels, self._frames), np.float32)
        made: dict[tuple[int, float, bool], Signal] = {}
        for note in notes:
            start = self._frame(note.at, self._uneven())
            hard = note.force > _HARD
            key = (note.pitch, round(note.length, 3), hard)
            if key not in made:
                made[key] = play(
                    VOICES[name],
                    note.pitch,
                    note.length * self._beat_s,
                    hard=hard,
                    rate_hz=self._rate_hz,
                    channels=self._channels,
                    chance=self._chance,
                )
            gain = note.force**1.3 * float(self._chance.uniform(0.93, 1.07))
            place(buffer, made[key], start, gain, pan)
        return self._coloured(name, buffer)

    def _coloured(self, name: str, part: Signal) -> Signal:
        if name in _DRIVEN:
            part = driven(part, _DRIVEN[name], self._rate_hz)
        if name in _TREMBLING:
            speed_hz, depth = _TREMBLING[name]
            part = trembling(part, self._rate_hz, speed_hz, depth)
        if name in _ECHOING:
            part = with_echo(part, round(0.75 * self._beat_s * self._rate_hz), 0.34)
        return part

    def _drums(self, desk: Desk, drums: Sequence[Beat]) -> None:
        kit = KITS[self._plan.kit]
        made: dict[str, Signal] = {}
        near = np.zeros_like(desk.dry)
        far = np.zeros_like(desk.dry)
        for beat in drums:
            if beat.drum not in made:
                made[beat.drum] = strike(kit[beat.drum], self._rate_hz, self._chance)[None, :]
            start = self._frame(beat.at, self._uneven() * 0.6)
            gain = beat.force**1.5 * float(self._chance.uniform(0.92, 1.08))
            bus = near if beat.drum in _ROOMLESS_DRUMS else far
            place(bus, made[beat.drum], start, gain, kit[beat.drum].pan)
        desk.add(near, level=_KICK_LEVEL, room=0.0)
        desk.add(far, level=_DRUM_LEVEL, room=_DRUM_ROOM)

    def _frame(self, at: float, late_s: float) -> int:
        """The frame of a moment in beats, with the style's swing."""
        style = self._plan.style
        step = round(at * _STEPS_PER_BEAT)
        swung = at
        if step % _STEPS_PER_BEAT == _STEPS_PER_BEAT // 2:
            swung += style.swing8
        elif step % 2:
            swung += style.swing16
        return max(0, round((swung * self._beat_s + late_s) * self._rate_hz))

    def _uneven(self) -> float:
        return float(np.clip(self._chance.normal(0.0, 1.0), -2.0, 2.0)) * _UNEVEN_S * self._plan.style.human
