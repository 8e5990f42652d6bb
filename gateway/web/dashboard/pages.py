"""Pages as HTML. Everything that is put into them is escaped, because Jinja is told to escape by default."""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from gateway.units import format_time, format_usd

_MINUS = "\N{MINUS SIGN}"
_NONE = "\N{EN DASH}"
_MINUTE_S = 60
_KIB = 1024


class Pages:
    """Renders the templates in ``templates/``."""

    def __init__(self, asset_url: Callable[[str], str], shared: Mapping[str, Any]) -> None:
        self._environment = Environment(
            loader=PackageLoader("gateway.web.dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(
            usd=dollars, moment=format_time, short_moment=short_moment, seconds=seconds, size=size
        )
        self._environment.globals.update(shared, asset=asset_url)

    def render(
        self,
        template: str,
        values: Mapping[str, Any],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        text = self._environment.get_template(template).render(values)
        return HTMLResponse(text, status, dict(headers or {}))


def dollars(micros: int | None) -> str:
    """Exact: 60000 → "$0.06", -60000 → the same with a minus before it; a dash where there is none."""
    if micros is None:
        return _NONE
    return f"{_MINUS if micros < 0 else ''}${format_usd(abs(micros))}"


def short_moment(ms: int | None) -> str:
    """For people, in UTC, to the second; scripts show it in the reader's own zone."""
    text = format_time(ms)
    return _NONE if text is None else f"{text[:10]} {text[11:19]} UTC"


def seconds(value: float | None) -> str:
    """A length of music: 32.8 → "32.8 s", 95 → "1:35"."""
    if value is None:
        return _NONE
    if value < _MINUTE_S:
        return f"{value:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(value), _MINUTE_S)
    return f"{minutes}:{rest:02d}"


def size(size_bytes: int) -> str:
    """6291456 → "6.0 MiB"."""
    value, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < _KIB:
            break
        value, unit = value / _KIB, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
