"""Which seed makes which clip: clip i of a task has the caller's seed plus i, in 32 bits."""

SEED_COUNT = 1 << 32


def seed_of(seed: int, clip_index: int) -> int:
    """Clips of a task keep their seeds whichever of them are asked for again."""
    return (seed + clip_index) % SEED_COUNT
