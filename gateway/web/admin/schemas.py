"""Bodies of the admin API. What a value means, and the rules that no schema can say, are the services'.

openapi.yaml describes the same; ``tests/contract`` holds the two together.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.accounts.books import REASON_CHARS
from gateway.accounts.checks import (
    LONGEST_START_S,
    MOST_DAYS,
    MOST_MICROS,
    MOST_OF_A_LIMIT,
    NAME_CHARS,
    SHORTEST_START_S,
    TAG_CHARS,
    TAGS,
)
from gateway.accounts.keyring import LONGEST_OVERLAP_S, KeyTerms
from gateway.accounts.tenants import TenantTerms
from gateway.families.registry import KINDS
from gateway.model import AudioFormat, BudgetWindow, KeyMode, Role, Scope
from gateway.web.schemas import WHOLE

DEFAULT_OVERLAP_S = 86_400
ID_CHARS = 64
_ZONE_CHARS = 64
_CHOICES = 20
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)


def parse_moment(text: str) -> int:
    """A moment as RFC 3339 writes it, in milliseconds since the Unix epoch. Raises `ValueError`."""
    upper = text.upper()
    if _MOMENT.fullmatch(upper):
        try:
            # Compared and taken apart as they are: moved to UTC, the first and last years run over.
            moment = datetime.fromisoformat(upper)
            if moment < _LAST:
                return (moment - _EPOCH) // timedelta(milliseconds=1)
        except ValueError:
            pass  # 2026-02-30
    raise ValueError("must be a moment like 2026-11-22T11:38:47Z")


def _moment(value: object) -> int:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "must be a string")
    try:
        return parse_moment(value)
    except ValueError as error:
        raise PydanticCustomError("wrong_type", "{reason}", {"reason": str(error)}) from None


def _choices(kind: Iterable[str]) -> dict[str, Any]:
    return {"enum": list(kind)}


def _one_of(kind: Iterable[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in list(kind):
            raise PydanticCustomError("unknown_value", "takes {names}", {"names": ", ".join(kind)})
        return value

    return AfterValidator(check)


Id = Annotated[str, Field(min_length=1, max_length=ID_CHARS)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARS)]
Limit = Annotated[int, Field(ge=1, le=MOST_OF_A_LIMIT), WHOLE]
Micros = Annotated[int, Field(ge=0, le=MOST_MICROS), WHOLE]
Percent = Annotated[int, Field(ge=1, le=100), WHOLE]
ModelName = Annotated[str, _one_of(KINDS), Field(json_schema_extra=_choices(KINDS))]
FormatName = Annotated[str, _one_of(AudioFormat), Field(json_schema_extra=_choices(AudioFormat))]
ScopeName = Annotated[str, _one_of(Scope), Field(json_schema_extra=_choices(Scope))]
ModeName = Annotated[str, _one_of(KeyMode), Field(json_schema_extra=_choices(KeyMode))]
RoleName = Annotated[str, _one_of(Role), Field(json_schema_extra=_choices(Role))]
Models = Annotated[list[ModelName], Field(max_length=_CHOICES)]
MomentMs = Annotated[
    int,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation"),
]


def _without_defaults(schema: dict[str, Any]) -> None:
    """What is left out stays as it is, or is what the description says; null is a value of its own."""
    for described in schema.get("properties", {}).values():
        described.pop("default", None)


class AdminBody(BaseModel):
    """Null lifts a limit where it may be null at all. What is left out of a change stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra=cast("Any", _without_defaults),
        # Made when they are first used: most starts of a gateway are followed by no administrator.
        defer_build=True,
    )

    def _named(self, *, but: Iterable[str] = ()) -> dict[str, Any]:
        """What was said, lists as tuples."""
        values = {name: getattr(self, name) for name in self.model_fields_set - set(but)}
        return {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}


class BudgetsBody(AdminBody):
    """The body of ``PUT …/budgets``: all of a tenant's budgets. Null, or left out: unlimited."""

    day_micros: Micros | None = None
    month_micros: Micros | None = None
    total_micros: Micros | None = None

    def limits(self) -> dict[BudgetWindow, int | None]:
        return {
            BudgetWindow.DAY: self.day_micros,
            BudgetWindow.MONTH: self.month_micros,
            BudgetWindow.TOTAL: self.total_micros,
        }


class _TenantBody(AdminBody):
    zone: Annotated[str, Field(min_length=1, max_length=_ZONE_CHARS)] = "UTC"
    price_ppm: Micros = 1_000_000
    rpm: Limit | None = None
    max_concurrent: Limit | None = None
    max_queued: Limit | None = None
    weight: Limit = 1
    allowed_models: Models | None = None
    allowed_formats: Annotated[list[FormatName], Field(max_length=_CHOICES)] | None = None
    retention_days: Annotated[int, Field(ge=1, le=MOST_DAYS), WHOLE] | None = None
    start_within_s: Annotated[int, Field(ge=SHORTEST_START_S, le=LONGEST_START_S), WHOLE] | None = None
    warn_percents: Annotated[list[Percent], Field(max_length=_CHOICES)] = []  # noqa: RUF012 - pydantic copies

    def terms(self) -> TenantTerms:
        return cast("TenantTerms", self._named(but=("budgets",)))


class TenantBody(_TenantBody):
    """The body of ``POST /admin/api/tenants``."""

    name: Name
    budgets: BudgetsBody = BudgetsBody()


class TenantPatch(_TenantBody):
    """The body of ``PATCH /admin/api/tenants/{tenant_id}``."""

    name: Name = ""


class MemberBody(AdminBody):
    """The body of ``PUT …/members/{email}``."""

    role: RoleName


class _KeyBody(AdminBody):
    owner: Annotated[str, Field(max_length=NAME_CHARS)] = ""
    tags: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=TAG_CHARS)]], Field(max_length=TAGS)
    ] = []  # noqa: RUF012 - pydantic copies
    scopes: Annotated[list[ScopeName], Field(min_length=1, max_length=_CHOICES)] = []  # noqa: RUF012 - the same
    allowed_models: Models | None = None
    rpm: Limit | None = None
    max_queued: Limit | None = None
    expires_at: MomentMs | None = None

    def terms(self) -> KeyTerms:
        terms = self._named(but=("tenant_id", "mode", "scopes", "expires_at"))
        if "scopes" in self.model_fields_set:
            terms["scopes"] = frozenset(map(Scope, self.scopes))
        if "expires_at" in self.model_fields_set:
            terms["expires_at_ms"] = self.expires_at
        return cast("KeyTerms", terms)


class KeyBody(_KeyBody):
    """The body of ``POST /admin/api/keys``."""

    tenant_id: Id
    mode: ModeName = KeyMode.LIVE.value
    name: Name


class KeyPatch(_KeyBody):
    """The body of ``PATCH /admin/api/keys/{key_id}``."""

    name: Name = ""


class RotationBody(AdminBody):
    """The body of ``POST …/rotate``. It may be left out."""

    overlap_s: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_S), WHOLE] = DEFAULT_OVERLAP_S


class AdjustmentBody(AdminBody):
    """The body of ``POST /admin/api/ledger/adjust``."""

    tenant_id: Id
    spent_micros: Annotated[
        int, Field(ge=-MOST_MICROS, le=MOST_MICROS, json_schema_extra={"not": {"const": 0}}), WHOLE
    ]
    reason: Annotated[str, Field(min_length=1, max_length=REASON_CHARS)]
