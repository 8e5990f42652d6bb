"""What the emulator remembers while it runs: its settings, its queue of faults, its log of calls."""

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any

from gateway.emulator.calls import CallLog
from gateway.emulator.faults import FaultQueue

LYRIA_SECONDS = 32.8
LYRIA3_CLIP_SECONDS = 30.0
LYRIA3_PRO_SECONDS = 184.0

_SHAPES = ("steps", "outputs", "alternate")
#: How many bytes an endpoint takes and answers, by its kind.
ENDPOINT_CAPS: dict[str, int | None] = {"none": None, "shared": 1_500_000, "dedicated": 10_000_000}

#: Prompts that Lyria 2 is known to block now and then as recitation.
WELL_KNOWN_PHRASES = ("single piano note c major", "in the style of hans zimmer")

_LONGEST_LYRIA_S = 300.0


class SettingRefused(Exception):
    """A setting that makes no sense; the text says why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be changed while it runs, through ``POST /control/settings``.

    ``latency_s`` seconds before every answer · ``lyria_seconds`` length of a Lyria 2 clip (32.8 at Google;
    less keeps tests quick) · ``lyria3_clip_seconds`` the same of Lyria 3 Clip, ``lyria3_pro_seconds`` the
    longest of Lyria 3 Pro · ``interactions_shape`` of their answers: steps, outputs, or alternate ·
    ``endpoint_kind`` none, shared or dedicated: how much an endpoint may answer · ``default_seed`` the seed
    of clips that were asked for without one: null draws a fresh one for each, a number makes repeated calls
    repeat their audio (and so come from the cache, for load tests)
    """

    latency_s: float = 0.0
    lyria_seconds: float = LYRIA_SECONDS
    lyria3_clip_seconds: float = LYRIA3_CLIP_SECONDS
    lyria3_pro_seconds: float = LYRIA3_PRO_SECONDS
    interactions_shape: str = "steps"
    endpoint_kind: str = "none"
    default_seed: int | None = None


@dataclass(slots=True)
class Desk:
    """Everything a handler may need to know. Only the event loop's thread touches it."""

    settings: Settings
    require_token: bool = False
    faults: FaultQueue = field(default_factory=FaultQueue)
    calls: CallLog = field(default_factory=CallLog)
    _recited: set[str] = field(default_factory=set)

    def recites(self, prompt: str, seed: int | None) -> bool:
        """Whether recitation checks block this call.

        The rule, simple so that a test can rely on it: a prompt that holds one of `WELL_KNOWN_PHRASES` is
        blocked the first time it comes without a seed, and passes after that, and with any seed.
        """
        if seed is not None or not any(phrase in prompt.lower() for phrase in WELL_KNOWN_PHRASES):
            return False
        digest = digest_of(prompt)
        seen = digest in self._recited
        self._recited.add(digest)
        return not seen

    def forget_calls(self) -> None:
        self.calls.clear()
        self._recited.clear()


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def changed_settings(settings: Settings, document: Any) -> Settings:
    """``settings`` with the named ones replaced. Raises `SettingRefused`."""
    current = {entry.name: getattr(settings, entry.name) for entry in fields(Settings)}
    if not isinstance(document, dict) or not set(document) <= set(current):
        raise SettingRefused(f"Settings are a JSON object of: {', '.join(current)}.")
    wanted = current | document
    if not _is_number(wanted["latency_s"]) or wanted["latency_s"] < 0:
        raise SettingRefused("latency_s must be a number of seconds, at least 0.")
    for name in ("lyria_seconds", "lyria3_clip_seconds", "lyria3_pro_seconds"):
        if not _is_number(wanted[name]) or not 0 < wanted[name] <= _LONGEST_LYRIA_S:
            raise SettingRefused(f"{name} must be a number of seconds, above 0 and at most 300.")
    for name, choices in (("interactions_shape", _SHAPES), ("endpoint_kind", ENDPOINT_CAPS)):
        if wanted[name] not in choices:
            raise SettingRefused(f"{name} must be one of: {', '.join(choices)}.")
    seed = wanted["default_seed"]
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise SettingRefused("default_seed must be null or an integer, at least 0.")
    return Settings(**wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
