"""The file of deployments: where models can be called, how much each takes, and what it costs.

    deployments:
      - {name: lyria-us, model: lyria-002, location: us-central1, rpm: 10, weight: 2}
      - {name: lyria-eu, model: lyria-002, location: europe-west4, rpm: 10, concurrency: 4}
      - {name: own, model: musicgen, endpoint: projects/p/locations/l/endpoints/7, price_usd: "0.02"}

Those of one model pool what they have. The order is that of preference for the standard route.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.errors import ConfigurationError
from gateway.model import Deployment, ModelKind, parse_millionths

ENDPOINT = r"^projects/[^/]+/locations/[^/]+/endpoints/[^/]+$"
# An exact number of dollars, as `parse_millionths` takes it, less the sign.
_USD = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"
_HIGHEST = 1_000_000
# What calls for test keys are counted under.
_TAKEN = "emulator"

_Usd = Annotated[str, Field(pattern=_USD)]
_Count = Annotated[int, Field(ge=1, le=_HIGHEST)]


@dataclass(frozen=True, slots=True)
class Usual:
    """What an entry need not say: project and location, and the price of a clip of each model."""

    project: str
    location: str
    price_micros: Mapping[ModelKind, int]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    model: str
    project: str = ""
    location: str = ""
    endpoint: str | None = Field(None, pattern=ENDPOINT)
    weight: _Count = 1
    rpm: _Count | None = None
    concurrency: _Count | None = None
    price_usd: _Usd | None = None
    cost_usd: _Usd | None = None

    @model_validator(mode="after")
    def _is_of_a_model(self) -> "_Entry":
        models = [kind.value for kind in ModelKind]
        if self.model not in models:
            raise ValueError(f"model must be one of: {', '.join(models)}")
        if (self.model == ModelKind.MUSICGEN.value) != (self.endpoint is not None):
            raise ValueError("endpoint belongs to musicgen, which needs one, and to no other model")
        if self.name == _TAKEN:
            raise ValueError(f"the name {_TAKEN!r} is taken: calls for test keys are counted under it")
        return self

    def deployment(self, usual: Usual) -> Deployment:
        kind = ModelKind(self.model)
        price = usual.price_micros[kind] if self.price_usd is None else parse_millionths(self.price_usd)
        project, location = self.project or usual.project, self.location or usual.location
        if self.endpoint is not None:
            _, project, _, location, _, _ = self.endpoint.split("/")
        return Deployment(
            name=self.name,
            kind=kind,
            project=project,
            location=location,
            endpoint=self.endpoint,
            price_micros=price,
            cost_micros=price if self.cost_usd is None else parse_millionths(self.cost_usd),
            weight=self.weight,
            rpm=self.rpm,
            concurrency=self.concurrency,
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
        raise _wrong(path, f"the deployments of {other[0].kind.value} must have one price_usd")


def _explain(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {error['msg']}" if where else str(error["msg"])


def _wrong(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"GATEWAY_DEPLOYMENTS, {path}: {what}.")
