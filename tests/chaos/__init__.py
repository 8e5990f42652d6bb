"""Several gateways on one PostgreSQL behind a balancer, while everything around them breaks.

``callers`` ask for music as careful callers do, ``harm`` does what data centres do, ``books`` add it all up
in the end, and ``scenario`` puts them together. A short form is `tests/system/test_chaos.py`; the long one
is ``make soak``, or ``python -m tests.chaos``. Nothing here imports gateway.
"""
