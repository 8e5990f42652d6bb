"""Environments that the benchmark makes for itself, from hash-locked requirements, under ``.bench``."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".bench"
_WITHIN_S = 600.0


def make(name: str, requirements: Path) -> Path:
    """The environment's ``bin``; nothing is done when it holds what the file says already."""
    place = HOME / name
    stamp = place / "installed"
    wanted = requirements.read_text()
    if not (stamp.is_file() and stamp.read_text() == wanted):
        print(f"Installing {requirements.relative_to(ROOT)} into {place.relative_to(ROOT)} ...", flush=True)
        uv = [sys.executable, "-m", "uv"]
        _run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)])
        install = ["pip", "install", "--quiet", "--compile-bytecode", "--require-hashes"]
        _run([*uv, *install, "--python", str(place / "bin" / "python"), "-r", str(requirements)])
        stamp.write_text(wanted)
    return place / "bin"


def shipped() -> Path:
    """A Python with what the gateway ships with, and none of what its tests bring along."""
    return make("shipped", ROOT / "requirements.txt") / "python"


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=_WITHIN_S)
