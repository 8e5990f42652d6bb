"""A gateway as its users meet it. Nothing here or in the tests beside it imports gateway."""

from collections.abc import Iterator

import httpx
import pytest

from tests.emulator import RunningEmulator
from tests.running import RunningGateway, start_gateway


@pytest.fixture(scope="session")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, _emulator_process: RunningEmulator
) -> Iterator[RunningGateway]:
    """One process for every test that does not end it."""
    directory = tmp_path_factory.mktemp("gateway")
    with start_gateway(directory, _emulator_process.url, GATEWAY_WAIT_S="60") as running:
        yield running


@pytest.fixture(scope="session")
def tenant_id(gateway: RunningGateway) -> str:
    return gateway.create_tenant("acme")


@pytest.fixture(scope="session")
def key(gateway: RunningGateway, tenant_id: str) -> str:
    return gateway.create_key(tenant_id)


@pytest.fixture
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def api(gateway: RunningGateway, key: str, emulator: RunningEmulator) -> Iterator[httpx.Client]:
    """A client that sends the key; the emulator is as it was at first."""
    headers = {"X-Api-Key": key}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=60, trust_env=False) as client:
        yield client
