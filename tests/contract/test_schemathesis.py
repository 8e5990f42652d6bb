"""Fuzzing from openapi.yaml against a running gateway finds nothing.

The gateway is a process on a socket. It has one finished task, whose id and link stand in for the document's
examples, and no worker after that: what is asked for stays queued, however long it would take to make.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

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
LYRIA2_LONGEST_S = 32
EXAMPLE_VALUES = {
    example["value"]
    for parameter in Specification.load().document["components"]["parameters"].values()
    for example in parameter["examples"].values()
}

schema = schemathesis.openapi.from_path(PATH)
schema.config.generation.update(deterministic=True, max_examples=EXAMPLES)


@dataclass(frozen=True)
class Fuzzed:
    """A gateway, a key, and one task of that key's that has ended."""

    url: str
    key: str
    task: dict[str, Any]

    def fill(self, case: schemathesis.Case) -> None:
        """Put what exists in the place of the document's examples."""
        link = urlsplit(self.task["audio_url"])
        query = {name: values[0] for name, values in parse_qs(link.query).items()}
        real = {"task_id": self.task["task_id"], "name": unquote(link.path.removeprefix("/files/")), **query}
        for values in (case.path_parameters, case.query):
            for name, value in real.items():
                if values and isinstance(values.get(name), str) and values[name] in EXAMPLE_VALUES:
                    values[name] = value


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    # Keys are left out on purpose, time and again, and 401 is what that is to be answered with.
    guard = {"GATEWAY_READS_PER_MINUTE": "0", "GATEWAY_BAD_KEYS_PER_MINUTE": "0"}
    limits = {"GATEWAY_DEFAULT_MAX_QUEUED": "1000000", "GATEWAY_LOG_LEVEL": "error", **guard}
    with (
        start_emulator(lyria_seconds=0.2) as emulator,
        start_gateway(tmp_path_factory.mktemp("fuzzed"), emulator.url, **limits) as gateway,
    ):
        key = gateway.create_key()
        headers = {"X-Api-Key": key}
        address = f"{gateway.url}/api/music_generate_lyria"
        task = httpx.post(address, headers=headers, json={"prompt": "x"}, timeout=60, trust_env=False).json()
        assert task["status"] == "succeeded", task
        gateway.stop()
        gateway.environment |= {"GATEWAY_CONCURRENCY": "0", "GATEWAY_WAIT_S": "0"}
        gateway.start()
        yield Fuzzed(gateway.url, key, task)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_nothing_is_found(case: schemathesis.Case, fuzzed: Fuzzed) -> None:
    assume(not refused_beyond_the_schema(case.body))
    fuzzed.fill(case)
    case.call_and_validate(base_url=fuzzed.url, headers={"X-Api-Key": fuzzed.key}, checks=CHECKS)


def refused_beyond_the_schema(body: Any) -> bool:
    """What the document says in words only: a field twice in a form, a length that a model cannot give."""
    if not isinstance(body, dict):
        return False
    inner = body["body"] if isinstance(body.get("body"), dict) else {}
    fields = {**body, **inner}
    duration = fields.get("durationSeconds")
    long = isinstance(duration, int | float) and duration > LYRIA2_LONGEST_S
    return bool(set(body) & set(inner)) or (long and fields.get("model") == "lyria-002")
