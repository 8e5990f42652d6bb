"""From a request to paid calls: which model, how many takes, at what price. Pure; known before it runs."""

import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.audio.formats import BITRATES_KBPS
from gateway.audio.lengths import takes_for
from gateway.errors import FieldError, InvalidRequest
from gateway.families.family import Traits
from gateway.families.registry import FAMILIES
from gateway.model import AudioFormat, Deployment, ModelKind, MusicSpec, Route
from gateway.tasks.catalog import DEFAULT_DURATION_S, Catalog


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request is served. ``price_micros`` is the list price of it all; ``calls`` if none fails."""

    deployment: Deployment
    spec: MusicSpec
    calls: int
    audio_format: AudioFormat

    @property
    def price_micros(self) -> int:
        return self.deployment.price_micros * self.spec.takes * self.spec.sample_count


def make_plan(
    catalog: Catalog,
    spec: MusicSpec,
    route: Route,
    *,
    model: str | None = None,
    allowed: Collection[str] | None = None,
    broken: Collection[str] = (),
) -> Plan:
    """The best way to serve a request of a caller who may use the ``allowed`` models, None being all.

    A model whose deployments are all ``broken`` is taken only where it is named, or no other can.

    Raises `InvalidRequest` when no model can do what is asked, and as `Catalog.candidates`.
    """
    candidates = catalog.candidates(route, model, allowed)
    if route is Route.STANDARD and spec.duration_s is None:
        spec = replace(spec, duration_s=DEFAULT_DURATION_S)
    able = [d for d in candidates if not any(_obstacles(d.kind, spec))]
    if not able:
        raise InvalidRequest(_all_obstacles(candidates, spec))
    well = [d for d in able if any(each.name not in broken for each in catalog.of_kind(d.kind))]
    plans = [_plan(deployment, spec) for deployment in well or able]
    plan = (
        min(plans, key=lambda p: catalog.rank(p.deployment.kind, p.price_micros, p.spec.takes))
        if (model is None and len(plans) > 1)
        else plans[0]
    )
    _check_bitrate(plan)
    return plan


def format_of(kind: ModelKind, spec: MusicSpec) -> AudioFormat:
    """What the audio will be: as asked, or as the model makes it."""
    return spec.audio_format or FAMILIES[kind].traits.native


def take_count(spec: MusicSpec) -> int:
    """All takes of a task as it was planned."""
    return spec.takes * spec.sample_count


def _plan(deployment: Deployment, spec: MusicSpec) -> Plan:
    family = FAMILIES[deployment.kind]
    takes = 1 if spec.duration_s is None else takes_for(family.traits.longest_s, spec.duration_s)
    spec = replace(spec, takes=takes)
    calls = family.calls(spec, range(take_count(spec)))
    return Plan(deployment, spec, len(calls), format_of(deployment.kind, spec))


def _obstacles(kind: ModelKind, spec: MusicSpec) -> Iterator[FieldError]:
    """What a model cannot do for certain, before it is asked."""
    traits = FAMILIES[kind].traits
    if spec.seed is not None and not traits.seeded:
        yield FieldError(
            "seed", "unsupported_by_model", f"{kind} takes no seed; leave it out, or name another model."
        )
    if spec.negative_prompt is not None and not traits.negative_prompt:
        yield FieldError(
            "negative_prompt",
            "unsupported_by_model",
            f"{kind} takes none; say in the prompt what to leave out, or name another model.",
        )
    for name, text in (("prompt", spec.prompt), ("negative_prompt", spec.negative_prompt or "")):
        if not _may_read(traits, text):
            yield FieldError(
                name,
                "language_unsupported",
                f"is in a language that {kind} does not read; write it in English.",
            )


def _all_obstacles(candidates: Sequence[Deployment], spec: MusicSpec) -> tuple[FieldError, ...]:
    """Those of every model, each field told once."""
    found: dict[str, FieldError] = {}
    for deployment in candidates:
        for obstacle in _obstacles(deployment.kind, spec):
            found.setdefault(obstacle.field, obstacle)
    return tuple(found.values())


def _may_read(traits: Traits, text: str) -> bool:
    """False only where it is certain: most letters are of a script that it has no language in."""
    letters = [character for character in text if character.isalpha()]
    known = {script.value for script in traits.scripts}
    foreign = sum(unicodedata.name(letter, "").partition(" ")[0] not in known for letter in letters)
    return foreign * 2 <= len(letters)


def _check_bitrate(plan: Plan) -> None:
    wanted, rates = plan.spec.bitrate_kbps, BITRATES_KBPS.get(plan.audio_format, ())
    if wanted is None or wanted in rates:
        return
    if not rates:
        detail = (
            f"means nothing for {plan.audio_format}; leave it out, or ask for outputFormat mp3, ogg or opus."
        )
        raise InvalidRequest((FieldError("bitrateKbps", "not_for_format", detail),))
    detail = f"for {plan.audio_format} must be one of: {', '.join(map(str, rates))}."
    raise InvalidRequest((FieldError("bitrateKbps", "unknown_value", detail),))
