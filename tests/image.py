"""Builds the Dockerfile for real and runs the result, with no engine and no download of an image.

Buildah builds with chroot isolation, which works inside another container, and keeps layers as overlays, or
as whole copies (vfs) where overlays cannot be mounted. The base image is a stand-in: Debian's own Python 3.11
under the name that the Dockerfile asks for, with pip where the official image has it. So the instructions,
paths, user and start-up are proved; the official base's contents are not.

The base and the last image are kept in the user's cache directory. The image is built again when a file that
goes into it has changed.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE_NAME = "docker.io/library/python:3.11-slim"
IMAGE_NAME = "localhost/gateway"
UID = 10001

DEBIAN_PACKAGES = "python3,python3-venv,ca-certificates"
# As the official image is: pip installed beside the interpreter, no package lists, no documentation.
FINISH_BASE = """
set -e
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /usr/share/doc /usr/share/man /usr/share/locale
python3 -m venv /tmp/venv
mkdir -p /usr/local/lib/python3.11/site-packages
cp -r /tmp/venv/lib/python3.11/site-packages/pip /usr/local/lib/python3.11/site-packages/
cp /tmp/venv/bin/pip* /usr/local/bin/
rm -rf /tmp/venv
"""
# Files that the Dockerfile copies, besides the package itself.
CONTEXT_FILES = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "README.md",
    "openapi.yaml",
    "pyproject.toml",
    "requirements-build.txt",
    "requirements-cloudsql.txt",
    "requirements.txt",
)


class UnavailableError(Exception):
    """Images cannot be built on this machine; the text says what is missing."""


def why_unavailable() -> str | None:
    """What keeps this machine from building images; None when nothing does."""
    missing = [tool for tool in ("buildah", "debootstrap", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"the image tests need {', '.join(missing)}: make setup-dev installs them on Debian"
    if os.geteuid() != 0:
        return "the image tests need root, because they set up file systems of other users"
    return None


def can_overlay(directory: Path) -> bool:
    """Whether the kernel mounts overlays on the file system of `directory`. It refuses on an overlay."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        for name in ("lower", "upper", "work", "merged"):
            (Path(scratch) / name).mkdir()
        mount = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount]
        return subprocess.run(command, cwd=scratch, capture_output=True, check=False).returncode == 0


def context_digest(context: Path) -> str:
    """Changes when anything that goes into the image does."""
    sources = (path for path in (context / "gateway").rglob("*") if path.is_file() and path.suffix != ".pyc")
    digest = hashlib.sha256()
    for path in sorted([*(context / name for name in CONTEXT_FILES), *sources]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(context)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Image:
    """A built image and one container made from it, whose root file system is the directory `root`."""

    root: Path
    config: dict[str, Any]  # as `docker inspect` shows it under Config
    size_bytes: int
    base_size_bytes: int
    run: tuple[str, ...]  # the command that runs something in the container, up to its options

    def command(self, *arguments: str, data: Path, env: dict[str, str]) -> list[str]:
        """Run `arguments`, or what the image says when there are none, with `data` as /data."""
        variables = [part for name, value in env.items() for part in ("--env", f"{name}={value}")]
        chosen = arguments or (*self.config["Entrypoint"], *self.config["Cmd"])
        return [*self.run[:-1], *variables, "--volume", f"{data}:/data", self.run[-1], "--", *chosen]

    def read_only_command(self, data: Path, env: dict[str, str]) -> list[str]:
        """Run what the image says on a root file system that nobody can write, with `data` as /data."""
        image_env = dict(item.split("=", 1) for item in self.config["Env"])
        mounts = """
            mount --bind "$0" "$0" && mount --rbind /dev "$0/dev" && mount --bind "$1" "$0/data" \
                && mount -o remount,bind,ro "$0" && cd "$0" && uid=$2 && shift 2 \
                && exec chroot --groups= --userspec="$uid" . "$@"
        """
        return [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", mounts),
            *(str(self.root), str(data), self.config["User"]),
            *("/usr/bin/env", "-i", "-C", self.config["WorkingDir"]),
            *(f"{name}={value}" for name, value in (image_env | env).items()),
            *self.config["Entrypoint"],
            *self.config["Cmd"],
        ]


@contextmanager
def built_image(context: Path, cache_dir: Path) -> Iterator[Image]:
    """The image of the Dockerfile in `context`. One at a time per machine: the cache is locked meanwhile.

    Raises `UnavailableError`, or `subprocess.CalledProcessError` with the builder's output.
    """
    if reason := why_unavailable():
        raise UnavailableError(reason)
    recipe = hashlib.sha256(f"{BASE_NAME} {DEBIAN_PACKAGES} {FINISH_BASE}".encode()).hexdigest()[:16]
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        driver = "overlay" if can_overlay(cache_dir) else "vfs"
        directory = cache_dir / f"{recipe}-{driver}"
        for other in cache_dir.iterdir():
            if other.is_dir() and other != directory:
                shutil.rmtree(other, ignore_errors=True)
        store = Store(directory, driver)
        store.forget_containers()
        store.ensure_base()
        name = store.ensure_image(context)
        with store.container(name) as (container, root):
            yield Image(
                root=root,
                config=store.inspect(name)["Docker"]["config"],
                size_bytes=store.size_bytes(name),
                base_size_bytes=store.size_bytes(BASE_NAME),
                run=(*store.buildah, "run", "--isolation", "chroot", container),
            )


class Store:
    """Buildah's images and containers under one directory of ours."""

    def __init__(self, directory: Path, driver: str) -> None:
        directory.mkdir(exist_ok=True)
        # Kept layers make the next build quick, but not where each is a copy of all that is below it.
        self._keep_layers = "true" if driver == "overlay" else "false"
        self._policy = directory / "policy.json"
        self._policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.buildah = (
            *("buildah", "--storage-driver", driver),
            *("--root", str(directory / "graph"), "--runroot", str(directory / "run")),
        )

    def ensure_base(self) -> None:
        if self._has(BASE_NAME):
            return
        with self.container("scratch") as (container, root):
            _output(
                ["debootstrap", "--variant=minbase", f"--include={DEBIAN_PACKAGES}", "bookworm", str(root)]
            )
            _output(["chroot", str(root), "sh", "-c", FINISH_BASE])
            self._call("commit", "--quiet", "--signature-policy", str(self._policy), container, BASE_NAME)

    def ensure_image(self, context: Path) -> str:
        """The name of the image of `context`; the ones of earlier contexts are removed."""
        name = f"{IMAGE_NAME}:{context_digest(context)}"
        if self._has(name):
            return name
        for old in self._names():
            if old.startswith(f"{IMAGE_NAME}:"):
                self._call("rmi", "--force", old)
        self._call(
            *(
                "bud",
                "--quiet",
                f"--layers={self._keep_layers}",
                "--pull-never",
                "--isolation",
                "chroot",
                "--format",
                "docker",
            ),
            *("--signature-policy", str(self._policy)),
            # Registries may be reached through a proxy whose certificate only this machine knows.
            *("--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"),
            *("--tag", name, "--file", str(context / "Dockerfile"), str(context)),
        )
        return name

    @contextmanager
    def container(self, image: str) -> Iterator[tuple[str, Path]]:
        """A container of `image` and its root file system; removed at the end."""
        name = self._call("from", "--pull-never", image)
        try:
            yield name, Path(self._call("mount", name))
        finally:
            self._call("rm", name)

    def forget_containers(self) -> None:
        """Remove what an interrupted run left behind."""
        self._call("rm", "--all")

    def inspect(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._call("inspect", "--type", "image", image))
        return found

    def size_bytes(self, image: str) -> int:
        """The sum of the layers, uncompressed."""
        manifest = json.loads(self.inspect(image)["Manifest"])
        return sum(layer["size"] for layer in manifest["layers"])

    def _has(self, image: str) -> bool:
        return image in self._names()

    def _names(self) -> list[str]:
        images = json.loads(self._call("images", "--json") or "[]")
        return [name for image in images or [] for name in image.get("names") or []]

    def _call(self, *arguments: str) -> str:
        return _output([*self.buildah, *arguments])


def _output(command: Sequence[str]) -> str:
    """What `command` prints. Its failure carries the end of what it said, which is where the reason is."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        error = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        error.add_note(done.stdout[-4000:] + done.stderr[-4000:])
        raise error
    return done.stdout.strip()
