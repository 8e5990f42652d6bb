"""Forms as the bodies that the API takes: what was left empty is not said, numbers are numbers."""

import re
from collections.abc import Iterable
from typing import Any

from gateway.errors import FieldError, InvalidRequest
from gateway.model import BudgetWindow
from gateway.units import MICROS_PER_USD, format_usd, parse_millionths
from gateway.web.dashboard.forms import Form

_WHOLE = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)


def body_of(
    form: Form, texts: Iterable[str] = (), numbers: Iterable[str] = (), decimals: Iterable[str] = ()
) -> dict[str, Any]:
    """The named fields that are not empty. What is no number stays text, for the schema to refuse by name."""
    body: dict[str, Any] = {name: text for name in texts if (text := form.text(name))}
    for name in numbers:
        if text := form.text(name):
            body[name] = int(text) if _WHOLE.fullmatch(text) else text
    for name in decimals:
        if text := form.text(name):
            body[name] = float(text) if _DECIMAL.fullmatch(text) else text
    return body


def limits_of(form: Form, names: Iterable[str]) -> dict[str, Any]:
    """Numbers that an empty field lifts: null is a value of its own."""
    return {name: body_of(form, numbers=(name,)).get(name) for name in names}


def micros_of(form: Form, name: str) -> int | None:
    """A field of dollars, exactly; None when it is empty. Raises `InvalidRequest`."""
    text = form.text(name).removeprefix("$").replace(",", "")
    if not text:
        return None
    try:
        return parse_millionths(text)
    except ValueError:
        detail = "is dollars with at most six places, like 25 or 0.06."
        raise InvalidRequest((FieldError(name, "wrong_type", detail),)) from None


def budgets_of(form: Form) -> dict[BudgetWindow, int | None]:
    """``budget_day``, ``budget_month`` and ``budget_total`` in dollars; empty is unlimited."""
    return {window: micros_of(form, f"budget_{window.value}") for window in BudgetWindow}


def plain_usd(micros: int | None) -> str:
    """For a field of a form: 25000000 → "25"."""
    if micros is None:
        return ""
    whole, rest = divmod(abs(micros), MICROS_PER_USD)
    return str(whole if micros >= 0 else -whole) if not rest else format_usd(micros)
