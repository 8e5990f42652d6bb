"""Real credential classes over real sockets: a key file, the metadata server, and neither."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import google.auth.exceptions
import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.auth import jwt
from google.auth.credentials import Credentials
from google.oauth2 import service_account

from gateway.errors import AttemptFault, UpstreamError
from gateway.google import (
    CLOUD_PLATFORM_SCOPE,
    GoogleTokens,
    HttpTransport,
    MetadataCredentials,
    load_credentials,
    open_transport,
)
from tests.clock import SetClock
from tests.gcs import EMAIL, key_file, private_key
from tests.httpstub import Answer, Call, start_stub

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:1"


def tokens_of(credentials: Credentials) -> GoogleTokens:
    # These credentials reckon expiry by the system's clock.
    clock = SetClock(int(time.time() * 1000))
    return GoogleTokens(credentials, clock, transport=open_transport())


async def token_of(credentials: Credentials) -> str:
    tokens = tokens_of(credentials)
    try:
        return await tokens.token()
    finally:
        await tokens.close()


def from_key_file(token_uri: str) -> service_account.Credentials:
    info = key_file(token_uri)
    return service_account.Credentials.from_service_account_info(info, scopes=[CLOUD_PLATFORM_SCOPE])


async def test_a_key_file_is_exchanged_for_a_token():
    asked: list[Call] = []

    def answer(call: Call) -> Answer:
        asked.append(call)
        return Answer(200, b'{"access_token": "from-key-file", "expires_in": 3600, "token_type": "Bearer"}')

    with start_stub(answer) as url:
        assert await token_of(from_key_file(f"{url}/token")) == "from-key-file"
    assertion = parse_qs(asked[0].body.decode())["assertion"][0]
    public = private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(assertion, certs=public, audience="https://oauth2.googleapis.com/token")
    assert (claims["iss"], claims["scope"]) == (EMAIL, CLOUD_PLATFORM_SCOPE)


async def test_a_revoked_key_is_the_operators_to_mend():
    refusal = Answer(400, b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}')
    with start_stub(lambda _: refusal) as url, pytest.raises(UpstreamError, match="operator") as raised:
        await token_of(from_key_file(f"{url}/token"))
    assert raised.value.fault is AttemptFault.MISCONFIGURED
    assert "Invalid JWT Signature" in raised.value.internal


async def test_a_token_service_out_of_reach_costs_nothing():
    with pytest.raises(UpstreamError, match="could not be reached") as raised:
        await token_of(from_key_file(f"{NOWHERE}/token"))
    assert raised.value.fault is AttemptFault.NOT_SENT


class Metadata:
    """The metadata server as Cloud Run has it."""

    def __init__(self) -> None:
        self.token = Answer(200, b'{"access_token": "from-metadata", "expires_in": 3599}')
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        if call.headers.get("metadata-flavor") != "Google":
            return Answer(403)
        flavor = {"Metadata-Flavor": "Google"}
        match call.path.rpartition("/")[2]:
            case "email":
                return Answer(200, EMAIL.encode(), flavor)
            case "token":
                return self.token
            case "":
                return Answer(200, b"computeMetadata/\n", flavor)
        return Answer(404)


@pytest.fixture
def metadata() -> Metadata:
    return Metadata()


@pytest.fixture
def metadata_url(metadata: Metadata) -> Iterator[str]:
    with start_stub(metadata) as url:
        yield url


async def test_on_google_cloud_the_machine_hands_out_tokens(metadata: Metadata, metadata_url: str):
    credentials = MetadataCredentials(metadata_url, ["scope-a", "scope-b"])
    assert await token_of(credentials) == "from-metadata"
    assert metadata.calls[-1].query == {"scopes": "scope-a,scope-b"}
    assert credentials.valid


async def test_the_machines_account_is_known_after_the_first_token(metadata: Metadata, metadata_url: str):
    credentials = MetadataCredentials(metadata_url, ["s"])
    tokens = tokens_of(credentials)
    assert credentials.service_account_email is None
    assert await tokens.service_account_email() == EMAIL
    assert await tokens.service_account_email() == EMAIL
    await tokens.close()
    assert len(metadata.calls) == 2


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(404), AttemptFault.MISCONFIGURED),
        (Answer(503), AttemptFault.NOT_SENT),
        (Answer(0, cut=True), AttemptFault.NOT_SENT),
        (Answer(200, b"<html>"), AttemptFault.MISCONFIGURED),
        (Answer(200, b'{"access_token": "x"}'), AttemptFault.MISCONFIGURED),
        (Answer(200, b"[]"), AttemptFault.MISCONFIGURED),
    ],
)
async def test_metadata_trouble_is_told_apart(
    metadata: Metadata, metadata_url: str, answer: Answer, fault: AttemptFault
):
    metadata.token = answer
    with pytest.raises(UpstreamError) as raised:
        await token_of(MetadataCredentials(metadata_url, ["s"]))
    assert raised.value.fault is fault


async def test_the_key_file_that_the_environment_names_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key_file()))  # noqa: ASYNC240 - before anything runs
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    credentials = await load_credentials()
    assert credentials.service_account_email == EMAIL
    assert credentials.scopes == (CLOUD_PLATFORM_SCOPE,)


LOADER = """
    import asyncio, sys
    sys.modules["requests"] = None  # as in production, where it is not installed

    from gateway.errors import ConfigurationError
    from gateway.google import load_credentials
    import gateway.storage.gcs, gateway.storage.local, gateway.storage.signers

    try:
        print(type(asyncio.run(load_credentials(metadata_url=sys.argv[1]))).__name__)
    except ConfigurationError as error:
        print(error.detail)
    heavy = ("google.auth.transport.requests", "google.cloud.storage", "urllib3")
    print(sorted(name for name in heavy if sys.modules.get(name) is not None))
"""


@pytest.fixture
def load_elsewhere(tmp_path: Path) -> Callable[..., list[str]]:
    """Load credentials in a process that has no `requests`, no gcloud and only the named environment."""

    def load(url: str, **environment: str) -> list[str]:
        plain = {"PATH": os.environ["PATH"], "CLOUDSDK_CONFIG": str(tmp_path), "HOME": str(tmp_path)}  # noqa: TID251 - a child process needs one
        command = [sys.executable, "-c", textwrap.dedent(LOADER), url]
        done = subprocess.run(
            command, env=plain | environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.splitlines()

    return load


def test_without_requests_the_metadata_server_is_still_found(
    load_elsewhere: Callable[..., list[str]], metadata_url: str
):
    assert load_elsewhere(metadata_url) == ["MetadataCredentials", "[]"]


def test_without_requests_a_key_file_still_works(load_elsewhere: Callable[..., list[str]], tmp_path: Path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key_file()))
    assert load_elsewhere(NOWHERE, GOOGLE_APPLICATION_CREDENTIALS=str(path)) == ["Credentials", "[]"]


def test_where_there_is_nothing_the_operator_is_told_what_to_do(load_elsewhere: Callable[..., list[str]]):
    said, _ = load_elsewhere(NOWHERE)
    assert said.startswith("No Google credentials found.")
    assert "gcloud auth application-default login" in said


@pytest.mark.parametrize("content", [None, "{", '{"type": "service_account"}'])
def test_a_key_file_that_is_named_but_useless_is_not_passed_over(
    load_elsewhere: Callable[..., list[str]], metadata_url: str, tmp_path: Path, content: str | None
):
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    said = load_elsewhere(metadata_url, GOOGLE_APPLICATION_CREDENTIALS=str(path))[0]
    assert said.startswith("The Google credentials cannot be used: ")
    assert str(path) in said


async def test_some_other_server_at_the_metadata_address_is_not_believed(
    load_elsewhere: Callable[..., list[str]],
):
    with start_stub(lambda _: Answer(200, b"hello")) as url:
        said, _ = await asyncio.to_thread(load_elsewhere, url)
    assert said.startswith("No Google credentials found.")


def test_the_transport_passes_on_what_google_auth_asks_for():
    with start_stub(lambda call: Answer(201, call.body[::-1], {"X-Seen": call.headers["x-sent"]})) as url:
        transport = HttpTransport(httpx.Client(verify=False))
        response = transport(url, method="POST", body=b"abc", headers={"X-Sent": "1"}, timeout=5, unknown=1)
        assert (response.status, response.data, response.headers["x-seen"]) == (201, b"cba", "1")
        transport.close()


@pytest.mark.parametrize("url", [NOWHERE, "http://[", "ftp://127.0.0.1/"])
def test_the_transport_reports_trouble_in_google_auths_terms(url: str):
    transport = HttpTransport(httpx.Client(verify=False))
    with pytest.raises(google.auth.exceptions.TransportError):
        transport(url)
    transport.close()
