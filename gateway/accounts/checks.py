"""What names, lists and limits of tenants and keys may be, and what is said of those that will not do."""

import re
from collections.abc import Iterable, Iterator

from gateway.accounts import keys
from gateway.accounts.calendar import is_zone
from gateway.errors import FieldError, InvalidRequest
from gateway.families.registry import KINDS
from gateway.model import ApiKey, AudioFormat, BudgetWindow, Tenant

NAME_CHARS = 100
TAGS = 20
TAG_CHARS = 50
MOST_OF_A_LIMIT = 1_000_000
MOST_MICROS = 10**15
MOST_DAYS = 36_500
#: Time that a task may be given to start.
SHORTEST_START_S = 5
LONGEST_START_S = 86_400
# Enough to tell an address from a slip; whether it exists only a message could tell.
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
_EMAIL_CHARS = 254


def require(faults: Iterable[FieldError]) -> None:
    """Raises `InvalidRequest` naming every fault, if there is one."""
    found = tuple(faults)
    if found:
        raise InvalidRequest(found)


def tenant_faults(tenant: Tenant) -> Iterator[FieldError]:
    yield from name_faults(tenant.name)
    if not is_zone(tenant.zone):
        yield FieldError(
            "zone", "unknown", f"{tenant.zone!r} is not a time zone; write one like Europe/Berlin."
        )
    if not 0 <= tenant.price_ppm <= MOST_MICROS:
        yield FieldError(
            "price_ppm", "out_of_range", f"must be 0 to {MOST_MICROS} millionths of list prices."
        )
    for limit in ("rpm", "max_concurrent", "max_queued", "weight"):
        yield from _count_faults(limit, getattr(tenant, limit), MOST_OF_A_LIMIT)
    yield from _count_faults("retention_days", tenant.retention_days, MOST_DAYS)
    yield from _count_faults("start_within_s", tenant.start_within_s, LONGEST_START_S, least=SHORTEST_START_S)
    yield from _choice_faults("allowed_models", tenant.allowed_models, KINDS)
    yield from _choice_faults("allowed_formats", tenant.allowed_formats, AudioFormat)
    if any(not 1 <= percent <= 100 for percent in tenant.warn_percents):  # noqa: PLR2004 - of a hundred
        yield FieldError("warn_percents", "out_of_range", "must each be 1 to 100.")


def key_faults(key: ApiKey) -> Iterator[FieldError]:
    yield from name_faults(key.name)
    if len(key.owner) > NAME_CHARS or not key.owner.isprintable():
        yield FieldError("owner", "invalid", f"must have at most {NAME_CHARS} printable characters.")
    yield from secret_faults("owner", key.owner)
    if len(key.tags) > TAGS:
        yield FieldError("tags", "too_long", f"must have at most {TAGS} entries.")
    if any(not 1 <= len(tag) <= TAG_CHARS or not tag.isprintable() for tag in key.tags):
        yield FieldError("tags", "invalid", f"must each have 1 to {TAG_CHARS} printable characters.")
    if not key.scopes:
        yield FieldError("scopes", "empty", "is empty; a key needs generate, read or both.")
    for limit in ("rpm", "max_queued"):
        yield from _count_faults(limit, getattr(key, limit), MOST_OF_A_LIMIT)
    yield from _choice_faults("allowed_models", key.allowed_models, KINDS)


def name_faults(name: str) -> Iterator[FieldError]:
    if not name or len(name) > NAME_CHARS or not name.isprintable():
        yield FieldError("name", "invalid", f"must have 1 to {NAME_CHARS} printable characters.")
    yield from secret_faults("name", name)


def secret_faults(field: str, text: str) -> Iterator[FieldError]:
    """What is kept in clear, and told in lists and in the audit log, must hold no key."""
    if keys.found_in(text):
        detail = "has an API key in it; take it out, and rotate that key if others could read this."
        yield FieldError(field, "contains_key", detail)


def email_faults(email: str) -> Iterator[FieldError]:
    yield from secret_faults("email", email)
    if len(email) > _EMAIL_CHARS or not email.isprintable() or not _EMAIL.fullmatch(email):
        yield FieldError("email", "invalid", f"{email!r} is not an address like ada@example.com.")


def budget_faults(window: BudgetWindow, limit_micros: int) -> Iterator[FieldError]:
    if not 0 <= limit_micros <= MOST_MICROS:
        yield FieldError(
            f"budgets.{window.value}", "out_of_range", "must be 0 or more, and below a billion dollars."
        )


def _count_faults(name: str, value: int | None, most: int, *, least: int = 1) -> Iterator[FieldError]:
    if value is not None and not least <= value <= most:
        yield FieldError(name, "out_of_range", f"must be {least} to {most}.")


def _choice_faults(name: str, chosen: tuple[str, ...] | None, known: Iterable[str]) -> Iterator[FieldError]:
    choices = [str(each) for each in known]
    for value in chosen or ():
        if value not in choices:
            yield FieldError(name, "unknown", f"{value!r} is not one of: {', '.join(choices)}.")
