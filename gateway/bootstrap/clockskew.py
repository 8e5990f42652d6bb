"""How far this machine's clock is from somebody else's, by the Date of an answer."""

from email.utils import parsedate_to_datetime

import httpx

from gateway.findings import Finding, Outcome
from gateway.ports import Clock

#: Signed links, leases and deadlines bear this much.
MOST_SKEW_S = 5.0
# A Date is cut to its second.
_HALF_SECOND_S = 0.5


async def find_skew(
    http: httpx.AsyncClient, url: str, clock: Clock, check: str, tried: str, timeout_s: float
) -> Finding:
    """A warning above `MOST_SKEW_S`, and where nobody could be asked; others say what that is about."""
    sent_s, began_ms = clock.monotonic_s(), clock.now_ms()
    try:
        response = await http.head(url, timeout=timeout_s)
        told = parsedate_to_datetime(response.headers["date"])
    except (httpx.RequestError, KeyError, ValueError) as error:
        found = f"no time was told ({type(error).__name__})"
        return Finding(check, Outcome.WARNING, tried, found, "See this machine's way out, and its clock.")
    took_s = clock.monotonic_s() - sent_s
    skew_s = began_ms / 1000 + took_s / 2 - told.timestamp() - _HALF_SECOND_S
    if abs(skew_s) <= MOST_SKEW_S:
        return Finding(check, Outcome.OK, tried, f"within {MOST_SKEW_S:g} s of it")
    which = "ahead" if skew_s > 0 else "behind"
    advice = "Set it by NTP: signed links, leases and deadlines go by it."
    return Finding(check, Outcome.WARNING, tried, f"this machine is {abs(skew_s):.0f} s {which}", advice)
