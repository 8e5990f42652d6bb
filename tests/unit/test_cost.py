"""What a call costs at the provider, for every way in which it may end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AttemptFault
from gateway.tasks.cost import cost_of

CLIP = 43_000


@pytest.mark.parametrize(
    ("fault", "came", "delivered", "clips"),
    [
        # Four clips were asked for.
        (None, 4, 4, 4),
        (AttemptFault.UNKNOWN, 0, 0, 4),
        (AttemptFault.UNKNOWN, 2, 1, 4),
        (AttemptFault.BROKEN, 0, 0, 0),
        (AttemptFault.BROKEN, 3, 3, 3),
        (AttemptFault.BROKEN, 3, 2, 3),
        (AttemptFault.BROKEN, 1, 0, 1),
        (AttemptFault.RECITATION, 0, 0, 0),
        (AttemptFault.RECITATION, 3, 3, 3),
        (AttemptFault.REFUSED, 0, 0, 0),
        (AttemptFault.REFUSED, 1, 1, 1),
        (AttemptFault.BUSY, 0, 0, 0),
        (AttemptFault.NOT_SENT, 0, 0, 0),
        (AttemptFault.MISCONFIGURED, 0, 0, 0),
    ],
)
def test_a_call_costs_what_was_or_may_have_been_made(
    fault: AttemptFault | None, came: int, delivered: int, clips: int
) -> None:
    assert cost_of(fault, asked=4, came=came, delivered=delivered, take_micros=CLIP) == clips * CLIP


@given(st.none() | st.sampled_from(AttemptFault), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_a_cost_is_between_what_was_delivered_and_what_was_asked(
    fault: AttemptFault | None, asked: int, came: int, delivered: int
) -> None:
    asked, came, delivered = sorted((asked, came, delivered), reverse=True)
    cost = cost_of(fault, asked=asked, came=came, delivered=delivered, take_micros=CLIP)
    assert delivered * CLIP <= cost <= asked * CLIP
