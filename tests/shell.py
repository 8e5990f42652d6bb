"""The command line as its two kinds of users have it: programs with pipes, people at a terminal."""

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from gateway.cli.main import main

#: How every question ends.
QUESTION = " [y/N]: "
CTRL_C = "\x03"

_PATIENCE_S = 60
# A terminal sends Ctrl-C to whoever it belongs to, and it belongs to nobody until it is taken.
_TAKE_TERMINAL_AND_RUN = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from gateway.cli.main import main
main(prog_name="gateway")
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a terminal showed, and how the command ended."""

    exit_code: int
    text: str


class Shell:
    """The command line on a data directory of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    @property
    def database(self) -> Path:
        return self.data_dir / "gateway.db"

    def run(self, *words: str, answer: str | None = None, **environment: str) -> Result:
        """In this process, with pipes; ``answer`` is what stdin has."""
        result = CliRunner().invoke(
            main,
            list(words),
            env={"GATEWAY_DATA_DIR": str(self.data_dir), **environment},
            input=answer,
            prog_name="gateway",
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def done(self, *words: str, **environment: str) -> str:
        """What a command that must work prints."""
        result = self.run(*words, **environment)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def json(self, *words: str) -> Any:
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def at_terminal(self, *words: str, answer: str = "", **environment: str) -> Shown:
        """In a process whose stdin, stdout and stderr are one terminal; a question gets the answer typed."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL_AND_RUN, *words],
            env={**_inherited(), "GATEWAY_DATA_DIR": str(self.data_dir), **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            text = _converse(ours, answer)
        finally:
            os.close(ours)
            exit_code = process.wait(_PATIENCE_S)
        return Shown(exit_code, text)


class TenantShell(Shell):
    """The command line on a database with one tenant, acme."""

    def __init__(self, data_dir: Path, *terms: str) -> None:
        super().__init__(data_dir)
        self.tenant: str = self.json("tenant", "create", "acme", *terms)["id"]

    def key(self, *terms: str) -> str:
        """The id of a new key."""
        return str(self.json("key", "create", "--tenant", self.tenant, *terms)["id"])


def _inherited() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - handed on, not read
        if not name.startswith("GATEWAY_") and name != "NO_COLOR"
    }


def _converse(terminal: int, answer: str) -> str:
    """All that is shown until nobody has the other end open any more."""
    shown = b""
    asked = False
    while block := _read(terminal):
        shown += block
        if QUESTION.encode() in shown and not asked:
            asked = True
            os.write(terminal, answer.encode())
    return shown.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:
        # Linux says so where others say that nothing is left.
        return b""
