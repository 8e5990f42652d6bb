"""What an answer says of the deployment that gave it: well, busy, or broken. Pure.

Busy (429, 503) is a matter of waiting: it cools down for every worker, its tasks lose nothing. Broken is a
matter of trust: after so many faults in a row, or too many of the last ones, nothing is sent there for a
while, and then one call to see.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.db.deployments import WELL, Health
from gateway.errors import AttemptFault, ErrorCode, UpstreamError

#: Faults in a row that make a deployment broken,
FAULTS_IN_A_ROW = 5
#: or a share of its last calls, once there are enough of them.
FAULTS_LOOKED_AT = 20
FAULTS_SHARE = 0.5
FEWEST_LOOKED_AT = 10
#: Calls older than that say nothing of now.
FAULTS_LOOKED_BACK_S = 300

_FIRST_COOLING_S = 2.0
_LONGEST_COOLING_S = 60.0
_FIRST_BREAK_S = 10.0
_LONGEST_BREAK_S = 60.0
_DOUBLINGS = 10
# Theirs to mend. What storage would not take is ours, whatever became of the call.
_PROVIDERS = frozenset(
    {AttemptFault.BROKEN, AttemptFault.UNKNOWN, AttemptFault.NOT_SENT, AttemptFault.MISCONFIGURED}
)
_PROVIDERS_NAMES = frozenset(fault.value for fault in _PROVIDERS)


def is_providers(error: UpstreamError | None) -> bool:
    """Whether a call failed by a fault of the provider's."""
    return error is not None and error.fault in _PROVIDERS and error.code is not ErrorCode.STORAGE_FAILED


def after_answer(
    health: Health,
    error: UpstreamError | None,
    *,
    last_faults: Sequence[str | None],
    now_ms: int,
    jitter: float,
) -> Health:
    """``last_faults`` are those of its last calls, the newest first; ``jitter`` is in [0, 1)."""
    if error is not None and error.fault is AttemptFault.BUSY:
        return _cooled(health, error.retry_after_s, now_ms, jitter)
    if error is None or not is_providers(error):
        # It answered, be it a refusal. Storage's trouble comes after an answer too.
        return WELL
    faults = health.fault_count + 1
    is_broken = health.broken_until_ms is not None or _is_broken(error, faults, last_faults)
    if not is_broken or (health.broken_until_ms or 0) > now_ms:
        # In the latter case it is known already; this call had begun before.
        return replace(health, fault_count=faults)
    times = health.broken_count + 1
    pause_s = min(_LONGEST_BREAK_S, _FIRST_BREAK_S * (1 << min(times - 1, _DOUBLINGS)))
    broken_until_ms = now_ms + round(pause_s * (1 + jitter) / 2 * 1000)
    return replace(health, fault_count=faults, broken_count=times, broken_until_ms=broken_until_ms)


def _cooled(health: Health, retry_after_s: float | None, now_ms: int, jitter: float) -> Health:
    growing_s = min(_LONGEST_COOLING_S, _FIRST_COOLING_S * (1 << min(health.busy_count, _DOUBLINGS)))
    pause_s = growing_s * (1 + jitter) / 2 if retry_after_s is None else retry_after_s + jitter
    until_ms = max(health.cooling_until_ms, now_ms + round(pause_s * 1000))
    if health.cooling_until_ms > now_ms:
        # Calls that were under way together hear of the same trouble: it counts once.
        return health if retry_after_s is None else replace(health, cooling_until_ms=until_ms)
    return replace(health, cooling_until_ms=until_ms, busy_count=health.busy_count + 1)


def _is_broken(error: UpstreamError, faults: int, last_faults: Sequence[str | None]) -> bool:
    if error.fault is AttemptFault.MISCONFIGURED or faults >= FAULTS_IN_A_ROW:
        return True
    providers = sum(fault in _PROVIDERS_NAMES for fault in last_faults)
    return len(last_faults) >= FEWEST_LOOKED_AT and providers >= FAULTS_SHARE * len(last_faults)
