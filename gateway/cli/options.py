"""Options that commands share, above all what may be said of a tenant or a key, to create and update it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from gateway.cli.money import FACTOR
from gateway.cli.values import DURATION, MOMENT, OrNone, Said
from gateway.families.registry import KINDS
from gateway.model import AudioFormat, Scope

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

_COUNT = click.IntRange(min=1)
_COUNT_OR_NONE = OrNone(_COUNT)
# As text: of enumerations click takes the names of the members.
_FORMATS, _SCOPES = ([each.value for each in kind] for kind in (AudioFormat, Scope))
_MODELS = list(KINDS)
_DEFAULT_PAGE = 100

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes = click.option("--yes", is_flag=True, help="Do it without asking.")
limit = click.option(
    "--limit", type=_COUNT, default=_DEFAULT_PAGE, show_default=True, metavar="N", help="How many at most."
)


def _list(lifted: tuple[()] | None) -> Callable[[click.Context, click.Parameter, Any], Said[Any] | None]:
    """The values of a repeated option as one; ``lifted`` is what none makes of it."""

    def gather(ctx: click.Context, param: click.Parameter, values: Sequence[Said[Any]]) -> Said[Any] | None:
        plain = tuple(dict.fromkeys(each.value for each in values))
        if None in plain and len(plain) > 1:
            raise click.BadParameter("none cannot stand beside other values.", ctx, param)
        if not plain:
            return None
        return Said(lifted if plain == (None,) else plain)

    return gather


def _scopes(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> frozenset[Scope] | None:
    return frozenset(map(Scope, values)) or None


_MODEL = click.option(
    "--model", "allowed_models", type=OrNone(click.Choice(_MODELS)), multiple=True, metavar="MODEL",
    callback=_list(None),
    help=f"A model that may be used ({', '.join(_MODELS)}); repeat it for several; none: any.",
)  # fmt: skip

_TENANT: tuple[Decorator[Any], ...] = (
    click.option(
        "--rpm", type=_COUNT_OR_NONE, metavar="N",
        help="Requests a minute for all keys together; none: unlimited.",
    ),
    click.option(
        "--max-concurrent", type=_COUNT_OR_NONE, metavar="N", help="Tasks running at once; none: unlimited."
    ),
    click.option(
        "--max-queued", type=_COUNT_OR_NONE, metavar="N",
        help="Tasks waiting; none: GATEWAY_DEFAULT_MAX_QUEUED.",
    ),
    click.option("--weight", type=_COUNT, metavar="W", help="Share of the workers; 1 at first."),
    click.option("--zone", help="Where its days and months begin; UTC at first."),
    click.option(
        "--price-multiplier", "price_ppm", type=FACTOR, metavar="F", help="Of list prices; 1 at first."
    ),
    _MODEL,
    click.option(
        "--format", "allowed_formats", type=OrNone(click.Choice(_FORMATS)), multiple=True,
        metavar="FORMAT", callback=_list(None),
        help=f"A format that may be had ({', '.join(_FORMATS)}); repeat it for several; none: any.",
    ),
    click.option(
        "--retention-days", type=_COUNT_OR_NONE, metavar="N",
        help="Days from a task's end until it is deleted, audio and prompt; none: never.",
    ),
    click.option(
        "--start-within", "start_within_s", type=OrNone(DURATION), metavar="DURATION",
        help="Time its tasks have to be started, like 90s or 10m; none: GATEWAY_TASK_TIMEOUT_S.",
    ),
    click.option(
        "--warn-at", "warn_percents", type=OrNone(click.IntRange(1, 100)), multiple=True, metavar="PERCENT",
        callback=_list(()),
        help="Share of a budget to warn at, 80 and 100 at first; repeat it for several; none: never.",
    ),
)  # fmt: skip

_KEY: tuple[Decorator[Any], ...] = (
    click.option("--owner", help="Whose it is."),
    click.option(
        "--tag", "tags", type=OrNone(click.STRING), multiple=True, callback=_list(()),
        help="A word to find it by; repeat it for several; none: no tags.",
    ),
    click.option(
        "--scope", "scopes", type=click.Choice(_SCOPES), multiple=True, callback=_scopes,
        help="What it is good for; repeat it for both, which it has at first.",
    ),
    _MODEL,
    click.option(
        "--rpm", type=_COUNT_OR_NONE, metavar="N", help="Requests a minute; none: GATEWAY_DEFAULT_RPM."
    ),
    click.option(
        "--max-queued", type=_COUNT_OR_NONE, metavar="N", help="Tasks waiting; none: as its tenant."
    ),
    click.option(
        "--expires-in", "expires_in_s", type=OrNone(DURATION), metavar="DURATION",
        help="When it ends from now on, like 12h or 90d; none: never.",
    ),
    click.option(
        "--expires-at", "expires_at_ms", type=OrNone(MOMENT), metavar="TIME",
        help="When it ends, like 2027-01-31T18:00:00Z; none: never.",
    ),
)  # fmt: skip


def tenant_terms(command: Command) -> Command:
    return decorated(command, _TENANT)


def key_terms(command: Command) -> Command:
    return decorated(command, _KEY)


def said(options: Mapping[str, Any]) -> dict[str, Any]:
    """The terms that were named, as services take them; an option that was left out says nothing."""
    return {
        name: value.value if isinstance(value, Said) else value
        for name, value in options.items()
        if value is not None
    }


def said_of_key(options: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """Likewise for a key, whose end may be named in two ways."""
    terms = said(options)
    if "expires_in_s" in terms:
        if "expires_at_ms" in terms:
            raise click.UsageError("Say --expires-in or --expires-at, not both.")
        after_s = terms.pop("expires_in_s")
        terms["expires_at_ms"] = None if after_s is None else now_ms + after_s * 1000
    return terms


def require_some(terms: Mapping[str, Any]) -> None:
    """An update that names nothing is a slip."""
    if not terms:
        raise click.UsageError("Nothing to change; name what with an option.")


def decorated(command: Command, options: Sequence[Decorator[Any]]) -> Command:
    """The command with these options, in this order."""
    for option in reversed(options):
        command = option(command)
    return command
