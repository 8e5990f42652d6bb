"""The container image, built and run for real: small, unprivileged, ready to start and complete."""

import json
import os
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.image import UID, Image, UnavailableError, built_image, why_unavailable
from tests.running import free_port

ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 1_000_000
LIMIT_BYTES = 250 * MEGABYTE
START_TIMEOUT_S = 60.0

pytestmark = [pytest.mark.xdist_group("image"), pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class Running:
    """`inner` runs as the image's user inside `outer`, which set up its surroundings."""

    outer: "subprocess.Popen[bytes]"
    inner: psutil.Process


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that runs in the image."""

    url: str
    process: psutil.Process
    data: Path
    env: dict[str, str]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if reason := why_unavailable():
        pytest.skip(reason)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"  # noqa: TID251 - the machine's, not ours
    with built_image(ROOT, Path(home) / "gateway-image-tests") as built:
        yield built


@pytest.fixture(scope="module")
def served(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The image as shipped, against the emulator inside the same image."""
    data = writable_by_image(tmp_path_factory.mktemp("data"))
    emulator_port, port = free_port(), free_port()
    env = emulated_env(port, emulator_port)
    emulator = image.command("gateway", "emulator", "--port", str(emulator_port), data=data, env={})
    with (
        running(emulator, f"http://127.0.0.1:{emulator_port}/"),
        running(image.command(data=data, env=env), f"http://127.0.0.1:{port}/livez") as process,
    ):
        yield Served(f"http://127.0.0.1:{port}", process.inner, data, env)


# What is in it


def test_runs_the_server_as_an_unprivileged_user(image: Image) -> None:
    assert image.config["Entrypoint"] == ["gateway"]
    assert image.config["Cmd"] == ["serve"]
    assert image.config["User"] == f"{UID}:{UID}"
    assert image.config["StopSignal"] == "SIGTERM"
    assert list(image.config["ExposedPorts"]) == ["8080/tcp"]
    assert list(image.config["Volumes"]) == ["/data"]


def test_listens_on_every_address_and_never_forbids_bytecode(image: Image) -> None:
    env = dict(item.split("=", 1) for item in image.config["Env"])
    assert env["HOST"] == "0.0.0.0"
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["GATEWAY_DATA_DIR"] == image.config["WorkingDir"] == "/data"
    assert "PYTHONDONTWRITEBYTECODE" not in env


@pytest.mark.parametrize("name", ["pip", "pip3", "uv", "gcc", "cc", "make", "hatchling", "git"])
def test_carries_nothing_that_installs_or_compiles(image: Image, name: str) -> None:
    folders = ["opt/gateway/bin", "opt/build/bin", "usr/local/bin", "usr/bin", "bin", "usr/local/sbin"]
    assert [folder for folder in folders if (image.root / folder / name).exists()] == []


def test_has_no_installable_pip_for_any_interpreter(image: Image) -> None:
    found = [path for folder in ("opt", "usr/local") for path in (image.root / folder).rglob("pip")]
    assert found == []


def test_has_bytecode_for_every_module_that_no_time_stamp_can_invalidate(image: Image) -> None:
    library = image.root / "opt/gateway/lib/python3.11/site-packages"
    sources = [path for path in library.rglob("*.py") if path.parts[-2] != "__pycache__"]
    assert library / "gateway/__init__.py" in sources

    def flags(source: Path) -> int | None:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
        return struct.unpack("<I", compiled.read_bytes()[4:8])[0] if compiled.exists() else None

    unchecked_hash = 0b01  # PEP 552: hash-based, and not to be compared with the source
    assert [str(path) for path in sources if flags(path) != unchecked_hash] == []


def test_lets_its_user_write_nowhere_but_to_data_and_scratch(image: Image) -> None:
    scratch = {"/data", "/tmp", "/var/tmp", "/run/lock", "/var/lock", "/dev/shm"}
    writable = set()
    for folder, folders, files in os.walk(image.root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            status = path.lstat()
            own = UID in (status.st_uid, status.st_gid)
            if not stat.S_ISLNK(status.st_mode) and (own or status.st_mode & stat.S_IWOTH):
                writable.add("/" + str(path.relative_to(image.root)))
    assert {path for path in writable if not path.startswith("/dev/")} <= scratch


def test_stays_small(image: Image, record_property: Callable[[str, object], None]) -> None:
    added_bytes = image.size_bytes - image.base_size_bytes
    record_property("image_bytes_over_base", added_bytes)
    assert 0 < added_bytes < LIMIT_BYTES, f"{added_bytes / MEGABYTE:.0f} MB over the base"


def test_carries_openapi_and_licence(image: Image) -> None:
    library = image.root / "opt/gateway/lib/python3.11/site-packages"
    assert (library / "gateway/web/openapi.yaml").read_bytes() == (ROOT / "openapi.yaml").read_bytes()
    licences = [path.read_text() for path in library.glob("gateway-*.dist-info/licenses/LICENSE")]
    assert licences == [(ROOT / "LICENSE").read_text()]


# How it runs


def test_is_alive_and_ready(served: Served) -> None:
    assert httpx.get(f"{served.url}/livez").status_code == 200
    assert httpx.get(f"{served.url}/readyz").status_code == 200


def test_runs_without_root(served: Served) -> None:
    assert set(served.process.uids()) == {UID}
    assert set(served.process.gids()) == {UID}


def test_refuses_a_wrong_key(served: Served) -> None:
    answer = httpx.post(
        f"{served.url}/api/music_generate", json={"prompt": "rain"}, headers={"X-Api-Key": "x"}
    )
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_turns_a_prompt_into_music(image: Image, served: Served) -> None:
    tenant = told(image, served, "tenant", "create", "image-test", "--json")["id"]
    key = told(image, served, "key", "create", "--tenant", tenant, "--json")["key"]
    answer = httpx.post(
        f"{served.url}/api/music_generate_lyria",
        json={"prompt": "slow piano in the rain", "seed": 7},
        headers={"X-Api-Key": key},
        timeout=START_TIMEOUT_S,
    )
    assert answer.status_code == 200, answer.text
    audio = httpx.get(answer.json()["audio_url"], timeout=START_TIMEOUT_S).content
    assert audio[:4] + audio[8:12] == b"RIFFWAVE"


def test_health_check_tells_running_from_stopped(image: Image, served: Served) -> None:
    kind, *command = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    for port, healthy in ((served.env["PORT"], True), (str(free_port()), False)):
        check = image.command(*command, data=served.data, env={"PORT": port})
        done = subprocess.run(check, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        assert (done.returncode == 0) is healthy


def test_stops_cleanly_on_sigterm(image: Image, tmp_path: Path) -> None:
    port = free_port()
    command = image.command(data=writable_by_image(tmp_path), env=emulated_env(port, free_port()))
    with running(command, f"http://127.0.0.1:{port}/livez") as process:
        process.inner.terminate()
        assert process.outer.wait(START_TIMEOUT_S) == 0
        assert not process.inner.is_running()


def test_runs_on_a_read_only_root_file_system(image: Image, tmp_path: Path) -> None:
    port = free_port()
    command = image.read_only_command(writable_by_image(tmp_path), emulated_env(port, free_port()))
    with running(command, f"http://127.0.0.1:{port}/livez") as process:
        assert set(process.inner.uids()) == {UID}
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        assert any(tmp_path.iterdir())


def test_says_what_is_missing_where_images_cannot_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"buildah.*make setup-dev"), built_image(ROOT, tmp_path):
        pytest.fail("an image was built without a builder")


# Help


def emulated_env(port: int, emulator_port: int) -> dict[str, str]:
    return {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "GATEWAY_PROJECT": "image-test",
        "GATEWAY_GOOGLE_AUTH": "anonymous",
        "GATEWAY_VERTEX_URL": f"http://127.0.0.1:{emulator_port}",
        "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }


def told(image: Image, served: Served, *arguments: str) -> dict[str, str]:
    """What the command line inside the image answers, on the data of the running server."""
    command = image.command("gateway", *arguments, data=served.data, env=served.env)
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def writable_by_image(folder: Path) -> Path:
    """`folder`, owned by the image's user."""
    os.chown(folder, UID, UID)
    return folder


@contextmanager
def running(command: list[str], probe_url: str) -> Iterator[Running]:
    """`command`, once `probe_url` answers; ended with everything around it."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr) as outer:
        try:
            wait_for(probe_url, outer)
            yield Running(outer, inner_process(outer))
        finally:
            end(outer)


def inner_process(outer: "subprocess.Popen[bytes]") -> psutil.Process:
    outermost = psutil.Process(outer.pid)
    family = [outermost, *outermost.children(recursive=True)]
    # The builder's own helper has that user too, once it waits for the server: the server has no children.
    return next(p for p in family if p.uids().real == UID and not p.children())


def end(outer: "subprocess.Popen[bytes]") -> None:
    if outer.poll() is not None:
        return
    with suppress(StopIteration, psutil.NoSuchProcess):
        inner_process(outer).terminate()
    try:
        outer.wait(START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        for process in psutil.Process(outer.pid).children(recursive=True):
            process.kill()
        outer.kill()
        raise


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Return when `url` answers anything at all."""
    with httpx.Client(timeout=5.0) as client:
        for _ in range(int(START_TIMEOUT_S * 10)):
            assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
            try:
                client.get(url)
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return
    pytest.fail(f"{url} did not answer within {START_TIMEOUT_S:.0f} s")
