"""What a call costs us at the provider, as far as can be known: the other side of the tenant's price. Pure.

Google bills what it makes. That calls it refuses are free is reported, not promised (vertex-facts §1.6), and
what became of a call whose answer was lost only Google knows. So a cost is an estimate; the provider's bill
is held against it, call by call. Should Google say otherwise, this is the one function to change.
"""

from gateway.errors import AttemptFault


def cost_of(fault: AttemptFault | None, *, asked: int, came: int, delivered: int, take_micros: int) -> int:
    """Micro-dollars for a call that ended so.

    ``came`` counts the takes whose audio arrived, usable or not; ``delivered`` those that were stored.
    """
    if fault is AttemptFault.UNKNOWN:
        # All of it may have been made before the answer was lost.
        takes = asked
    elif fault is AttemptFault.BROKEN:
        # Audio that is no use was made all the same; an error or an answer without audio was not.
        takes = came
    else:
        # Whole, or cut short by a refusal: what was refused is free.
        takes = delivered
    return takes * take_micros
