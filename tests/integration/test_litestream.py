"""deploy/litestream with Litestream itself: what one instance wrote is there on the next, on a new disk."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningGateway

LITESTREAM = Path(__file__).resolve().parents[2] / "deploy" / "litestream"
PROGRAM = Path(sys.executable).with_name("litestream")


class Instance:
    """The container of deploy/litestream, without a container: its disk is `data`, its copy a directory."""

    def __init__(self, directory: Path) -> None:
        self._config = directory / "litestream.yml"
        self.copy = directory / "copy"
        data = directory / "data"
        config = (LITESTREAM / "litestream.yml").read_text()
        self._config.write_text(config.replace("/data/gateway.db", str(data / "gateway.db")))
        self.gateway = RunningGateway(
            data,
            {
                "LITESTREAM_URL": f"file://{self.copy}",
                "GATEWAY_STORAGE_URL": f"file://{directory / 'audio'}",
                "GATEWAY_PROJECT": "test-project",
                # Nothing is asked to make music here.
                "GATEWAY_VERTEX_URL": "http://127.0.0.1:1",
                "GATEWAY_GOOGLE_AUTH": "anonymous",
                "GATEWAY_GRACE_S": "5",
                "GATEWAY_LOG_FORMAT": "json",
            },
        )

    def start(self) -> None:
        """With an empty disk, as an instance of Cloud Run has."""
        shutil.rmtree(self.gateway.data_dir, ignore_errors=True)
        self.gateway.data_dir.mkdir()
        _, *arguments = entrypoint()
        serve = f"{sys.executable} -m {arguments.pop()}"
        self.gateway.run([str(PROGRAM), *arguments[:-1], "-config", str(self._config), "-exec", serve])


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path)
    yield made
    if made.gateway.process is not None:
        made.gateway.stop()


def entrypoint() -> list[str]:
    found = re.search(r"^ENTRYPOINT (.*)$", (LITESTREAM / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    program: list[str] = json.loads(found[1])
    return program


def test_what_was_written_last_is_there_on_another_instance(instance: Instance) -> None:
    instance.start()
    tenant_id = instance.gateway.create_tenant("acme")
    key = instance.gateway.create_key(tenant_id)
    assert instance.gateway.stop() == 0
    instance.start()
    (found,) = json.loads(instance.gateway.command("tenant", "list", "--json"))
    assert found["id"] == tenant_id
    (kept,) = json.loads(instance.gateway.command("key", "list", "--json"))
    assert kept["id"] == key.split("_")[2]
    assert instance.gateway.stop() == 0
    assert instance.gateway.log().count("restore completed") == 1


def test_the_gateway_ends_before_litestream_sends_what_is_left(instance: Instance) -> None:
    instance.start()
    instance.gateway.create_tenant("acme")
    assert instance.gateway.stop() == 0
    said = [line.get("msg") or line["message"] for line in instance.gateway.log_lines()]
    assert said.index("waiting for exec process to close") < said.index("litestream shut down")
    assert [line for line in instance.gateway.log_lines() if line.get("level") == "ERROR"] == []
    assert list(instance.copy.rglob("*.ltx"))


def test_the_end_of_the_gateway_is_the_end_of_the_container(tmp_path: Path) -> None:
    """So Cloud Run starts another one, rather than keep one that copies and serves nothing."""
    instance = Instance(tmp_path)
    instance.gateway.environment["GATEWAY_PROJECT"] = ""
    with pytest.raises(AssertionError, match="No model is configured"):
        instance.start()
    assert instance.gateway.process is not None
    assert instance.gateway.process.wait(30) != 0


def test_a_copy_that_was_brought_back_becomes_the_copy(instance: Instance, tmp_path: Path) -> None:
    """The commands of "Restore from a backup"."""
    instance.start()
    tenant_id = instance.gateway.create_tenant("acme")
    assert instance.gateway.stop() == 0
    restored, url = tmp_path / "gateway.db", f"file://{instance.copy}"
    subprocess.run([PROGRAM, "restore", "-o", restored, url], check=True)
    instance.gateway.environment["GATEWAY_DATABASE_URL"] = f"sqlite+aiosqlite:///{restored}"
    assert json.loads(instance.gateway.command("reconcile", "--json")) == []
    del instance.gateway.environment["GATEWAY_DATABASE_URL"]
    instance.copy.rename(tmp_path / "broken")
    subprocess.run([PROGRAM, "replicate", "-once", restored, url], check=True)
    instance.start()
    (found,) = json.loads(instance.gateway.command("tenant", "list", "--json"))
    assert found["id"] == tenant_id
