"""The file of deployments: where models can be called, how much each takes, and what it costs.

    deployments:
      - {name: lyria-us, model: lyria-002, location: us-central1, rpm: 10, weight: 2}
      - {name: lyria-eu, model: lyria-002, location: europe-west4, rpm: 10, concurrency: 4}
      - {name: own, model: musicgen, endpoint: projects/p/locations/l/endpoints/7, price_usd: "0.02"}

Those of one model pool what they have. The standard route takes an endpoint first, then what is cheapest
for the request; GATEWAY_STANDARD_MODELS names another order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.errors import ConfigurationError
from gateway.families.family import Surface
from gateway.families.registry import FAMILIES, KINDS
from gateway.model import Deployment, ModelKind
from gateway.units import parse_millionths

ENDPOINT = r"^projects/[^/]+/locations/[^/]+/endpoints/[^/]+$"
#: That of a dedicated endpoint, and where an endpoint puts what is too long for an answer.
HOST = r"^[a-z0-9-]+\.[a-z0-9-]+\.prediction\.vertexai\.goog$"
OUTPUT_URI = r"^gs://[a-z0-9][a-z0-9._-]{1,220}(/[^\s?#]*)?$"
#: An exact number of dollars, as `parse_millionths` takes it, less the sign.
USD = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"
_HIGHEST = 1_000_000
#: What calls for test keys are counted under.
EMULATOR = "emulator"

_Usd = Annotated[str, Field(pattern=USD)]
_Count = Annotated[int, Field(ge=1, le=_HIGHEST)]


@dataclass(frozen=True, slots=True)
class Usual:
    """What a deployment need not say: project, location, and of models the price and cost of a take.

    Where no price is given it is the list price, and where no cost is given it is the price.
    """

    project: str
    location: str
    price_micros: Mapping[ModelKind, int]
    cost_micros: Mapping[ModelKind, int]
    host: str | None = None
    output_uri: str | None = None


def make_deployment(name: str, kind: ModelKind, usual: Usual, endpoint: str | None = None) -> Deployment:
    """A deployment of which nothing more is said. ``endpoint`` is a whole resource name."""
    traits = FAMILIES[kind].traits
    price_micros = usual.price_micros.get(kind, traits.list_price_micros)
    project, location = usual.project, traits.location or usual.location
    if endpoint is not None:
        _, project, _, location, _, _ = endpoint.split("/")
    return Deployment(
        name=name,
        kind=kind,
        project=project,
        location=location,
        endpoint=endpoint,
        price_micros=price_micros,
        cost_micros=usual.cost_micros.get(kind, price_micros),
        host=usual.host if endpoint is not None else None,
        output_uri=usual.output_uri if endpoint is not None else None,
    )


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    model: str
    project: str = ""
    location: str = ""
    endpoint: str | None = Field(None, pattern=ENDPOINT)
    host: str | None = Field(None, pattern=HOST)
    output_uri: str | None = Field(None, pattern=OUTPUT_URI)
    weight: _Count = 1
    rpm: _Count | None = None
    concurrency: _Count | None = None
    price_usd: _Usd | None = None
    cost_usd: _Usd | None = None

    @model_validator(mode="after")
    def _is_of_a_model(self) -> "_Entry":
        if self.model not in KINDS:
            raise ValueError(f"model must be one of: {', '.join(KINDS)}")
        traits = FAMILIES[ModelKind(self.model)].traits
        if (traits.surface is Surface.ENDPOINT) != (self.endpoint is not None):
            theirs = ", ".join(kind for kind in KINDS if FAMILIES[kind].traits.surface is Surface.ENDPOINT)
            raise ValueError(f"endpoint belongs to {theirs}, which needs one, and to no other model")
        if self.endpoint is None and (self.host or self.output_uri):
            raise ValueError("host and output_uri belong to an endpoint")
        if traits.location and self.location not in {"", traits.location}:
            raise ValueError(f"{self.model} is served in the location {traits.location} alone")
        if self.name == EMULATOR:
            raise ValueError(f"the name {EMULATOR!r} is taken: calls for test keys are counted under it")
        return self

    def deployment(self, usual: Usual) -> Deployment:
        plain = make_deployment(self.name, ModelKind(self.model), usual, self.endpoint)
        price_micros = plain.price_micros if self.price_usd is None else parse_millionths(self.price_usd)
        return replace(
            plain,
            project=self.project or plain.project if self.endpoint is None else plain.project,
            location=self.location or plain.location if self.endpoint is None else plain.location,
            price_micros=price_micros,
            cost_micros=price_micros if self.cost_usd is None else parse_millionths(self.cost_usd),
            weight=self.weight,
            rpm=self.rpm,
            concurrency=self.concurrency,
            host=self.host or plain.host,
            output_uri=self.output_uri or plain.output_uri,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    deployments: list[_Entry] = Field(min_length=1)


def read_deployments(path: Path, usual: Usual) -> tuple[Deployment, ...]:
    """Raises `ConfigurationError`, which says what to mend."""
    try:
        entries = _File.model_validate(_load(path)).deployments
    except ValidationError as error:
        raise _wrong(path, "; ".join(map(_explain, error.errors()))) from error
    found = tuple(entry.deployment(usual) for entry in entries)
    _check(path, found)
    return found


def _load(path: Path) -> Any:
    # Only who has such a file pays for the import.
    import yaml  # noqa: PLC0415 - see above

    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(path, f"it cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise _wrong(path, f"it is not YAML: {error}") from error


def _check(path: Path, found: Sequence[Deployment]) -> None:
    names = [each.name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _wrong(path, f"two deployments are called {twice[0]!r}")
    if homeless := [each.name for each in found if not each.project]:
        raise _wrong(path, f"{homeless[0]!r} names no project, and GATEWAY_PROJECT is not set")
    prices = {each.kind: each.price_micros for each in found}
    if other := [each for each in found if each.price_micros != prices[each.kind]]:
        # What a request costs is known before it is known where it goes.
        raise _wrong(path, f"the deployments of {other[0].kind} must have one price_usd")


def _explain(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {error['msg']}" if where else str(error["msg"])


def _wrong(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"GATEWAY_DEPLOYMENTS, {path}: {what}.")
