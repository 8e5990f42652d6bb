"""What the repository promises about itself: pinned, portable, licensed, in its place."""

import hashlib
import random
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.accounts import keys
from gateway.model import KeyMode

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-build.txt", "requirements-cloudsql.txt")
TOOL_LOCKS = ("tests/bench/requirements-litellm.txt", "tests/requirements-checkov.txt")

TOP_LEVEL = {
    # The project itself.
    *("pyproject.toml", "gateway", "tests", "deploy", "Dockerfile", "openapi.yaml"),
    # What people read first.
    *("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    # What tools read.
    *("Makefile", *LOCKS, ".ci", ".github", ".dockerignore", ".editorconfig", ".gitignore", ".gitattributes"),
}

# The text of the Apache License 2.0, blank space apart.
APACHE_2_SHA256 = "0ffddef9e48f8a09aed5caf2d44f7ba1c1be2d9b8e0a6f693b1635b2d5566645"


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Every file that git knows and that is there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


# Requirement files


@pytest.mark.parametrize("name", [*LOCKS, *TOOL_LOCKS])
def test_lock_names_no_address(name: str) -> None:
    assert "://" not in (ROOT / name).read_text()


@pytest.mark.parametrize("name", [*LOCKS, *TOOL_LOCKS])
def test_every_locked_package_has_hashes(name: str) -> None:
    entries = locked_entries(name)
    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize(
    ("lock", "declared_in"),
    [
        ("requirements.txt", ("dependencies",)),
        ("requirements-dev.txt", ("dependencies", "dev")),
        ("requirements-build.txt", ("build",)),
        ("requirements-cloudsql.txt", ("dependencies", "cloudsql")),
    ],
)
def test_lock_agrees_with_what_is_declared(lock: str, declared_in: tuple[str, ...]) -> None:
    pinned = pins(lock)
    for group in declared_in:
        for name, least in declared(group).items():
            assert name in pinned, f"{name} is not in {lock}: make lock"
            assert as_numbers(pinned[name]) >= as_numbers(least), f"{name} is older than declared: make lock"


@pytest.mark.parametrize("other", ["requirements.txt", "requirements-build.txt", "requirements-cloudsql.txt"])
def test_what_is_tested_is_what_ships(other: str) -> None:
    tested = pins("requirements-dev.txt")
    different = {n: (v, tested[n]) for n, v in pins(other).items() if n in tested and tested[n] != v}
    assert different == {}


def test_everything_that_ships_is_tested() -> None:
    assert set(pins("requirements.txt")) <= set(pins("requirements-dev.txt"))


def test_build_backend_is_locked() -> None:
    required = project()["build-system"]["requires"]
    assert {package_name(item) for item in required} <= set(pins("requirements-build.txt"))


def test_every_dependency_says_why_it_is_there() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|dev|build) = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert len(lists) == 3
    for lines in (found.splitlines() for found in lists):
        for before, line in zip(["", *lines], lines, strict=False):
            is_comment = line.lstrip().startswith("#")
            assert is_comment or "  # " in line or before.lstrip().startswith("#"), line.strip()


# The tree


def test_top_level_holds_what_belongs_there(tracked: list[str]) -> None:
    assert {name.split("/")[0] for name in tracked} <= TOP_LEVEL


@pytest.mark.parametrize("path", ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/"])
def test_no_file_names_a_place_on_one_machine(tracked: list[str], path: str) -> None:
    pattern = re.compile(rf"(?<![\w.$}}])({re.escape(path)}\w)".encode())
    assert [name for name in tracked if pattern.search((ROOT / name).read_bytes())] == []


def test_no_lock_that_carries_addresses_is_tracked(tracked: list[str]) -> None:
    assert [name for name in tracked if Path(name).name in {"uv.lock", "pylock.toml", "poetry.lock"}] == []


def test_no_tracked_file_is_ignored() -> None:
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert listed.stdout == ""


def test_licence_is_apache_2() -> None:
    words = " ".join((ROOT / "LICENSE").read_text().split())
    assert hashlib.sha256(words.encode()).hexdigest() == APACHE_2_SHA256
    assert project()["project"]["license"] == "Apache-2.0"


# What runs it


def test_ci_script_is_executable_and_runs_the_check() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 == 0o111
    assert "make --no-print-directory check" in script.read_text()


def test_workflow_trusts_nobody_and_tests_the_oldest_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    oldest = project()["project"]["requires-python"].removeprefix(">=")
    assert workflow["permissions"] == {}
    assert job["permissions"] == {"contents": "read"}
    assert job["strategy"]["matrix"]["python"][0] == oldest
    assert [step for step in job["steps"] if "uses" in step] == []


def test_every_documented_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    readable = [*ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md"), *(ROOT / "gateway").rglob("*.md")]
    mentioned = {
        (path.name, target)
        for path in readable
        for target in re.findall(r"(?:`|^\s*)make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert mentioned
    assert {pair for pair in mentioned if pair[1] not in targets} == set()


@pytest.mark.parametrize("mode", list(KeyMode))
def test_key_format_for_secret_scanners_is_the_real_one(mode: KeyMode) -> None:
    documented = re.search(r"^mg_.*$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    assert documented is not None
    assert documented[0] == keys.PATTERN
    key = keys.mint(lambda alphabet: alphabet[-1], mode).text
    assert re.fullmatch(documented[0], key)
    assert not re.fullmatch(documented[0], key[:-1])


@pytest.mark.parametrize("mode", list(KeyMode))
def test_the_checksum_for_secret_scanners_is_the_real_one(mode: KeyMode) -> None:
    """The lines in SECURITY.md are run as they stand there (peers.md, K11)."""
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "SECURITY.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)
    for seed in range(100):
        key = keys.mint(random.Random(seed).choice, mode).text
        assert names["is_key"](key)
        assert not names["is_key"](f"{key[:20]}{'a' if key[20] != 'a' else 'b'}{key[21:]}")


# Help


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def declared(group: str) -> dict[str, str]:
    """Package to least version, of one list in pyproject.toml."""
    metadata = project()
    lists = {
        "dependencies": metadata["project"]["dependencies"],
        "cloudsql": metadata["project"]["optional-dependencies"]["cloudsql"],
        "dev": metadata["project"]["optional-dependencies"]["dev"],
        "build": metadata["dependency-groups"]["build"],
    }
    return {package_name(item): item.split(";")[0].partition(">=")[2].strip() for item in lists[group]}


def package_name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def locked_entries(name: str) -> list[str]:
    """One text per package, its hashes included."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def pins(name: str) -> dict[str, str]:
    """Package to version. Where versions differ by platform, all of them, joined."""
    found: dict[str, list[str]] = {}
    for entry in locked_entries(name):
        package, _, version = entry.split()[0].partition("==")
        found.setdefault(package_name(package), []).append(version)
    return {package: " ".join(versions) for package, versions in found.items()}


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split(maxsplit=1)[0])[:3])
