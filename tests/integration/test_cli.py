"""Every command: what it prints for people and for programs, and how it ends when something is wrong."""

import asyncio
import json
import logging
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.accounts import keys
from gateway.bootstrap.services import Services
from gateway.cli.environment import Exit
from gateway.cli.server import bind, serve
from gateway.errors import ConfigurationError, StorageError, Unavailable
from gateway.model import KeyMode
from gateway.settings import Settings
from tests.emulator import RunningEmulator
from tests.running import start_gateway
from tests.shell import Shell

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

COMMANDS = (
    *("serve", "demo", "emulator", "endpoint", "migrate"),
    *("tenant", "member", "key", "ledger", "audit", "reconcile"),
)


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    """Commands that serve set up logging for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("httpx", "httpcore", "uvicorn.access", "uvicorn.error", "aiosqlite", "alembic"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


# The whole


def test_help_names_every_command(shell: Shell) -> None:
    result = shell.run("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(shell: Shell, command: str) -> None:
    result = shell.run(command, "-h")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 3


def test_the_version_is_told(shell: Shell) -> None:
    assert re.fullmatch(r"gateway \d+\.\d+\.\d+\S*\n", shell.run("--version").stdout)


def test_help_names_every_exit_code(shell: Shell) -> None:
    told = shell.run("--help").stdout
    for code in (0, *Exit):
        assert re.search(rf"^    {code:d}  \S", told, re.MULTILINE)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gateway au", ["audit"]),
        ("gateway key ro", ["rotate"]),
        ("gateway tenant update t --form", ["--format"]),
        ("gateway tenant update t --format o", ["ogg", "opus"]),
        ("gateway key update k --model n", ["none"]),
    ],
)
def test_shells_can_complete_what_is_typed(shell: Shell, typed: str, offered: list[str]) -> None:
    result = shell.run(COMP_WORDS=typed, COMP_CWORD=str(typed.count(" ")), _GATEWAY_COMPLETE="bash_complete")
    assert result.stdout.split() == [f"plain,{word}" for word in offered]


def test_states_have_colours_on_a_terminal_that_wants_them(shell: Shell) -> None:
    kept = shell.json("tenant", "create", "kept")["id"]
    stopped = shell.json("tenant", "create", "stopped")["id"]
    shell.done("tenant", "suspend", stopped, "--yes")
    plain = shell.done("tenant", "list")
    green, red = "\x1b[32mactive\x1b[0m", "\x1b[31msuspended\x1b[0m"
    for no_color, coloured in (("", True), ("1", False), ("no", False)):
        shown = shell.at_terminal("tenant", "list", NO_COLOR=no_color).text
        assert (green in shown, red in shown) == (coloured, coloured)
        assert shown.replace(green, "active").replace(red, "suspended") == plain
    assert green in shell.at_terminal("tenant", "show", kept).text


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nonsense"], "No such command"),
        (["tenant", "create"], "Missing argument 'NAME'"),
        (["tenant", "create", "acme", "--rpm", "0"], "--rpm"),
        (["tenant", "create", "acme", "--weight", "half"], "--weight"),
        (["tenant", "create", "acme", "--max-queued", "-1"], "--max-queued"),
        (["tenant", "create", "acme", "--max-concurrent", "0"], "--max-concurrent"),
        (["key", "create"], "Missing option '--tenant'"),
        (["key", "create", "--tenant", "t", "--rpm", "0"], "--rpm"),
        (["key", "revoke"], "Missing argument 'KEY_ID'"),
        (["migrate", "twice"], "unexpected extra argument"),
        (["emulator", "--port", "http"], "--port"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(shell: Shell, words: list[str], complaint: str) -> None:
    result = shell.run(*words)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert not shell.data_dir.exists()


@pytest.mark.parametrize("command", [["serve"], ["demo"], ["migrate"], ["tenant", "list"], ["key", "list"]])
def test_bad_settings_are_told_a_line_each(shell: Shell, command: list[str]) -> None:
    result = shell.run(
        *command,
        GATEWAY_CONCURRENCY="many",
        PORT="http",
        GATEWAY_SIGNING_SECRET="hunter2",
        GATEWAY_WAIT_S="-1",
    )
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in sorted(lines)] == [
        "GATEWAY_CONCURRENCY",
        "GATEWAY_SIGNING_SECRET",
        "GATEWAY_WAIT_S",
        "PORT",
    ]
    assert "hunter2" not in result.output


def test_settings_that_do_not_fit_together_are_told(shell: Shell) -> None:
    result = shell.run("migrate", GATEWAY_DATABASE_URL="mysql://x")
    assert result.exit_code == 2
    assert "GATEWAY_DATABASE_URL must begin with" in result.stderr


def test_an_unknown_setting_is_warned_of(shell: Shell) -> None:
    result = shell.run("migrate", GATEWAY_PORJECT="acme")
    assert result.exit_code == 0
    assert "warning: GATEWAY_PORJECT is not a setting" in result.stderr
    assert "acme" not in result.stderr


# Tenants and keys


def test_a_tenant_is_created_for_people(shell: Shell) -> None:
    result = shell.run("tenant", "create", "acme")
    first, second = result.stdout.splitlines()
    tenant_id = first.removeprefix("Created tenant acme: ")
    assert second.endswith(f"gateway key create --tenant {tenant_id}")


def test_a_tenant_is_created_for_programs(shell: Shell) -> None:
    limits = ["--rpm", "5", "--max-concurrent", "2", "--max-queued", "7", "--weight", "3"]
    terms = ["--zone", "Europe/Berlin", "--price-multiplier", "1.25"]
    made = shell.json("tenant", "create", "acme", *limits, *terms)
    assert MOMENT.fullmatch(made.pop("created_at"))
    assert made.pop("id").startswith("ten_")
    assert made == {
        "name": "acme",
        "status": "active",
        "zone": "Europe/Berlin",
        "price_ppm": 1_250_000,
        "rpm": 5,
        "max_concurrent": 2,
        "max_queued": 7,
        "weight": 3,
        "allowed_models": None,
        "allowed_formats": None,
        "retention_days": None,
        "start_within_s": None,
        "warn_percents": [80, 100],
    }


def test_tenants_are_listed_for_people(shell: Shell) -> None:
    shell.run("tenant", "create", "a longer name", "--rpm", "5")
    shell.run("tenant", "create", "acme")
    heading, *rows = shell.run("tenant", "list").stdout.splitlines()
    assert heading.split() == ["ID", "NAME", "STATUS", "RPM", "CONCURRENT", "QUEUED", "WEIGHT", "CREATED"]
    assert {row[heading.index("NAME") : heading.index("STATUS")].strip() for row in rows} == {
        "a longer name",
        "acme",
    }
    assert all(row == row.rstrip() for row in rows)
    assert {row[heading.index("RPM") : heading.index("CONCURRENT")].strip() for row in rows} == {"5", ""}


def test_tenants_are_listed_for_programs(shell: Shell) -> None:
    made = [shell.json("tenant", "create", name) for name in ("a", "b")]
    assert sorted(shell.json("tenant", "list"), key=lambda tenant: tenant["name"]) == made
    assert made[0]["rpm"] is made[0]["max_queued"] is None


def test_no_tenants_are_an_empty_list(shell: Shell) -> None:
    assert shell.json("tenant", "list") == []
    assert len(shell.run("tenant", "list").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["tenant", "create", "acme"], "There is a tenant named 'acme' already"),
        (["tenant", "create", "  "], "name: must have 1 to 100 printable characters"),
        (["key", "create", "--tenant", "ten_nobody"], "There is no tenant 'ten_nobody'"),
        (["key", "revoke", "nobody"], "There is no key 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_told_and_ends_with_1(shell: Shell, words: list[str], complaint: str) -> None:
    shell.run("tenant", "create", "acme")
    result = shell.run(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {complaint}")
    assert result.stdout == ""


def test_a_key_is_shown_alone_so_that_it_can_be_piped(shell: Shell) -> None:
    tenant_id = shell.json("tenant", "create", "acme")["id"]
    result = shell.run("key", "create", "--tenant", tenant_id)
    presented = keys.parse(result.stdout.removesuffix("\n"))
    assert presented is not None
    assert presented.public_id in result.stderr
    assert "shown only now" in result.stderr


def test_a_key_is_created_for_programs(shell: Shell) -> None:
    tenant_id = shell.json("tenant", "create", "acme")["id"]
    made = shell.json("key", "create", "--tenant", tenant_id, "--name", "laptop", "--rpm", "9")
    presented = keys.parse(made.pop("key"))
    assert presented is not None
    assert MOMENT.fullmatch(made.pop("created_at"))
    assert made.pop("created_by").startswith("cli:")
    assert made == {
        "id": presented.public_id,
        "tenant_id": tenant_id,
        "name": "laptop",
        "mode": "live",
        "state": "active",
        "owner": "",
        "tags": [],
        "scopes": ["generate", "read"],
        "allowed_models": None,
        "rpm": 9,
        "max_queued": None,
        "expires_at": None,
        "disabled_at": None,
        "revoked_at": None,
        "rotated_at": None,
        "last_used_at": None,
    }


def test_keys_are_listed_of_all_or_of_one_tenant_and_never_in_full(shell: Shell) -> None:
    first, second = [shell.json("tenant", "create", name)["id"] for name in ("a", "b")]
    made = [shell.json("key", "create", "--tenant", tenant_id) for tenant_id in (first, second)]
    assert {key["id"] for key in shell.json("key", "list")} == {key["id"] for key in made}
    assert [key["id"] for key in shell.json("key", "list", "--tenant", second)] == [made[1]["id"]]
    listed = shell.run("key", "list").stdout + shell.run("key", "list", "--json").stdout
    for key in made:
        assert key["id"] in listed
        assert key["key"][21:53] not in listed
    assert shell.run("key", "list").stdout.splitlines()[0].split() == [
        "ID",
        "TENANT",
        "NAME",
        "MODE",
        "STATE",
        "RPM",
        "CREATED",
        "EXPIRES",
        *("LAST", "USED"),
    ]


def test_a_test_key_is_told_from_a_live_one_wherever_it_is_shown(shell: Shell) -> None:
    tenant_id = shell.json("tenant", "create", "acme")["id"]
    live = shell.json("key", "create", "--tenant", tenant_id)
    test = shell.json("key", "create", "--tenant", tenant_id, "--test")
    assert (live["mode"], test["mode"]) == ("live", "test")
    assert (live["key"][:8], test["key"][:8]) == ("mg_live_", "mg_test_")
    presented = keys.parse(test["key"])
    assert presented is not None
    assert (presented.public_id, presented.mode) == (test["id"], KeyMode.TEST)
    assert [key["mode"] for key in shell.json("key", "list")] == ["live", "test"]
    rows = [line.split() for line in shell.run("key", "list").stdout.splitlines()[1:]]
    assert [(row[0], row[3]) for row in rows] == [(live["id"], "live"), (test["id"], "test")]


def test_a_key_is_revoked_once(shell: Shell) -> None:
    tenant_id = shell.json("tenant", "create", "acme")["id"]
    key_id = shell.json("key", "create", "--tenant", tenant_id)["id"]
    assert shell.run("key", "revoke", key_id).stdout == f"Revoked {key_id}.\n"
    again = shell.run("key", "revoke", key_id)
    assert (again.exit_code, again.stdout) == (0, f"{key_id} was revoked before.\n")
    (listed,) = shell.json("key", "list")
    assert MOMENT.fullmatch(listed["revoked_at"])


# The database


def test_migrating_says_what_it_did(shell: Shell) -> None:
    path = shell.data_dir / "gateway.db"
    assert shell.run("migrate").stdout == f"{path} is now at this version's schema.\n"
    assert shell.run("migrate").stdout == f"{path} needs no migration.\n"


@pytest.mark.parametrize("command", [["migrate"], ["tenant", "list"]])
def test_a_newer_database_is_refused(shell: Shell, command: list[str]) -> None:
    shell.run("migrate")
    with closing(sqlite3.connect(shell.data_dir / "gateway.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    result = shell.run(*command)
    assert result.exit_code == 2
    assert "newer gateway" in result.stderr


def test_an_unusable_data_directory_is_told(shell: Shell) -> None:
    shell.data_dir.write_text("in the way")
    result = shell.run("tenant", "list")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: The database")
    assert len(result.stderr.splitlines()) == 1


# Serving


@pytest.mark.usefixtures("_logging_restored")
def test_serving_without_a_model_is_refused(shell: Shell) -> None:
    result = shell.run("serve", PORT="0")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: No model is configured. Set GATEWAY_PROJECT")
    assert "gateway demo" in result.stderr


@pytest.mark.usefixtures("_logging_restored")
@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_port_that_is_taken_is_told(shell: Shell, command: str, taken_port: int) -> None:
    result = shell.run(command, PORT=str(taken_port))
    assert result.exit_code == 1
    assert result.stderr == f"error: port {taken_port} is in use; choose another with PORT=…\n"
    assert not shell.data_dir.exists()


@pytest.mark.usefixtures("_logging_restored")
def test_an_address_that_is_not_ours_is_told(shell: Shell) -> None:
    result = shell.run("serve", HOST="192.0.2.1", PORT="0")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot listen on 192.0.2.1:0:")


def test_an_emulators_port_that_is_taken_is_told(shell: Shell, taken_port: int) -> None:
    result = shell.run("emulator", "--port", str(taken_port))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: cannot listen on 127.0.0.1:{taken_port}:")


@pytest.mark.usefixtures("_logging_restored")
@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_database_that_cannot_be_used_is_told(
    shell: Shell, command: str, emulator: RunningEmulator
) -> None:
    shell.data_dir.write_text("in the way")
    result = shell.run(
        command,
        PORT="0",
        GATEWAY_PROJECT="p",
        GATEWAY_VERTEX_URL=emulator.url,
        GATEWAY_GOOGLE_AUTH="anonymous",
    )
    assert result.exit_code == 2
    assert "error: The database" in result.stderr


async def _quietly(services: Services) -> None:
    """Nobody waits for an announcement."""


class Serving:
    """`serve` in this process, on a free port."""

    def __init__(self, settings: Settings, announce: Any = _quietly) -> None:
        self._up = asyncio.Event()
        self._announce = announce
        self._listener = bind(settings.model_copy(update={"port": 0}))
        self.port = self._listener.getsockname()[1]
        self.settings = settings.model_copy(update={"port": self.port})
        self.services: Services | None = None

    async def _ready(self, services: Services) -> None:
        self.services = services
        await self._announce(services)
        self._up.set()

    async def run(self) -> None:
        with self._listener:
            await serve(self.settings, self._listener, self._ready)

    async def start(self) -> "asyncio.Task[None]":
        running = asyncio.create_task(self.run())
        await asyncio.wait_for(self._up.wait(), 30)
        return running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serving_ends_in_order_on_a_signal(settings: Settings, number: signal.Signals) -> None:
    serving = Serving(settings)
    running = await serving.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{serving.port}", trust_env=False) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/openapi.yaml")).status_code == 200
        await asyncio.sleep(0.6)
        assert "gateway_event_loop_lag_seconds_count 1.0" in (await client.get("/metrics")).text
        signal.raise_signal(number)
        await asyncio.wait_for(running, 30)
    with pytest.raises(Unavailable):
        await serving.services.check_database()


async def test_a_second_signal_ends_what_a_client_holds_up(settings: Settings) -> None:
    serving = Serving(settings.model_copy(update={"grace_s": 30.0}))
    running = await serving.start()
    _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    writer.write(b"POST /api/music_generate HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.1)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0.1)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(running, 20)
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_a_failed_announcement_ends_everything(settings: Settings) -> None:
    async def fail(services: Services) -> None:
        raise StorageError("no room for the key")

    serving = Serving(settings, fail)
    with pytest.raises(StorageError):
        await serving.run()
    with pytest.raises(Unavailable):
        await serving.services.check_database()


async def test_serving_without_a_model_is_a_matter_of_configuration(tmp_path: Path) -> None:
    serving = Serving(Settings(data_dir=tmp_path, HOST="127.0.0.1"))
    with pytest.raises(ConfigurationError, match="No model"):
        await serving.run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_served_process_ends_with_0_and_says_so(
    tmp_path: Path, emulator: RunningEmulator, number: signal.Signals
) -> None:
    with start_gateway(tmp_path, emulator.url, GATEWAY_LOG_FORMAT="json") as gateway:
        assert gateway.stop(number) == 0
    lines = [json.loads(line) for line in gateway.log().splitlines()]
    assert lines[0]["message"].endswith("is up")
    assert lines[0]["models"] == ["musicgen", "lyria-002"]
    assert lines[-1]["message"] == "gateway has stopped"
    assert {line["severity"] for line in lines} <= {"INFO", "WARNING"}


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("gateway ")
