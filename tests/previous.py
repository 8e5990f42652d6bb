"""The version before this one, as it was: its code, kept in the repository, to be run beside today's.

`python -m tests.previous REF` keeps the code of that commit, and nothing else of it. It runs with today's
libraries: what is tried is what it says to the database.
"""

import lzma
import re
import subprocess
import sys
import tarfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_KEPT = _ROOT / "tests" / "corpus" / "previous" / "gateway.tar.xz"
_PARTS = ("gateway", "openapi.yaml", ":(exclude)*.md")


def unpack(directory: Path) -> Path:
    """The code of the version before, to be run from ``directory``."""
    with tarfile.open(_KEPT) as archive:
        archive.extractall(directory, filter="data")
    return directory


def schema_of_previous() -> str:
    """The newest revision that the version before knows."""
    with tarfile.open(_KEPT) as archive:
        member = archive.extractfile("gateway/db/tables.py")
        assert member is not None
        found = re.search(r'^SCHEMA_REVISION = "(\d{4})"$', member.read().decode(), re.MULTILINE)
    assert found is not None
    return found[1]


def keep(ref: str) -> None:
    done = subprocess.run(
        ["git", "archive", "--format=tar", ref, "--", *_PARTS], cwd=_ROOT, capture_output=True, check=True
    )
    _KEPT.write_bytes(lzma.compress(done.stdout, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    keep(*sys.argv[1:])
