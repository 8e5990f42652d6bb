"""The admin API of a running gateway: on everybody's port, on one of its own, or nowhere."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.api import ADMIN, ADMIN_TOKEN
from tests.emulator import RunningEmulator
from tests.running import RunningGateway, free_port, start_gateway


def status(url: str, **headers: str) -> int:
    return httpx.get(url, headers=headers, trust_env=False, timeout=10).status_code


def started(gateway: RunningGateway) -> dict[str, object]:
    return next(line for line in gateway.log_lines() if line["message"].endswith("is up"))


def test_a_port_of_its_own_is_served_beside_the_other_and_both_end(
    tmp_path: Path, emulator: RunningEmulator
) -> None:
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    settings = {"GATEWAY_ADMIN_PORT": str(port), "GATEWAY_ADMIN_TOKEN": ADMIN_TOKEN}
    with start_gateway(tmp_path, emulator.url, GATEWAY_LOG_FORMAT="json", **settings) as gateway:
        assert status(f"{gateway.url}/admin/api/tenants", **ADMIN) == 404
        assert status(f"{gateway.url}/api/task-status/x") == 401
        assert status(f"{own}/admin/api/tenants", **ADMIN) == 200
        assert status(f"{own}/admin/api/tenants") == 401
        assert status(f"{own}/readyz") == 200
        assert status(f"{own}/api/task-status/x") == 404
        assert started(gateway)["admin_api"] == f"127.0.0.1:{port}"
        # Connections that idle keep neither of them from ending.
        with (
            socket.create_connection(("127.0.0.1", port)),
            socket.create_connection(("127.0.0.1", gateway.port)),
        ):
            assert gateway.stop() == 0
        for closed in (port, gateway.port):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", closed))
        assert ADMIN_TOKEN not in gateway.log()


def test_switched_off_it_is_nowhere(tmp_path: Path, emulator: RunningEmulator) -> None:
    port = free_port()
    settings = {
        "GATEWAY_ADMIN_PORT": str(port),
        "GATEWAY_ADMIN_API": "off",
        "GATEWAY_ADMIN_TOKEN": ADMIN_TOKEN,
    }
    with start_gateway(tmp_path, emulator.url, GATEWAY_LOG_FORMAT="json", **settings) as gateway:
        assert status(f"{gateway.url}/admin/api/tenants", **ADMIN) == 404
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert started(gateway)["admin_api"] == "off"


def test_without_a_token_it_is_closed_and_the_log_says_so(tmp_path: Path, emulator: RunningEmulator) -> None:
    with start_gateway(tmp_path, emulator.url, GATEWAY_LOG_FORMAT="json") as gateway:
        assert status(f"{gateway.url}/admin/api/tenants", **ADMIN) == 403
        assert started(gateway)["admin_api"] == f"127.0.0.1:{gateway.port} (closed)"


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"GATEWAY_ADMIN_TOKEN": "too short to be one"}, 2, "token 1 of 1 has fewer than 32 characters"),
        ({"GATEWAY_ADMIN_PORT": "8080", "PORT": "8080"}, 2, "GATEWAY_ADMIN_PORT is PORT already"),
    ],
)
def test_what_will_not_do_ends_the_start_without_telling_a_token(
    tmp_path: Path, emulator: RunningEmulator, changes: dict[str, str], code: int, told: str
) -> None:
    gateway = RunningGateway(tmp_path / "data", {"GATEWAY_PROJECT": "p", "GATEWAY_GOOGLE_AUTH": "anonymous"})
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve"],
        env={**gateway.environment, "GATEWAY_VERTEX_URL": emulator.url, **changes},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code
    assert told in done.stderr
    assert "too short to be one" not in done.stderr


def test_a_port_that_is_taken_is_told(tmp_path: Path, emulator: RunningEmulator) -> None:
    gateway = RunningGateway(tmp_path / "data", {"GATEWAY_PROJECT": "p", "GATEWAY_GOOGLE_AUTH": "anonymous"})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        changes = {"GATEWAY_VERTEX_URL": emulator.url, "GATEWAY_ADMIN_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "serve"],
            env={**gateway.environment, **changes},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert f"error: port {port} is in use; choose another with GATEWAY_ADMIN_PORT=…" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_forwarded_address_is_not_believed(tmp_path: Path, emulator: RunningEmulator) -> None:
    """The audit log says where an act came from; nobody on this machine may say something else."""
    with start_gateway(tmp_path, emulator.url, GATEWAY_ADMIN_TOKEN=ADMIN_TOKEN) as gateway:
        url = f"{gateway.url}/admin/api"
        headers = {**ADMIN, "X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7"}
        httpx.post(f"{url}/tenants", json={"name": "acme"}, headers=headers, trust_env=False)
        (entry,) = httpx.get(f"{url}/audit", headers=ADMIN, trust_env=False).json()["data"]
        assert entry["source"] == "127.0.0.1"
        assert json.dumps(entry).find("203.0.113.7") == -1
