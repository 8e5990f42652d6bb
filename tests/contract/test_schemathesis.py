"""Fuzzing from openapi.yaml against a running gateway finds nothing.

The gateway is a process on a socket. It has one finished task, whose id and link stand in for the document's
examples, and no worker after that: what is asked for stays queued, however long it would take to make. What
administrators change is a tenant and a key that callers do not use.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import available_timezones

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    missing_required_header,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from gateway.errors import InvalidRequest
from gateway.web.deadlines import CANCEL_AFTER
from gateway.web.naming import NAME, parse_name
from gateway.webhooks.addresses import AddressPolicy
from tests.api import ADMIN, ADMIN_TOKEN
from tests.emulator import start_emulator
from tests.running import start_gateway
from tests.specification import PATH, Specification

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    missing_required_header,
    unsupported_method,
    allow_header_conformance,
    ignored_auth,
]


EXAMPLES = 10
BITRATES_KBPS = {
    "mp3": {64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
    "ogg": {80, 96, 112, 128, 160, 192, 224, 256, 320},
    "opus": {32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256},
}
LONGEST_REPORT_DAYS = 400
ZONES = available_timezones()
# Texts of administrators: what can be read, and begins or ends with no space.
READABLE = ("name", "owner", "reason")
TENANT_NAME_CHARS = 100
DURATION = re.compile(r"[0-9]{1,9}[smh]?", re.ASCII)
LATER = "2099-12-31T00:00:00Z"
EXAMPLE_VALUES = {
    example["value"]
    for parameter in Specification.load().document["components"]["parameters"].values()
    for example in parameter["examples"].values()
}

schema = schemathesis.openapi.from_path(PATH)
schema.config.generation.update(deterministic=True, max_examples=EXAMPLES)


@dataclass(frozen=True)
class Fuzzed:
    """A gateway, a key, one task of that key's that has ended, a webhook, and what else may be changed."""

    url: str
    key: str
    task: dict[str, Any]
    endpoint_id: str
    delivery_id: str
    tenant_id: str
    key_id: str
    key_tenant_id: str
    names: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def headers(self, case: schemathesis.Case) -> dict[str, str]:
        return ADMIN if case.operation.path.startswith("/admin/") else {"X-Api-Key": self.key}

    def fill(self, case: schemathesis.Case) -> None:
        """Put what exists in the place of the document's examples."""
        link = urlsplit(self.task["audio_url"])
        query = {name: values[0] for name, values in parse_qs(link.query).items()}
        real = {
            "task_id": self.task["task_id"],
            "key_id": self.key_id,
            "endpoint_id": self.endpoint_id,
            "delivery_id": self.delivery_id,
            **query,
        }
        # What becomes of the one tenant must not bound the keys of the other.
        of_tenant = "{tenant_id}" in case.operation.path
        real["tenant_id"] = self.tenant_id if of_tenant else self.key_tenant_id
        if "/files/" in case.operation.path:
            real["name"] = unquote(link.path.removeprefix("/files/"))
        for values in (case.path_parameters, case.query, case.body):
            for name, value in real.items():
                offered = values.get(name) if isinstance(values, dict) else None
                if isinstance(offered, str) and offered in EXAMPLE_VALUES:
                    values[name] = value

    def name_anew(self, case: schemathesis.Case) -> None:
        """Give each request and each tenant a name of its own: a second of that name is rightly refused."""
        if "/tenants" in case.operation.path and isinstance(case.body, dict):
            name = case.body.get("name")
            if isinstance(name, str) and 1 <= len(name) <= TENANT_NAME_CHARS:
                case.body["name"] = f"{name[: TENANT_NAME_CHARS - 10]}-{next(self.numbers)}"
        offered = case.headers.get(NAME)
        try:
            name = parse_name([offered]) if isinstance(offered, str) else None
        except InvalidRequest:
            return
        if name in self.names:
            case.headers[NAME] = name = f"name-{next(self.numbers)}"
        if name is not None:
            self.names.add(name)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    limits = {
        "GATEWAY_DEFAULT_MAX_QUEUED": "1000000",
        "GATEWAY_LOG_LEVEL": "error",
        "GATEWAY_ADMIN_TOKEN": ADMIN_TOKEN,
        # Keys are left out on purpose, time and again, and 401 is what that is to be answered with.
        "GATEWAY_READS_PER_MINUTE": "0",
        "GATEWAY_BAD_KEYS_PER_MINUTE": "0",
    }
    with (
        start_emulator(lyria_seconds=0.2) as emulator,
        start_gateway(tmp_path_factory.mktemp("fuzzed"), emulator.url, **limits) as gateway,
    ):
        key = gateway.create_key()
        headers = {"X-Api-Key": key}
        address = f"{gateway.url}/api/music_generate_lyria"
        # Nothing is sent there: the name does not resolve.
        hook = "https://receiver.invalid/"
        body = {"prompt": "x", "webhook_url": hook}
        task = httpx.post(address, headers=headers, json=body, timeout=60, trust_env=False).json()
        assert task["status"] == "succeeded", task
        hooks = f"{gateway.url}/api/webhooks"
        endpoint = httpx.post(hooks, headers=headers, json={"url": hook}, trust_env=False).json()
        deliveries = httpx.get(f"{hooks}/deliveries", headers=headers, trust_env=False).json()["deliveries"]
        gateway.stop()
        gateway.environment |= {"GATEWAY_CONCURRENCY": "0", "GATEWAY_WAIT_S": "0"}
        gateway.start()
        tenant_id, key_tenant_id = gateway.create_tenant("one"), gateway.create_tenant("two")
        key_id = gateway.create_key(key_tenant_id).split("_")[2]
        yield Fuzzed(
            gateway.url, key, task, endpoint["id"], deliveries[0]["id"], tenant_id, key_id, key_tenant_id
        )


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_nothing_is_found(case: schemathesis.Case, fuzzed: Fuzzed) -> None:
    assume(not unreportable(case.query or {}))
    fuzzed.fill(case)
    fuzzed.name_anew(case)
    hurry_within_reason(case)
    if case.operation.path.startswith("/admin/"):
        say_as_in_words(case.body)
    assume(not refused_beyond_the_schema(case.body))
    case.call_and_validate(base_url=fuzzed.url, headers=fuzzed.headers(case), checks=CHECKS)


def hurry_within_reason(case: schemathesis.Case) -> None:
    """Give a time to start that is written as it should be a length that only words ask for."""
    if DURATION.fullmatch(str(case.headers.get(CANCEL_AFTER))):
        case.headers[CANCEL_AFTER] = "90s"


def say_as_in_words(body: Any) -> None:
    """What an administrator's body must be and only words say: readable, a real zone, a time to come."""
    if not isinstance(body, dict):
        return
    for name in READABLE:
        if isinstance(body.get(name), str) and body[name]:
            body[name] = readable(body[name])
    if isinstance(body.get("tags"), list):
        body["tags"] = [readable(tag) if isinstance(tag, str) and tag else tag for tag in body["tags"]]
    if isinstance(body.get("zone"), str) and 1 <= len(body["zone"]) <= 64:
        body["zone"] = "Europe/Berlin"
    if isinstance(body.get("expires_at"), str) and re.match(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]", body["expires_at"]
    ):
        body["expires_at"] = LATER


def readable(text: str) -> str:
    """As long as before, so that what is too long stays so."""
    return "".join(letter if letter.isprintable() and letter != " " else "x" for letter in text)


def refused_beyond_the_schema(body: Any) -> bool:
    """What the document says in words only.

    A field twice in a form, a model that is not here, a bit rate that the format does not have, a language
    that the model does not read, a credit of more than was spent, an address inside a network.
    """
    if not isinstance(body, dict):
        return False
    spent_micros = body.get("spent_micros")
    if isinstance(spent_micros, int | float) and spent_micros < 0:
        return True
    inner = body["body"] if isinstance(body.get("body"), dict) else {}
    fields = {**body, **inner}
    address = fields.get("webhook_url", fields.get("url"))
    return (
        bool(set(body) & set(inner))
        or str(fields.get("model")).startswith("lyria-3")  # not configured here
        or not_of_the_format(fields)
        or any(in_another_script(fields.get(name)) for name in ("prompt", "negative_prompt"))
        or (isinstance(address, str) and not is_on_the_open_internet(address))
    )


def not_of_the_format(fields: dict[str, Any]) -> bool:
    """A bit rate that its format does not have; without a format it would be Lyria 2's, which is WAV."""
    rate = fields.get("bitrateKbps")
    if rate is None:
        return False
    return str(rate) not in map(str, BITRATES_KBPS.get(str(fields.get("outputFormat")), ()))


def in_another_script(text: Any) -> bool:
    """What Lyria 2 certainly cannot read."""
    letters = [letter for letter in text if letter.isalpha()] if isinstance(text, str) else []
    latin = sum(unicodedata.name(letter, "").startswith("LATIN ") for letter in letters)
    return latin * 2 < len(letters)


def unreportable(query: dict[str, Any]) -> bool:
    """What the document says of reports in words only: no such zone, days in the wrong order, or too many."""
    days = []
    for name in ("from", "to"):
        with suppress(ValueError):
            days.append(date.fromisoformat(str(query.get(name))))
    # A first day alone is measured against today.
    stretch = (days[1] - days[0]).days if len(days) == 2 else 0
    alone = len(days) == 1 and "from" in query
    return query.get("tz", "UTC") not in ZONES or alone or not 0 <= stretch < LONGEST_REPORT_DAYS


def is_on_the_open_internet(url: str) -> bool:
    try:
        AddressPolicy().check_url(url, "url")
    except InvalidRequest:
        return False
    return True
