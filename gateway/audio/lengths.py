"""How many takes a length needs, and whether those that came are enough. Pure."""

import math
from collections.abc import Sequence

#: Takes overlap by at least this much where they are joined.
LEAST_OVERLAP_S = 0.5
#: A take that comes out so much shorter than it should is made up for by silence.
SLACK_S = 0.5


def takes_for(take_s: float, duration_s: int) -> int:
    """How many takes of this length, overlapping, reach ``duration_s``."""
    if duration_s <= take_s:
        return 1
    return math.ceil((duration_s - LEAST_OVERLAP_S) / (take_s - LEAST_OVERLAP_S))


def enough(lengths_s: Sequence[float], duration_s: int) -> bool:
    """Whether takes of these lengths reach ``duration_s`` together."""
    if not lengths_s:
        return False
    return sum(lengths_s) - (len(lengths_s) - 1) * LEAST_OVERLAP_S >= duration_s - SLACK_S
