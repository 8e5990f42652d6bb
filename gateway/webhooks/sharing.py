"""Whose messages go out next: a few at a time for each receiver, and for each tenant. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.db.deliveries import DueLane


@dataclass(frozen=True, slots=True)
class Caps:
    """How many tries a process has under way: in all, for a tenant, and in a lane.

    A receiver that takes 15 s to fail holds four; a tenant all of whose receivers do holds half of them.
    """

    total: int = 32
    tenant: int = 16
    lane: int = 4


def share_out(due: Sequence[DueLane], running: Mapping[str, int], caps: Caps) -> dict[str, int]:
    """How many to take from each lane, given what runs in each: in turns, the longest overdue first."""
    lanes = Counter(running)
    tenants: Counter[str] = Counter()
    for lane, count in running.items():
        tenants[_tenant_of(lane)] += count
    free = caps.total - lanes.total()
    shares: Counter[str] = Counter()
    for _ in range(caps.lane):
        for lane in (found.lane for found in due):
            tenant = _tenant_of(lane)
            if free > 0 and lanes[lane] < caps.lane and tenants[tenant] < caps.tenant:
                lanes[lane] += 1
                tenants[tenant] += 1
                shares[lane] += 1
                free -= 1
    return dict(shares)


def _tenant_of(lane: str) -> str:
    return lane.partition(":")[0]
