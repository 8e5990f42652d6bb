"""What callers say of the music, as the body of a request."""

from typing import Any, TypedDict


class Wishes(TypedDict, total=False):
    """Everything besides the prompt; what is left out is as the gateway has it."""

    seconds: int
    samples: int
    seed: int
    model: str
    negative_prompt: str
    format: str
    bitrate_kbps: int
    loudness_lufs: float
    webhook_url: str
    metadata: dict[str, str]


_SPELLED = {
    "seconds": "durationSeconds",
    "samples": "sampleCount",
    "format": "outputFormat",
    "bitrate_kbps": "bitrateKbps",
    "loudness_lufs": "loudnessLufs",
}


def body_of(prompt: str, wishes: Wishes) -> dict[str, Any]:
    said = {_SPELLED.get(name, name): value for name, value in wishes.items() if value is not None}
    return {"prompt": prompt, **said}
